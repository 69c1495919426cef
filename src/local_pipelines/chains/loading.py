"""`load_llm`: any model with any engine, in one line, and the reason for the engine chosen."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from local_pipelines.chains.base import LocalLLM
from local_pipelines.chains.genai import GenAIPipeline
from local_pipelines.engines.options import BACKENDS, check_generation_options
from local_pipelines.errors import (
    EngineError,
    ExportError,
    MissingPackageError,
    ModelError,
    failure,
)
from local_pipelines.models import fit as fit_module
from local_pipelines.models.download import fetch_model
from local_pipelines.models.names import Model, ModelName, locate
from local_pipelines.openvino.config import check_genai_device, check_ov_config, exact_config
from local_pipelines.openvino.folder import read_export
from local_pipelines.openvino.formats import checked_format
from local_pipelines.openvino.kept import load_kept
from local_pipelines.wording.grammar import gigabytes, nearest
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import checked_size
from local_pipelines.workbench.devices import (
    Device,
    is_openvino_device,
    nvidia_driver_present,
    parse_device,
    select_device,
)
from local_pipelines.workbench.machine import ram
from local_pipelines.workbench.versions import installed_version

_PACKAGES = {"genai": "openvino-genai", "openvino": "optimum-intel"}
_CPU_NAMES = {"auto", "cpu", "-1"}


def load_llm(
    model_id: ModelName = "pocket",
    *,
    backend: str = "auto",
    device: str | int = "auto",
    max_new_tokens: int = 256,
    batch_size: int | None = None,
    weight_format: str | None = None,
) -> LocalLLM:
    """Load a model with an engine that suits this machine.

    Args:
        model_id: "pocket", an id of the Hub, a folder, a folder with an OpenVINO export, or a GGUF
            file of a Llama or Qwen model, as Ollama and LM Studio have them. Each engine computes
            with the checkpoint that is made of it: OpenVINO GenAI, which also reads such files
            itself, has other answers then.
        backend: "torch", "openvino" (optimum-intel), "genai" (OpenVINO GenAI), or "auto": torch
            on a GPU, else OpenVINO GenAI if it is installed and can run the model, else torch.
        device: What `select_device` takes; for OpenVINO also its own names, such as "GPU".
        max_new_tokens: The most tokens of an answer.
        batch_size: How many prompts to run at a time; what suits the engine if not given.
        weight_format: "fp32", "int8" or "int4" for OpenVINO, "fp32" if not given. The export is
            made when it is first needed, and kept in `HF_HOME`. torch takes 32 bits on a processor,
            so that all engines answer alike, unless only 16 fit; on a GPU what suits that.

    Returns:
        The model; its `backend` and `reason` tell what was chosen, and why.

    Raises:
        ParameterError: There is no such backend, or two parameters contradict each other.
        MissingPackageError: The backend is not installed.
        DeviceError: There is no such device.
        ModelError: There is no such model, no way to it, or it does not fit into the memory.
        CredentialError: A token is needed and there is none, or not the right one.
    """
    _check_backend(backend, weight_format)
    check_generation_options({"max_new_tokens": max_new_tokens})
    if batch_size is not None:
        checked_size(batch_size)
    wish = _Wish(locate(model_id), device, max_new_tokens, batch_size, weight_format)
    if weight_format is not None and not wish.for_torch:
        raise failure("format-of-an-export")
    if backend == "auto":
        return _load_suitable(wish)
    return _load(wish, backend, tr("It was asked for."))


@dataclass(frozen=True)
class _Wish:
    """What shall be loaded, and how it shall answer."""

    model: Model
    device: str | int
    max_new_tokens: int
    batch_size: int | None
    weight_format: str | None

    @property
    def is_export(self) -> bool:
        """Whether the model is in OpenVINO's format already, and stays as it is."""
        return "openvino" in self.model.formats and not (self.for_torch and self.weight_format)

    @property
    def for_torch(self) -> bool:
        """Whether torch can read it, too; what is still to be downloaded counts as such."""
        return "openvino" not in self.model.formats or "safetensors" in self.model.formats

    @property
    def sizes(self) -> dict[str, Any]:
        return {} if self.batch_size is None else {"batch_size": self.batch_size}


def _check_backend(backend: str, weight_format: str | None) -> None:
    if backend not in BACKENDS:
        near = nearest(str(backend).lower(), BACKENDS) or "auto"
        raise failure(
            "no-such-backend", backend=backend, names=", ".join(map(repr, BACKENDS)), near=near
        )
    if weight_format is not None:
        checked_format(weight_format)
    if backend == "torch" and weight_format not in {None, "fp32"}:
        raise failure("format-for-torch", weight_format=weight_format)


def _load_suitable(wish: _Wish) -> LocalLLM:
    """Take the first engine that can run the model, and say why not one before it."""
    if wish.for_torch and (reason := _why_torch(wish.device)):
        return _load(wish, "torch", reason)
    if installed_backend("genai") is None:
        step = 'install_packages("openvino")'
        reason = tr("OpenVINO GenAI is not installed (`{step}`).").format(step=step)
        return _load(wish, "torch" if wish.for_torch else "openvino", reason)
    reason = tr("The model runs on the processor, where OpenVINO GenAI is the quickest.")
    if not wish.for_torch:
        return _load_export(wish, reason)
    try:
        return _load(wish, "genai", reason)
    except (EngineError, ExportError, MissingPackageError) as error:
        if wish.weight_format not in {None, "fp32"}:
            raise  # torch would not do what was asked for
        return _load(wish, "torch", tr("OpenVINO cannot: {fact}").format(fact=error.fact))


