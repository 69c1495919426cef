"""The conversion: the calls of optimum-intel, in silence, and what they raise as a sentence."""

from __future__ import annotations

import gc
import logging
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from local_pipelines.errors import LocalPipelinesError, failure
from local_pipelines.openvino.job import ExportJob
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.machine import is_disk_full
from local_pipelines.workbench.packages import torchvision_fault


def convert(job: ExportJob, source: Path, partial: Path, group_size: int | None) -> None:
    """Write model and tokenizer into `partial`."""
    exporter = load_exporter()
    with _quiet():
        if job.weight_format == "fp32":
            exporter.convert(source, partial, "fp32", None)
            return
        full = partial / "full"
        bits = int(job.weight_format.removeprefix("int"))
        quantization = exporter.quantization(bits, -1 if group_size is None else group_size)
        exporter.convert(source, full, job.weight_format, quantization)
        exporter.compress(full, partial, quantization)
        gc.collect()  # closes openvino_model.bin, which Windows would not delete otherwise
        for file in full.iterdir():
            if not file.name.startswith("openvino_model.") and not (partial / file.name).exists():
                file.rename(partial / file.name)
        shutil.rmtree(full)


class Exporter:
    """The calls of optimum-intel, in the order in which `optimum-cli export openvino` has them.

    `main_export` alone quantises nothing in 2.1: given a quantisation, it leaves the weights as
    they are, and the command line runs the quantiser afterwards. So do we.
    """

    def __init__(self) -> None:
        from optimum import intel
        from optimum.exporters.openvino import main_export

        # Each is imported when it is named: now, and not while the output is held back.
        self._main_export = main_export
        self._config = intel.OVConfig
        self._model = intel.OVModelForCausalLM
        self._quantizer = intel.OVQuantizer
        self._quantization = intel.OVWeightQuantizationConfig

    def quantization(self, bits: int, group_size: int) -> Any:
        """Say how weights become whole numbers of so many bits."""
        return self._quantization(bits=bits, sym=False, group_size=group_size)

    def convert(self, source: Path, folder: Path, dtype: str, quantization: Any) -> None:
        """Write a checkpoint as an export."""
        import torch

        # Else a checkpoint of 16-bit numbers would be exported as it is, and called fp32.
        loading = {"torch_dtype": torch.float32} if dtype == "fp32" else None
        self._main_export(
            str(source),
            output=folder,
            task="text-generation-with-past",
            library_name="transformers",
            convert_tokenizer=True,
            ov_config=self._config(dtype=dtype, quantization_config=quantization),
            model_loading_kwargs=loading,
        )

    def compress(self, full: Path, folder: Path, quantization: Any) -> None:
        """Write an export with fewer bits a weight."""
        model = self._model.from_pretrained(full, compile=False)
        config = self._config(quantization_config=quantization)
        self._quantizer.from_pretrained(model).quantize(ov_config=config, save_directory=folder)


def load_exporter() -> Exporter:
    """Import the tools; not inside `_quiet`, as their loggers keep the output they find."""
    with warnings.catch_warnings(action="ignore"), _no_logs():
        try:
            return Exporter()
        except ImportError as error:
            raise failure(
                "tools-not-importable",
                torchvision_fault() or tr("Python says: {error}.").format(error=error),
            ) from error


@contextmanager
def explained(job: ExportJob) -> Iterator[None]:
    """Turn what the tools raise into the sentence that a learner needs."""
    try:
        yield
    except LocalPipelinesError:
        raise
    except Exception as error:
        raise _explain(job, error) from error


def _explain(job: ExportJob, error: Exception) -> LocalPipelinesError:
    text = str(error)
    said = next(iter(text.strip().splitlines()), "") or type(error).__name__
    kind = re.search(r"export an? (\S+) model, that is a custom or unsupported", text)
    if is_disk_full(error):
        reason = "export-filled-disk"
    elif isinstance(error, MemoryError) or re.search("alloc.*memory|bad_alloc", text):
        reason = "export-filled-memory"
    elif "Maximum required is" in said or "Minimum required is" in said:
        reason = "export-other-release"
    elif kind:
        reason = "export-unknown-type"
    else:
        reason, said = "export-failed", f"{type(error).__name__}: {said}"
    form = {"name": job.model.title, "weight_format": job.weight_format}
    return failure(reason, **form, error=said, kind=kind and kind[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back tracing warnings, tables and bars of the tools; errors are raised all the same."""
    # Not by logging.disable(): optimum-intel switches that on and off itself.
    loggers = [logging.getLogger(name) for name in ("transformers", "optimum", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            _no_widgets(),
            redirect_stdout(StringIO()),
            redirect_stderr(StringIO()),
        ):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _no_logs() -> Iterator[None]:
    """Hold back what libraries log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _no_widgets() -> Iterator[None]:
    """In a notebook, the bars of transformers and of rich, which NNCF uses, are no text."""
    console: Any = sys.modules.get("rich.console")  # what the tools have not imported shows nothing
    transformers_logging: Any = sys.modules.get("transformers.utils.logging")
    is_notebook = getattr(console, "_is_jupyter", None)
    had_bars = bool(transformers_logging and transformers_logging.is_progress_bar_enabled())
    if is_notebook:
        console._is_jupyter = lambda: False
    if had_bars:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_notebook:
            console._is_jupyter = is_notebook
        if had_bars:
            transformers_logging.enable_progress_bar()
