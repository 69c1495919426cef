"""Turns a model into OpenVINO's own format, on this machine, once, and whole or not at all.

The work is done by optimum-intel (conversion), NNCF (int8 and int4) and openvino-tokenizers. What
is added here: the checks before the minutes of work, and a target folder that appears under its
name only when everything in it is finished.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import re
import secrets
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from local_pipelines import _checkpoint, models
from local_pipelines._grammar import gigabytes, nearest
from local_pipelines._ir import (
    Export,
    ExportError,
    describe_source,
    is_same_source,
    read_export,
    read_manifest,
    write_manifest,
)
from local_pipelines._messages import ntr, tr
from local_pipelines._ov_config import OV_CONFIGS, check_ov_config, ov_config
from local_pipelines.errors import LocalPipelinesError, MissingPackageError, ParameterError

__all__ = [
    "OV_CONFIGS",
    "Export",
    "ExportError",
    "check_ov_config",
    "checked_format",
    "export_openvino",
    "ov_config",
    "read_export",
]

_BYTES = {"fp32": 4.0, "int8": 1.1, "int4": 0.8}  # a weight; embeddings stay in int8 with int4
_GROUP_SIZES = (128, 64, 32)
_NEEDED = ("openvino", "optimum-intel", "nncf", "openvino-tokenizers")


def export_openvino(
    model_id: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    weight_format: str = "fp32",
    group_size: int | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Write a model into a folder in OpenVINO's format, tokenizer included.

    It works in a folder beside the target and renames that at the end: an interrupted export
    leaves nothing behind. A finished one is not repeated: the same call returns at once. The same
    on the command line is `optimum-cli export openvino --model … --task text-generation-with-past
    --weight-format int4 --group-size 64 folder`.

    Args:
        model_id: "pocket", a folder with a model in it, or an id of the Hub.
        folder: Where to put it; a folder for each model and format.
        weight_format: "fp32", "int8" or "int4".
        group_size: int4 only: how many weights of a row share a scale (-1: all of them). Not
            given, the largest of 128, 64 and 32 that all layers' widths can be divided by;
            `read_export(folder).group_size` tells which.
        progress: Show the stages while they run.
        force: Start though memory or disk seem too small.

    Returns:
        The folder.

    Raises:
        MissingPackageError: The `openvino` extra is not installed.
        ParameterError: There is no such format, or the group size does not divide the layers.
        ModelError: There is no such model, or no way to it.
        ExportError: No room, no right to write, the folder holds something else, or the
            conversion failed. Nothing in the folder was changed.
    """
    target = Path(folder).expanduser()  # shown as it was written, without this machine's folders
    target = target if target.name else target.absolute()
    job = _Job(model_id, target, checked_format(weight_format), group_size)
    _check_group_size(job)
    if _is_done(job):
        return target
    _check_extra()
    _check_room(job, force)
    stages = _Stages(job, progress)
    with stages:
        source = stages.enter(tr("fetch the model"), job.fetch)
        chosen = _choose_group_size(job, source)
        with _partial_folder(target) as partial:
            stages.enter(tr("convert"), lambda: _convert(job, source, partial, chosen))
            stages.enter(tr("finish"), lambda: _finish(job, source, partial, chosen))
    return target


@dataclass(frozen=True)
class _Job:
    """What shall be exported, and where to."""

    model_id: str | os.PathLike[str]
    target: Path
    weight_format: str
    group_size: int | None

    @property
    def name(self) -> str:
        """The model's name, without the path of a folder."""
        located = models._locate(self.model_id)
        if isinstance(located, Path):
            is_pocket = isinstance(self.model_id, str) and self.model_id.strip() == "pocket"
            return "pocket" if is_pocket else located.name
        return located

    def fetch(self) -> Path:
        """The folder that the model lies in, downloaded where it must be."""
        from local_pipelines._fetch import fetch_model

        return fetch_model(os.fspath(self.model_id))


# --- before it starts --------------------------------------------------------------------------


