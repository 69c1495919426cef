"""Helpers of the course: environment, token, device and models, each loaded when first used.

Importing this package is quick and never imports torch: the public names below are looked up in
their modules on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_pipelines._plots import plot_measurements as plot_measurements
    from local_pipelines.chat import LocalChat as LocalChat
    from local_pipelines.credentials import find_token as find_token
    from local_pipelines.credentials import login as login
    from local_pipelines.devices import Device as Device
    from local_pipelines.devices import select_device as select_device
    from local_pipelines.environment import Environment as Environment
    from local_pipelines.environment import install_packages as install_packages
    from local_pipelines.environment import setup_environment as setup_environment
    from local_pipelines.errors import LocalPipelinesError as LocalPipelinesError
    from local_pipelines.explaining import explain as explain
    from local_pipelines.files import answer_file as answer_file
    from local_pipelines.gated import load_gated_model as load_gated_model
    from local_pipelines.genai import GenAIPipeline as GenAIPipeline
    from local_pipelines.llm import LocalPipeline as LocalPipeline
    from local_pipelines.loading import load_llm as load_llm
    from local_pipelines.measuring import measure as measure
    from local_pipelines.measuring import measure_in_turn as measure_in_turn
    from local_pipelines.models import catalogue as catalogue
    from local_pipelines.models import model_path as model_path
    from local_pipelines.models import will_it_fit as will_it_fit
    from local_pipelines.openvino import check_ov_config as check_ov_config
    from local_pipelines.openvino import export_openvino as export_openvino
    from local_pipelines.openvino import ov_config as ov_config
    from local_pipelines.openvino import read_export as read_export
    from local_pipelines.parameters import check_parameters as check_parameters
    from local_pipelines.practice_hub import PracticeHub as PracticeHub
    from local_pipelines.widgets import chat_box as chat_box
    from local_pipelines.widgets import device_picker as device_picker
    from local_pipelines.widgets import model_picker as model_picker

__version__ = "0.1.0"

_MODULE_OF = {
    "Device": "devices",
    "Environment": "environment",
    "GenAIPipeline": "genai",
    "LocalChat": "chat",
    "LocalPipeline": "llm",
    "LocalPipelinesError": "errors",
    "PracticeHub": "practice_hub",
    "answer_file": "files",
    "catalogue": "models",
    "chat_box": "widgets",
    "check_ov_config": "openvino",
    "check_parameters": "parameters",
    "device_picker": "widgets",
    "explain": "explaining",
    "export_openvino": "openvino",
    "find_token": "credentials",
    "install_packages": "environment",
    "load_gated_model": "gated",
    "load_llm": "loading",
    "login": "credentials",
    "measure": "measuring",
    "measure_in_turn": "measuring",
    "model_path": "models",
    "model_picker": "widgets",
    "ov_config": "openvino",
    "plot_measurements": "_plots",
    "read_export": "openvino",
    "select_device": "devices",
    "setup_environment": "environment",
    "will_it_fit": "models",
}

__all__ = [  # noqa: PLE0604, RUF100 - the names are the table's keys
    *_MODULE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        import difflib

        near = difflib.get_close_matches(name, _MODULE_OF, n=1)
        advice = f". Did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{advice}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)  # what Tab offers: no helpers of this file
