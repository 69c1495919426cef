"""Turns a model into OpenVINO's own format, on this machine, once, and whole or not at all.

The work is done by optimum-intel (conversion), NNCF (int8 and int4) and openvino-tokenizers. What
is added here: the checks before the minutes of work, and a target folder that appears under its
name only when everything in it is finished.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from local_pipelines.errors import failure
from local_pipelines.models.names import ModelName, locate
from local_pipelines.openvino.convert import convert, explained
from local_pipelines.openvino.folder import read_export
from local_pipelines.openvino.formats import check_group_size, checked_format, choose_group_size
from local_pipelines.openvino.job import ExportJob, commit_of
from local_pipelines.openvino.manifest import write_manifest
from local_pipelines.openvino.need import check_need
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.progress import Stages
from local_pipelines.workbench.workshop import Workshop, recover, workshop


def export_openvino(
    model_id: ModelName,
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
    model, target, form = locate(model_id), _checked_target(folder), checked_format(weight_format)
    check_group_size(group_size, form)
    job = ExportJob(model, target, form, group_size)
    return make_export(job, progress=progress, force=force)


def _checked_target(folder: object) -> Path:
    """The folder as it was written: sentences and stored outputs show nobody's home."""
    try:
        target = Path(folder).expanduser()  # type: ignore[arg-type]  # what is no path raises
    except (TypeError, RuntimeError):
        target = Path("\0")
    if "\0" in str(target):
        raise failure("no-folder-name", folder=folder)
    return target if target.name else target.absolute()


def make_export(
    job: ExportJob, *, progress: bool = True, force: bool = False, replace: bool = False
) -> Path:
    """Do what `export_openvino` does, of arguments that are checked.

    With `replace`, what lies in the folder gives way once the new export is finished.
    """
    recover(job.target)
    if not replace and job.is_done():
        return job.target
    check_need(job, force)
    with Stages(job.title, progress) as stages, explained(job):
        source = stages.enter(tr("fetch the model"), job.fetch)
        size = choose_group_size(job.weight_format, job.group_size, job.model.fetched(source))
        with workshop(job.target) as shop:
            stages.enter(tr("convert"), lambda: convert(job, source, shop.export, size))
            stages.enter(tr("finish"), lambda: _finish(job, source, shop, size, replace))
    return job.target


def _finish(
    job: ExportJob, source: Path, shop: Workshop, group_size: int | None, replace: bool
) -> None:
    """Check the parts, say what they were made from, and give the folder its name."""
    template = source / "chat_template.jinja"
    if template.is_file() and not (shop.export / template.name).exists():
        shutil.copy(template, shop.export)
    write_manifest(
        shop.export,
        source,
        model=job.model.title,
        revision=commit_of(source),
        weight_format=job.weight_format,
        group_size=group_size,
        group_size_chosen=job.group_size is None,
    )
    read_export(shop.export)
    shop.put_in_place(job.is_done, replace=replace)
