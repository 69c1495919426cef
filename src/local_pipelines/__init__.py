"""Helpers of the course: environment, token, device and models, each loaded when first used.

Importing this package is quick and never imports torch: the public names below are looked up in
their modules on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_pipelines.chains.chat import LocalChat as LocalChat
    from local_pipelines.chains.genai import GenAIPipeline as GenAIPipeline
    from local_pipelines.chains.loading import load_llm as load_llm
    from local_pipelines.chains.pipeline import LocalPipeline as LocalPipeline
    from local_pipelines.errors import LocalPipelinesError as LocalPipelinesError
    from local_pipelines.exercises.asking import check_answer as check_answer
    from local_pipelines.exercises.asking import exercise as exercise
    from local_pipelines.exercises.asking import hint as hint
    from local_pipelines.exercises.asking import my_progress as my_progress
    from local_pipelines.exercises.asking import quiz as quiz
    from local_pipelines.exercises.asking import show_solution as show_solution
    from local_pipelines.lessons.diagrams import diagram as diagram
    from local_pipelines.lessons.explaining import explain as explain
    from local_pipelines.lessons.files import answer_file as answer_file
    from local_pipelines.lessons.measuring import measure as measure
    from local_pipelines.lessons.measuring import measure_in_turn as measure_in_turn
    from local_pipelines.lessons.parameters import check_parameters as check_parameters
    from local_pipelines.lessons.plots import plot_measurements as plot_measurements
    from local_pipelines.models.catalogue import catalogue as catalogue
    from local_pipelines.models.fit import will_it_fit as will_it_fit
    from local_pipelines.models.gated import load_gated_model as load_gated_model
    from local_pipelines.models.paths import model_path as model_path
    from local_pipelines.openvino.config import check_ov_config as check_ov_config
    from local_pipelines.openvino.config import ov_config as ov_config
    from local_pipelines.openvino.export import export_openvino as export_openvino
    from local_pipelines.openvino.folder import read_export as read_export
    from local_pipelines.practice_hub import PracticeHub as PracticeHub
    from local_pipelines.scale_out.run import run_on_ray as run_on_ray
    from local_pipelines.widgets.chat_box import chat_box as chat_box
    from local_pipelines.widgets.pickers import device_picker as device_picker
    from local_pipelines.widgets.pickers import model_picker as model_picker
    from local_pipelines.workbench.credentials import find_token as find_token
    from local_pipelines.workbench.credentials import login as login
    from local_pipelines.workbench.devices import Device as Device
    from local_pipelines.workbench.devices import select_device as select_device
    from local_pipelines.workbench.environment import setup_environment as setup_environment
    from local_pipelines.workbench.packages import install_packages as install_packages
    from local_pipelines.workbench.report import Environment as Environment

__version__ = "0.1.0"

_MODULE_OF = {
    "Device": "workbench.devices",
    "Environment": "workbench.report",
    "GenAIPipeline": "chains.genai",
    "LocalChat": "chains.chat",
    "LocalPipeline": "chains.pipeline",
    "LocalPipelinesError": "errors",
    "PracticeHub": "practice_hub",
    "answer_file": "lessons.files",
    "catalogue": "models.catalogue",
    "chat_box": "widgets.chat_box",
    "check_answer": "exercises.asking",
    "check_ov_config": "openvino.config",
    "check_parameters": "lessons.parameters",
    "device_picker": "widgets.pickers",
    "diagram": "lessons.diagrams",
    "exercise": "exercises.asking",
    "explain": "lessons.explaining",
    "export_openvino": "openvino.export",
    "find_token": "workbench.credentials",
    "hint": "exercises.asking",
    "install_packages": "workbench.packages",
    "load_gated_model": "models.gated",
    "load_llm": "chains.loading",
    "login": "workbench.credentials",
    "measure": "lessons.measuring",
    "measure_in_turn": "lessons.measuring",
    "model_path": "models.paths",
    "model_picker": "widgets.pickers",
    "my_progress": "exercises.asking",
    "ov_config": "openvino.config",
    "plot_measurements": "lessons.plots",
    "quiz": "exercises.asking",
    "read_export": "openvino.folder",
    "run_on_ray": "scale_out.run",
    "select_device": "workbench.devices",
    "setup_environment": "workbench.environment",
    "show_solution": "exercises.asking",
    "will_it_fit": "models.fit",
}

__all__ = [*_MODULE_OF]  # noqa: PLE0604, RUF100 - the names are the table's keys


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        from local_pipelines.wording.grammar import nearest

        near = nearest(name, _MODULE_OF)
        advice = f". Did you mean {near!r}?" if near else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{advice}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)  # what Tab offers: no helpers of this file
