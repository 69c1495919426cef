"""OpenVINO's options: three presets, and a check that names what a device understands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from local_pipelines.errors import ParameterError, failure
from local_pipelines.openvino.signal_stack import kept_signal_stack
from local_pipelines.wording.grammar import nearest
from local_pipelines.wording.messages import tr

OV_CONFIGS = {
    # One prompt at a time, all cores on it. An empty CACHE_DIR writes no compiled model.
    "latency": {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""},
    # Several requests side by side, the cores shared out between them.
    "throughput": {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "AUTO", "CACHE_DIR": ""},
}
"""The presets that `ov_config` copies."""

_FOLDERS = ("CACHE_DIR", "WEIGHTS_PATH")  # not tried out: OpenVINO would make and read them
# Options of OpenVINO's core, which no device lists; the device still has the last word on others.
_CORE = ("CACHE_DIR", "CACHE_MODE", "ENABLE_MMAP")
_COMPOUND = ("AUTO", "MULTI", "HETERO", "BATCH")  # devices made of others


def ov_config(preset: str = "latency", **changes: object) -> dict[str, str]:
    """Give a preset as the dictionary that `ov_config=…` takes, with your changes.

    Args:
        preset: "latency" (one prompt, soonest answer) or "throughput" (many at a time).
        changes: Options by their names in OpenVINO, such as `CACHE_DIR="model_cache"`.

    Returns:
        A new dictionary of texts.

    Raises:
        ParameterError: There is no such preset.
    """
    if preset not in OV_CONFIGS:
        near = nearest(str(preset).lower(), OV_CONFIGS) or "latency"
        names = ", ".join(map(repr, OV_CONFIGS))
        raise failure("no-such-preset", preset=preset, names=names, near=near)
    return {**OV_CONFIGS[preset], **{name: str(value) for name, value in changes.items()}}


def check_ov_config(config: Mapping[str, Any], device: str = "CPU") -> None:
    """Check options before a model is loaded: the device itself is asked, with a one-step model.

    Args:
        config: What `ov_config=…` shall be given.
        device: As OpenVINO calls it: "CPU", "GPU", "GPU.1", "NPU", "AUTO".

    Raises:
        ParameterError: The device knows no such option, or not that value for it.
        DeviceError: OpenVINO sees no such device here.
        MissingPackageError: OpenVINO is not installed.
    """
    try:
        import openvino
        from openvino import opset13
    except ImportError as error:
        raise failure("no-openvino") from error
    if not isinstance(config, Mapping):
        raise ParameterError(
            tr("ov_config = {config!r} is no dictionary.").format(config=config),
            next_step=tr('Write ov_config("latency") or {"PERFORMANCE_HINT": "LATENCY"}.'),
        )
    with kept_signal_stack():
        core = openvino.Core()
        _check_device(core, device)
        known = core.get_property(device.partition(":")[0], "SUPPORTED_PROPERTIES")
        number = opset13.parameter([1], openvino.Type.f32)
        probe = openvino.Model([opset13.relu(number)], [number], "probe")  # the smallest there is
        for name, value in config.items():
            _check_option(core, probe, device, known, name, value)


def check_genai_device(device: str, ov_config: Mapping[str, Any] | None) -> None:
    """Find out before a model is loaded that OpenVINO GenAI cannot use a device or its options."""
    if device != "CPU" or ov_config is not None:  # else there is nothing to check, and time to save
        check_ov_config({} if ov_config is None else ov_config, device)
    if device.partition(".")[0] not in {"CPU", "GPU"}:
        raise failure("genai-device", device=device)


def _check_option(
    core: Any, probe: Any, device: str, known: Mapping[str, str], name: str, value: Any
) -> None:
    told = {"name": name, "device": device, "value": value}
    if known.get(name) == "RO":
        raise failure("ov-option-read-only", **told)
    # OpenVINO takes "1x" for 1 without a word.
    if name == "NUM_STREAMS" and not re.fullmatch(r"[1-9]\d*|AUTO|NUMA", str(value)):
        raise failure("ov-streams", **told)
    if name in _FOLDERS:
        return
    try:
        core.compile_model(probe, device, {name: value})
    except Exception as error:
        said = last_line(error)
        if "unsupported property" in said.lower() or not isinstance(name, str):
            near = nearest(str(name).upper(), [*known, *_CORE])
            reason = "ov-option-misspelt" if near else "ov-option-unknown"
            raise failure(reason, near=near, **told) from error
        raise failure("ov-option-value", said, **told) from error


def _check_device(core: Any, device: str) -> None:
    here = list(core.available_devices)
    usable = {*here, *(name.partition(".")[0] for name in here), *_COMPOUND}
    for part in re.split("[:,]", str(device)):
        if part.strip().removeprefix("-") not in usable:
            raise failure("no-ov-device", part=part, names=", ".join(here), here=here[0])


def exact_config(device: str, weight_format: str, ov_config: Mapping[str, Any]) -> dict[str, Any]:
    """Options with which weights that nobody has rounded are computed in 32 bits.

    Left to itself, OpenVINO computes in bfloat16 where the processor can, and an export in full
    width says that it wants 16-bit keys and values. Then answers differ from those of torch. Those
    of int8 and int4 weights do anyway: they get the speed.
    """
    config = dict(ov_config)
    chosen = {"INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT"} & config.keys()
    if device != "CPU" or weight_format in {"int8", "int4"} or chosen:
        return config
    return {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"} | config


def last_line(error: Exception) -> str:
    """What OpenVINO says behind the place in its source code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removesuffix(".") + "." if lines else type(error).__name__ + "."
