"""Helpers of the course: environment, token, device and models, each loaded when first used.

Importing this package is quick and never imports torch: the public names below are looked up in
their modules on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_pipelines.credentials import find_token as find_token
    from local_pipelines.credentials import login as login
    from local_pipelines.devices import Device as Device
    from local_pipelines.devices import select_device as select_device
    from local_pipelines.environment import Environment as Environment
    from local_pipelines.environment import install_packages as install_packages
    from local_pipelines.environment import setup_environment as setup_environment
    from local_pipelines.errors import LocalPipelinesError as LocalPipelinesError
    from local_pipelines.models import catalogue as catalogue
    from local_pipelines.models import model_path as model_path
    from local_pipelines.models import will_it_fit as will_it_fit
    from local_pipelines.parameters import check_parameters as check_parameters

__version__ = "0.1.0"

_MODULE_OF = {
    "Device": "devices",
    "Environment": "environment",
    "LocalPipelinesError": "errors",
    "catalogue": "models",
    "check_parameters": "parameters",
    "find_token": "credentials",
    "install_packages": "environment",
    "login": "credentials",
    "model_path": "models",
    "select_device": "devices",
    "setup_environment": "environment",
    "will_it_fit": "models",
}

__all__ = [  # noqa: PLE0604, RUF100 - the names are the table's keys
    *_MODULE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
