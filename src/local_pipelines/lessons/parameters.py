"""Checks the parameters of a notebook, so that a wrong one fails before the model is loaded."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

from local_pipelines.engines.options import BACKENDS
from local_pipelines.errors import ModelError, ParameterError
from local_pipelines.models.names import locate
from local_pipelines.openvino.config import check_ov_config
from local_pipelines.wording.grammar import nearest
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import is_whole
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
        raise ParameterError(
            tr(
                "DEVICE = {value!r} is a device of OpenVINO's, and here torch runs the model."
            ).format(value=device),
            next_step=tr('Write {name} = "auto".').format(name="DEVICE"),
        )
    elif parse_device(device)[0] not in {"auto", "cpu"}:  # these are everywhere
        select_device(device)


_Check = Callable[[str, object], None]


def _model_id(name: str, value: object) -> None:
    """Refuse what names no model; a name with a slash is left to whoever asks the Hub."""
    if not isinstance(value, str) or not value.strip():
        raise ParameterError(
            tr("{name} = {value} names no model.").format(name=name, value=reprlib.repr(value)),
            next_step=tr(
                'Write {name} = "pocket", a name from the Hub such as'
                ' "openai-community/gpt2", or a folder.'
            ).format(name=name),
        )
    if "/" not in value:
        try:
            locate(value)
        except ModelError as error:
            raise ParameterError(error.fact, error.cause, error.next_step) from None


def _write(name: str, number: object, value: object) -> str:
    """The next step: a number that works, and what turned the one that does not into text."""
    quotes = ""
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[\d.]+\s*", value):
        quotes = tr(" without quotes; on papermill's command line use -p, not -r")
    return tr("Write {name} = {number}{quotes}.").format(name=name, number=number, quotes=quotes)


def _count(name: str, value: object) -> None:
    if not is_whole(value, 1):
        try:
            number = max(1, round(float(str(value))))
        except (ValueError, OverflowError):  # no number, or an endless one
            number = 16
        raise ParameterError(
            tr("{name} = {value} cannot work: it is a whole number from 1 upward.").format(
                name=name, value=reprlib.repr(value)
            ),
            next_step=_write(name, number, value),
        )


def _number(low: float, high: float, example: str) -> _Check:
    def check(name: str, value: object) -> None:
        number = value if isinstance(value, int | float) else math.nan
        if isinstance(value, bool) or not low <= number <= high or number == math.inf:
            form = (
                tr("{name} = {value} cannot work: it is a number from {low:g} upward.")
                if math.isinf(high)
                else tr("{name} = {value} cannot work: it is a number from {low:g} to {high:g}.")
            )
            raise ParameterError(
                form.format(name=name, value=reprlib.repr(value), low=low, high=high),
                next_step=_write(name, example, value),
            )

    return check


def _seed(name: str, value: object) -> None:
    if not is_whole(value, 0):
        raise ParameterError(
            tr("{name} = {value} cannot work: it is a whole number from 0 upward.").format(
                name=name, value=reprlib.repr(value)
            ),
            next_step=_write(name, 0, value),
        )


def _choice(*words: str) -> _Check:
    def check(name: str, value: object) -> None:
        if value not in words:
            near = nearest(str(value).lower(), words) or words[0]
            raise ParameterError(
                tr("{name} = {value} is not one of {names}.").format(
                    name=name, value=reprlib.repr(value), names=", ".join(map(repr, words))
                ),
                next_step=tr('Write {name} = "{near}".').format(name=name, near=near),
            )

    return check


def _device(name: str, value: object) -> None:
    if is_openvino_device(value):
        return
    if isinstance(value, str):
        if re.fullmatch(r"auto|cpu|(cuda|xpu|mps)(:\d{1,4})?", value.strip().lower()):
            return
    elif is_whole(value, -1):
        return
    number = value if isinstance(value, str) and re.fullmatch(r"-1|\d{1,4}", value) else None
    raise ParameterError(
        tr("{name} = {value} is no device.").format(name=name, value=reprlib.repr(value)),
        tr(
            'It is "auto", "cpu", "cuda", "cuda:1", "xpu", "mps", or a number: -1 the CPU, 0 the'
            " first GPU."
        ),
        _write(name, number, number) if number else tr('Write {name} = "auto".').format(name=name),
    )


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
    raise ParameterError(
        tr("{name} is no parameter of the notebooks.").format(name=name),
        tr("Known are {names}, and numbers such as N_RUNS or GROUP_SIZE.").format(
            names=", ".join(_CHECKS)
        ),
        tr("Write {near}.").format(near=near) if near else tr("Take it away."),
    )