def checked_format(weight_format: object) -> str:
    """Give a format that can be exported, or raise ParameterError."""
    if isinstance(weight_format, str) and weight_format in _BYTES:
        return weight_format
    near = nearest(str(weight_format).lower(), _BYTES) or "int8"
    raise ParameterError(
        tr("{weight_format!r} is none of the formats {names}.").format(
            weight_format=weight_format, names=", ".join(map(repr, _BYTES))
        ),
        next_step=tr('Write weight_format="{near}".').format(near=near),
    )


def _check_group_size(job: _Job) -> None:
    size = job.group_size
    if size is None:
        return
    if job.weight_format != "int4":
        raise ParameterError(
            tr("group_size = {size!r} is for int4 only, and {weight_format} was asked for.").format(
                size=size, weight_format=job.weight_format
            ),
            next_step=tr('Take it away, or write weight_format="int4".'),
        )
    if isinstance(size, bool) or not isinstance(size, int) or (size < 1 and size != -1):
        raise ParameterError(
            tr(
                "group_size = {size!r} cannot work: it is a number of weights, or -1 for a whole"
                " row."
            ).format(size=size),
            next_step=tr("Write group_size=64."),
        )


def _is_done(job: _Job) -> bool:
    """Whether the folder holds this very export.

    Raises:
        ExportError: It holds something else, or a damaged export.
    """
    target = job.target
    try:
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return False
    except OSError as error:
        raise _cannot_write(target, error) from error
    manifest = read_manifest(target) if target.is_dir() else None
    if manifest is None:
        raise ExportError(
            tr("{target} is there already, and not an export of this course.").format(
                target=target
            ),
            tr("Nothing in it was changed."),
            tr("Write another folder's name."),
        )
    if difference := _difference(job, manifest):
        raise ExportError(
            tr("{target} holds another export: {difference}.").format(
                target=target, difference=difference
            ),
            tr("Nothing in it was changed."),
            tr("Write another folder's name, such as one for each model and format, or delete it."),
        )
    read_export(target)  # whole, and readable by the OpenVINO that is installed
    return True


def _difference(job: _Job, manifest: dict[str, Any]) -> str:
    """What the folder's export was made from, where that is not what is asked for; else empty."""
    source, has = manifest.get("source", {}), manifest.get("weight_format")
    if not _is_source(job, source):
        of = source.get("model", tr("another model"))
        if of == job.name:
            return tr("it was made from {model}, of which this is another version").format(model=of)
        return tr("it was made from {model}").format(model=of)
    if has != job.weight_format:
        return tr("{found}, not {wanted}").format(found=has, wanted=job.weight_format)
    wanted, size = job.group_size, manifest.get("group_size")
    if wanted is None and not manifest.get("group_size_chosen", True):
        return tr("int4 with group_size={size}, which this call does not ask for").format(size=size)
    if wanted not in {None, size}:
        return tr("int4 with groups of {size}, not {wanted}").format(size=size, wanted=wanted)
    return ""


def _is_source(job: _Job, source: dict[str, Any]) -> bool:
    located = models._locate(job.model_id)
    if isinstance(located, Path):
        return "files" in source and is_same_source(source, located)
    if source.get("model") != located:
        return False
    # Offline, or never downloaded here: then the id is all that can be compared.
    cached = models._cached_folder(located)
    return cached is None or _commit(cached) in {"", source.get("revision")}


def _commit(snapshot: Path) -> str:
    return snapshot.name if re.fullmatch(r"[0-9a-f]{40}", snapshot.name) else ""


def _check_extra() -> None:
    from local_pipelines.packages import installed_versions

    missing = [name for name, version in installed_versions(_NEEDED).items() if version is None]
    if missing:
        raise MissingPackageError(
            ntr(
                "An export needs {names}, which is not installed.",
                "An export needs {names}, which are not installed.",
                len(missing),
            ).format(names=", ".join(missing)),
            tr("OpenVINO is an extra of this course."),
            tr('Run `install_packages("openvino")` and then this cell again.'),
        )