def _load_export(wish: _Wish, reason: str) -> LocalLLM:
    """Load an export with GenAI, or with optimum-intel if only that can run it."""
    only_genai = installed_backend("openvino") is None
    fact = tr("The folder lacks the tokenizer that OpenVINO GenAI reads.")
    if only_genai or read_export(wish.model.place or Path()).has_tokenizer:
        try:
            return _load(wish, "genai", reason)
        except EngineError as error:
            if only_genai:
                raise
            fact = error.fact
    return _load(wish, "openvino", tr("OpenVINO GenAI cannot: {fact}").format(fact=fact))


def _why_torch(device: str | int) -> str:
    """The reason to take torch because of the device; empty if there is none."""
    if str(device).strip().lower() in {"cpu", "-1"} or is_openvino_device(device):
        return ""
    kind, _ = parse_device(device)
    # Asking torch takes seconds: only where there may be something that it can use.
    if kind == "auto" and not may_have_accelerator():
        return ""
    chosen = select_device(device)
    return chosen.reason if chosen.index >= 0 else ""


def may_have_accelerator() -> bool:
    """Whether torch is worth importing to look for a GPU."""
    rocm_or_xpu = any(mark in (installed_version("torch") or "") for mark in ("+rocm", "+xpu"))
    return nvidia_driver_present() or rocm_or_xpu or sys.platform == "darwin"


def installed_backend(backend: str) -> str | None:
    """The version of a backend's package; `None` where it is not installed."""
    return installed_version(_PACKAGES[backend])


def check_engine(backend: str, device: str | int = "auto") -> None:
    """Find out, before a model is looked for, that a backend is missing or has no such device."""
    if backend not in _PACKAGES:
        return
    if installed_backend(backend) is None:
        raise failure("backend-not-installed", backend=backend, package=_PACKAGES[backend])
    _openvino_device(device)


def _load(wish: _Wish, backend: str, reason: str) -> LocalLLM:
    check_engine(backend, wish.device)
    load = {"torch": _load_torch, "openvino": _load_openvino, "genai": _load_genai}[backend]
    llm = load(wish)
    llm.backend, llm.reason = backend, reason
    return llm


def _load_torch(wish: _Wish) -> LocalLLM:
    if not wish.for_torch:
        raise failure("export-for-torch", name=wish.model.name)
    if is_openvino_device(wish.device) and wish.device != "CPU":
        raise failure("device-of-openvino", device=wish.device)
    device = select_device(wish.device)
    dtype = _fitting_dtype(wish, device)
    from local_pipelines.chains.pipeline import LocalPipeline

    return LocalPipeline.from_model_id(
        wish.model.fetched(fetch_model(wish.model)),
        task="text-generation",
        device=device.index,
        model_kwargs={"dtype": dtype},
        pipeline_kwargs={"max_new_tokens": wish.max_new_tokens},
        **wish.sizes,
    )


def _fitting_dtype(wish: _Wish, device: Device) -> str:
    """The number format to compute in: on a processor 32 bits, as the other engines do."""
    formats = ("float32", device.dtype) if device.index < 0 else (device.dtype,)
    for dtype in dict.fromkeys(formats):
        fit = fit_module.will_it_fit(wish.model, device, dtype=dtype)
        if fit.verdict != "does not fit":
            return dtype
    raise ModelError(
        fit.reason, next_step=tr("To try all the same, use LocalPipeline.from_model_id.")
    )


def _load_openvino(wish: _Wish) -> LocalLLM:
    from local_pipelines.chains.pipeline import LocalPipeline

    device = _openvino_device(wish.device)
    check_ov_config({}, device)  # before minutes of work

    def load(folder: Path) -> LocalLLM:
        export = read_export(folder)
        config = exact_config(device, export.weight_format, {})
        llm = LocalPipeline.from_model_id(
            str(export.folder),
            task="text-generation",
            backend="openvino",
            model_kwargs={"device": device, "ov_config": config},
            pipeline_kwargs={"max_new_tokens": wish.max_new_tokens},
            **wish.sizes,
        )
        llm.model_id, llm.weight_format = wish.model.name, export.weight_format
        return llm

    return _load_exported(wish, load)


def _load_genai(wish: _Wish) -> LocalLLM:
    device = _openvino_device(wish.device)
    check_genai_device(device, None)  # before minutes of work
    load = partial(
        GenAIPipeline.from_model_dir,
        max_new_tokens=wish.max_new_tokens,
        device=device,
        model_id=wish.model.name,
        **wish.sizes,
    )
    return _load_exported(wish, load)


def _load_exported(wish: _Wish, load: Callable[[Path], LocalLLM]) -> LocalLLM:
    """Load an export: the folder itself, or the one that is kept for the model."""

    def load_what_fits(folder: Path) -> LocalLLM:
        _check_memory(wish, folder)
        return load(folder)

    if wish.is_export:
        return load_what_fits(wish.model.place or Path())
    return load_kept(wish.model, wish.weight_format or "fp32", load_what_fits)


def _check_memory(wish: _Wish, folder: Path) -> None:
    """Refuse weights larger than the memory: each token would read them from the disk again."""
    file, free = folder / "openvino_model.bin", ram()[1]
    weights = file.stat().st_size if file.is_file() else 0  # who loads it says what is missing
    if _openvino_device(wish.device) == "CPU" and weights > free:
        can_shrink = wish.for_torch and wish.weight_format != "int4"
        reason = "weights-too-large" if can_shrink else "int4-weights-too-large"
        names = {"name": wish.model.name, "size": gigabytes(weights), "free": gigabytes(free)}
        raise failure(reason, **names)


def _openvino_device(device: str | int) -> str:
    if is_openvino_device(device):
        return str(device)
    if str(device).strip().lower() in _CPU_NAMES:
        return "CPU"
    raise failure("device-of-torch", device=device)
