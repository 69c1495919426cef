"""Checks the parameters of a notebook, so that a wrong one fails before the model is loaded."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any, NoReturn

from local_pipelines.engines.options import BACKENDS
from local_pipelines.errors import ModelError, ParameterError, failure
from local_pipelines.models.names import locate
from local_pipelines.openvino.config import check_ov_config
from local_pipelines.wording.grammar import nearest
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import is_finite, is_whole
from local_pipelines.workbench.devices import is_openvino_device, parse_device, select_device


def check_parameters(**values: object) -> None:
    """Check the parameters of a notebook, each by its name.

    papermill passes on whatever it is given, and a library may accept a wrong value and fail
    minutes later. A GPU of torch's is looked for last, as that takes two seconds.

    Args:
        values: The parameters under the names that they have in the notebook, such as
            `MODEL_ID=MODEL_ID, MAX_NEW_TOKENS=MAX_NEW_TOKENS`.

    Raises:
        ParameterError: If a value cannot work, or a name is unknown.
        MissingPackageError: If `BACKEND` is not installed.
        DeviceError: If `DEVICE` is not in this machine, or `BACKEND` cannot use it.
    """
    for name, value in values.items():
        _check_for(name)(name, value)
    device: Any = values.get("DEVICE", "auto")  # _device has checked it
    _check_place(str(values.get("BACKEND", "torch")), device)


def _check_place(backend: str, device: str | int) -> None:
    """Find out that the machine lacks the backend or the device, or the backend the device."""
    from local_pipelines.chains.loading import check_engine

    openvinos = is_openvino_device(device) and device != "CPU"  # which everybody has
    if backend == "auto" and is_openvino_device(device):
        backend = "genai"
    check_engine(backend, device)
    if backend in {"openvino", "genai"}:
        if openvinos:
            check_ov_config({}, str(device))
    elif openvinos:
        raise failure("parameter-openvino-device", name="DEVICE", value=device)
    elif parse_device(device)[0] not in {"auto", "cpu"}:  # these are everywhere
        select_device(device)


_Check = Callable[[str, object], None]


def _model_id(name: str, value: object) -> None:
    """Refuse what names no model; a name with a slash is left to whoever asks the Hub."""
    if not isinstance(value, str) or not value.strip():
        _refuse("parameter-no-model", name, value)
    if "/" not in value:
        try:
            locate(value)
        except ModelError as error:
            raise ParameterError(error.fact, error.cause, error.next_step) from None


def _refuse(reason: str, name: str, value: object, **words: Any) -> NoReturn:
    """Raise the error of a table, which may say what turned a number into text."""
    quotes = ""
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[\d.]+\s*", value):
        quotes = tr(" without quotes; on papermill's command line use -p, not -r")
    raise failure(reason, name=name, value=reprlib.repr(value), quotes=quotes, **words)


def _count(name: str, value: object) -> None:
    if not is_whole(value, 1):
        try:
            number = max(1, round(float(str(value))))
        except (ValueError, OverflowError):  # no number, or an endless one
            number = 16
        _refuse("parameter-no-count", name, value, number=number)


def _seed(name: str, value: object) -> None:
    if not is_whole(value, 0):
        _refuse("parameter-no-seed", name, value, number=0)


def _number(low: float, high: float, example: str) -> _Check:
    reason = "parameter-too-low" if math.isinf(high) else "parameter-not-within"

    def check(name: str, value: Any) -> None:
        if not is_finite(value) or not low <= value <= high:
            _refuse(reason, name, value, number=example, low=low, high=high)

    return check


def _choice(*words: str) -> _Check:
    def check(name: str, value: object) -> None:
        if value not in words:
            near = nearest(str(value).lower(), words) or words[0]
            names = ", ".join(map(repr, words))
            _refuse("parameter-no-choice", name, value, names=names, near=near)

    return check


def _device(name: str, value: object) -> None:
    if is_openvino_device(value) or is_whole(value, -1):
        return
    name_of = r"auto|cpu|(cuda|xpu|mps)(:\d{1,4})?"
    if isinstance(value, str) and re.fullmatch(name_of, value.strip().lower()):
        return
    is_number = isinstance(value, str) and re.fullmatch(r"-1|\d{1,4}", value)
    reason = "parameter-device-number" if is_number else "parameter-no-device"
    _refuse(reason, name, value, number=value)


_CHECKS: dict[str, _Check] = {
    "MODEL_ID": _model_id,
    "DEVICE": _device,
    "MAX_NEW_TOKENS": _count,
    "BATCH_SIZE": _count,
    "N_PROMPTS": _count,
    "TEMPERATURE": _number(0, math.inf, "0.7"),
    "TOP_P": _number(0, 1, "0.9"),
    "TOP_K": _count,
    "REPETITION_PENALTY": _number(1, math.inf, "1.1"),
    "SEED": _seed,
    "BACKEND": _choice(*BACKENDS),
    "WEIGHT_FORMAT": _choice("fp32", "int8", "int4"),
}
# Whole numbers by the form of their name, so that a lesson may have its own: PLOT_TOKENS, N_RUNS.
_COUNT_NAME = re.compile(r"N_\w+|(\w+_)?(TOKENS|SIZE|PROMPTS|ROWS|RUNS|STEPS|WORKERS|STREAMS)")


def _check_for(name: str) -> _Check:
    if name in _CHECKS:
        return _CHECKS[name]
    if _COUNT_NAME.fullmatch(name):
        return _count
    near = nearest(name.upper(), _CHECKS)
    reason = "misspelt-parameter" if near else "unknown-parameter"
    raise failure(reason, name=name, names=", ".join(_CHECKS), near=near)