@dataclass(frozen=True)
class _Need:
    """Bytes that an export takes for a while (memory, disk) and for good (kept)."""

    memory: int
    disk: int
    kept: int


def _need(job: _Job, weights: int, stored: int) -> _Need:
    """Estimate from the number of weights and the bytes of the files that hold them.

    In memory: the weights as they are read, and once more on their way into the file. On disk:
    int8 and int4 are made from a copy in full width, which is deleted at the end.
    """
    full = 4 * weights if job.weight_format == "fp32" else stored
    kept = round(_BYTES[job.weight_format] * weights)
    small = 50_000_000  # tokenizer and description
    return _Need(2 * full, small + (kept if job.weight_format == "fp32" else full + kept), kept)


def _check_room(job: _Job, force: bool) -> None:
    """Say with figures that an export cannot end well, before its minutes of work."""
    facts = models._facts(job.model_id)
    if force or facts.weights is None:
        return
    if not facts.weights.floats:
        raise ExportError(
            tr(
                "{name} cannot be exported: its weights are quantised or in OpenVINO's format."
            ).format(name=job.name),
            next_step=tr("Take the model that it was made from, or use it as it is."),
        )
    stored = facts.download_bytes or 2 * facts.weights.floats
    need = _need(job, facts.weights.floats, stored)
    free = _disk_free(job.target)
    if free is not None and need.disk > free:
        raise ExportError(
            tr(
                "Exporting {name} to {weight_format} needs about {needed} on the disk, and {free}"
                " are free."
            ).format(
                name=job.name,
                weight_format=job.weight_format,
                needed=gigabytes(need.disk),
                free=gigabytes(free),
            ),
            tr("Of that, {kept} stay.").format(kept=gigabytes(need.kept)),
            tr("Free some space, write a folder on another disk, or take a smaller model."),
        )
    memory = _memory_free()
    if need.memory > memory:
        raise ExportError(
            tr(
                "Exporting {name} to {weight_format} needs about {needed} of memory, and {free} are"
                " free."
            ).format(
                name=job.name,
                weight_format=job.weight_format,
                needed=gigabytes(need.memory),
                free=gigabytes(memory),
            ),
            tr("The whole model is in memory while it is converted."),
            tr(
                "Close other programs and kernels, take a smaller model, or write force=True to"
                " try."
            ),
        )


def _disk_free(target: Path) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(next(p for p in target.parents if p.exists())).free
    return None


def _memory_free() -> int:
    from local_pipelines.devices import ram

    return ram()[1]


# --- the group size of int4 --------------------------------------------------------------------


def _choose_group_size(job: _Job, source: Path) -> int | None:
    if job.weight_format != "int4":
        return None
    widths = _checkpoint_widths(source)
    fitting = [size for size in _GROUP_SIZES if all(width % size == 0 for width in widths)]
    if job.group_size is None:
        return fitting[0] if widths and fitting else -1
    odd = (
        [width for width in sorted(widths) if width % job.group_size] if job.group_size > 0 else []
    )
    if odd:
        others = [f"group_size={size}" for size in (*fitting, -1)]
        raise ParameterError(
            tr("group_size={group_size} does not divide the width {odd} of some layers.").format(
                group_size=job.group_size, odd=odd[0]
            ),
            tr("The weights of a row are cut into groups of the same size."),
            tr("Write {names}, or take it away.").format(names=tr(" or ").join(others)),
        )
    return job.group_size


def _checkpoint_widths(source: Path) -> set[int]:
    """How wide the rows of the layers are that int4 changes: all but embeddings and the last."""
    import json

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    # These few keep their layers transposed: transformers.pytorch_utils.Conv1D.
    turned = config.get("model_type") in {"gpt2", "openai-gpt", "imagegpt", "clvp"}
    widths = set()
    for file in _checkpoint.weight_files(source):
        for name, tensor in _checkpoint._read_header(file).items():
            shape = tensor["shape"]
            if len(shape) >= 2 and name.endswith("weight") and not _NOT_INT4.search(name):
                widths.add(int(shape[-2] if turned else shape[-1]))
    return widths


