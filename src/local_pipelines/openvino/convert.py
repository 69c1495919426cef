"""The conversion itself: the calls of optimum-intel, and what they raise as a sentence."""

from __future__ import annotations

import gc
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_pipelines.errors import ExportError, LocalPipelinesError, MissingPackageError
from local_pipelines.openvino.job import ExportJob
from local_pipelines.openvino.quiet import no_logs, no_warnings, quiet
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.machine import is_disk_full
from local_pipelines.workbench.packages import torchvision_fault


def convert(job: ExportJob, source: Path, partial: Path, group_size: int | None) -> None:
    """Write model and tokenizer into `partial`."""
    exporter = load_exporter()
    with quiet():
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
    """Import the tools; not inside `quiet`, as their loggers keep the output they find."""
    with no_warnings(), no_logs():
        try:
            return Exporter()
        except ImportError as error:
            raise MissingPackageError(
                tr("The OpenVINO tools are installed and cannot be imported."),
                torchvision_fault() or tr("Python says: {error}.").format(error=error),
                tr(
                    'Run `install_packages("openvino")`, restart the kernel and run this cell'
                    " again."
                ),
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


def _explain(job: ExportJob, error: Exception) -> ExportError:
    what = {"name": job.model.title, "weight_format": job.weight_format}
    text = str(error)
    said = next(iter(text.strip().splitlines()), "") or type(error).__name__
    if is_disk_full(error):
        return ExportError(
            tr("Exporting {name} to {weight_format} failed: the disk is full.").format(**what),
            tr("What was written of it is removed again."),
            tr("Free some space, or write a folder on another disk."),
        )
    if isinstance(error, MemoryError) or re.search("alloc.*memory|bad_alloc", text):
        return ExportError(
            tr("Exporting {name} to {weight_format} failed: the memory is full.").format(**what),
            tr("The whole model is in memory while it is converted."),
            tr("Close other programs and kernels, or take a smaller model."),
        )
    if "Maximum required is" in said or "Minimum required is" in said:
        return ExportError(
            tr("Exporting {name} to {weight_format} failed: {error}").format(**what, error=said),
            tr("optimum-intel converts this type of model with another release of transformers."),
            tr('Run it with backend="torch", or take a model of another type.'),
        )
    if match := re.search(r"export an? (\S+) model, that is a custom or unsupported", text):
        return ExportError(
            tr(
                "Exporting {name} to {weight_format} failed: optimum-intel cannot convert models of"
                " the type {kind}."
            ).format(**what, kind=match[1]),
            tr("Each type of model needs rules of its own there."),
            tr('Run it with backend="torch", or take a model of another type.'),
        )
    said = f"{type(error).__name__}: {said}"
    return ExportError(
        tr("Exporting {name} to {weight_format} failed: {error}").format(**what, error=said),
        tr("The error comes from the tools that convert it."),
        tr("The traceback, by `import traceback; traceback.print_last()`, tells more."),
    )