_NOT_INT4 = re.compile(r"embed|lm_head|\bw[tp]e\b")


# --- the work ----------------------------------------------------------------------------------


def _convert(job: _Job, source: Path, partial: Path, group_size: int | None) -> None:
    """Write model and tokenizer into `partial`."""
    exporter = _load_exporter()
    with _quiet(), _explained(job):
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


class _Exporter:
    """The calls of optimum-intel, in the order in which `optimum-cli export openvino` has them.

    `main_export` alone quantises nothing in 2.1: given a quantisation, it leaves the weights as
    they are, and the command line runs the quantiser afterwards. So do we.
    """

    def __init__(self) -> None:
        from optimum.exporters.openvino import main_export
        from optimum.intel import (
            OVConfig,
            OVModelForCausalLM,
            OVQuantizer,
            OVWeightQuantizationConfig,
        )

        self._main_export = main_export
        self._config = OVConfig
        self._model = OVModelForCausalLM
        self._quantizer = OVQuantizer
        self._quantization = OVWeightQuantizationConfig

    def quantization(self, bits: int, group_size: int) -> Any:
        return self._quantization(bits=bits, sym=False, group_size=group_size)

    def convert(self, source: Path, folder: Path, dtype: str, quantization: Any) -> None:
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
        model = self._model.from_pretrained(full, compile=False)
        config = self._config(quantization_config=quantization)
        self._quantizer.from_pretrained(model).quantize(ov_config=config, save_directory=folder)


def _load_exporter() -> _Exporter:
    """Import the tools; not inside `_quiet`, as their loggers keep the output they find."""
    with _no_warnings(), _no_logs():
        try:
            return _Exporter()
        except ImportError as error:
            from local_pipelines.packages import torchvision_fault

            raise MissingPackageError(
                tr("The OpenVINO tools are installed and cannot be imported."),
                torchvision_fault() or tr("Python says: {error}.").format(error=error),
                tr(
                    'Run `install_packages("openvino")`, restart the kernel and run this cell'
                    " again."
                ),
            ) from error


def _finish(job: _Job, source: Path, partial: Path, group_size: int | None) -> None:
    """Check the parts, say what they were made from, and give the folder its name."""
    if (source / "chat_template.jinja").is_file() and not (
        partial / "chat_template.jinja"
    ).exists():
        shutil.copy(source / "chat_template.jinja", partial)
    with _explained(job):
        write_manifest(
            partial,
            source=describe_source(source, model=job.name, revision=_commit(source)),
            weight_format=job.weight_format,
            group_size=group_size,
            group_size_chosen=job.group_size is None,
        )
        read_export(partial)
        _rename(job, partial)


def _rename(job: _Job, partial: Path) -> None:
    if job.target.is_dir():
        with suppress(OSError):
            job.target.rmdir()  # an empty one is in the way on Windows
    try:
        partial.rename(job.target)
    except OSError:
        # Another process may have been faster with the same; ours is then thrown away.
        if not job.target.exists() or not _is_done(job):
            raise


@contextmanager
def _explained(job: _Job) -> Iterator[None]:
    """Turn what the tools raise into the sentence that a learner needs."""
    try:
        yield
    except LocalPipelinesError:
        raise
    except Exception as error:
        raise _explain(job, error) from error


def _explain(job: _Job, error: Exception) -> ExportError:
    what = {"name": job.name, "weight_format": job.weight_format}
    said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return ExportError(
            tr("Exporting {name} to {weight_format} failed: the disk is full.").format(**what),
            tr("What was written of it is removed again."),
            tr("Free some space, or write a folder on another disk."),
        )
    if isinstance(error, MemoryError) or re.search("alloc.*memory|bad_alloc", str(error)):
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
    if match := re.search(r"export an? (\S+) model, that is a custom or unsupported", str(error)):
        return ExportError(
            tr(
                "Exporting {name} to {weight_format} failed: optimum-intel cannot convert models of"
                " the type {kind}."
            ).format(**what, kind=match[1]),
            tr("Each type of model needs rules of its own there."),
            tr('Run it with backend="torch", or take a model of another type.'),
        )
    return ExportError(
        tr("Exporting {name} to {weight_format} failed: {error}").format(
            **what, error=f"{type(error).__name__}: {said}"
        ),
        tr("The error comes from the tools that convert it."),
        tr("The traceback, by `import traceback; traceback.print_last()`, tells more."),
    )


def _cannot_write(target: Path, error: OSError) -> ExportError:
    return ExportError(
        tr("Nothing can be written to {parent}.").format(parent=target.parent),
        f"{error.strerror or error}.",
        tr("Write a folder that is yours, such as one beside the notebook."),
    )


# --- the folder beside the target --------------------------------------------------------------


@contextmanager
def _partial_folder(target: Path) -> Iterator[Path]:
    """A folder to work in, on the target's disk, which does not outlive the work."""
    partial = target.parent / f".{target.name}.partial-{_owner()}-{secrets.token_hex(3)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(target)
        partial.mkdir()
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield partial
    finally:
        gc.collect()
        shutil.rmtree(partial, ignore_errors=True)


def _owner() -> str:
    """This process, so that another one can tell whether it still lives: id and starting time."""
    import psutil

    return f"{os.getpid()}-{round(psutil.Process().create_time())}"


def _remove_orphans(target: Path) -> None:
    """Remove what exports into the same folder left behind whose process was killed."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.partial-(\d+)-(\d+)-[0-9a-f]+")
    for folder in target.parent.iterdir():
        match = pattern.fullmatch(folder.name)
        if match and not _lives(int(match[1]), int(match[2])):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int, started: int) -> bool:
    import psutil

    try:
        return abs(psutil.Process(pid).create_time() - started) < 2
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True  # somebody else's process, and at least one that is there


# --- what is shown and what is not -------------------------------------------------------------


class _Stages:
    """A bar that names the stage; nothing else is shown while the tools talk."""

    def __init__(self, job: _Job, progress: bool) -> None:
        self._title = tr("{name} to {weight_format}").format(
            name=job.name, weight_format=job.weight_format
        )
        self._show = progress
        self._bar: Any = None

    def __enter__(self) -> _Stages:
        if self._show and _is_watched():
            from tqdm.auto import tqdm  # type: ignore[import-untyped]

            form = "{desc} {bar} {n}/{total} [{elapsed}]"
            self._bar = tqdm(total=3, desc=self._title, bar_format=form)
        return self

    def enter(self, stage: str, work: Any) -> Any:
        if self._bar is not None:
            self._bar.set_description(self._said(stage))
        result = work()
        if self._bar is not None:
            self._bar.update()
        return result

    def __exit__(self, kind: object, *_: object) -> None:
        if self._bar is not None:
            self._bar.set_description(self._said(tr("done") if kind is None else tr("stopped")))
            self._bar.close()

    def _said(self, stage: str) -> str:
        return tr("{title}: {stage}").format(title=self._title, stage=stage)


def _is_watched() -> bool:
    """Whether somebody sees a bar: in a notebook that a program runs, it would be stored debris."""
    from local_pipelines._front_end import widgets_work

    ipython = _imported("IPython")
    in_kernel = getattr(ipython.get_ipython() if ipython else None, "kernel", None) is not None
    return not in_kernel or widgets_work()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back tracing warnings, tables and bars of the tools; errors are raised all the same."""
    out, err = StringIO(), StringIO()
    # Not by logging.disable(): optimum-intel switches that on and off itself.
    loggers = [logging.getLogger(name) for name in ("transformers", "optimum", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with _no_warnings(), _no_widgets(), redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _no_logs() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _no_widgets() -> Iterator[None]:
    """In a notebook, the bars of transformers and of rich, which NNCF uses, are no text."""
    console, transformers_logging = (
        _imported("rich.console"),
        _imported("transformers.utils.logging"),
    )
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


def _imported(name: str) -> Any:
    """A module that the tools have imported; None if they have not."""
    return sys.modules.get(name)
