"""The exports that the course keeps in `HF_HOME`: each is made when it is first used.

One that is outdated or damaged is replaced by itself, and a line says so.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from local_pipelines.errors import EngineError, ExportError, LocalPipelinesError
from local_pipelines.models.file_sums import changed_file
from local_pipelines.models.names import Model, ModelName, locate
from local_pipelines.openvino.export import make_export
from local_pipelines.openvino.formats import checked_format
from local_pipelines.openvino.job import ExportJob
from local_pipelines.openvino.manifest import read_manifest, tool_versions
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.cache_folder import hf_home

_LOG = logging.getLogger("local_pipelines")
_LONGEST_NAME = 60  # characters of a folder's name; file systems take 255 bytes

T = TypeVar("T")


def exported(model_id: ModelName, weight_format: str) -> Path:
    """The folder with the export of a model, which is made if it is not there or not right."""
    job = _kept_job(model_id, weight_format)
    try:
        return make_export(job)
    except ExportError as fault:
        if not os.path.lexists(job.target):
            raise
        return _made_anew(job, fault)


def load_kept(model_id: ModelName, weight_format: str, load: Callable[[Path], T]) -> T:
    """Load the export of a model; if the engine cannot, and it may be damaged, load a new one."""
    folder = exported(model_id, weight_format)
    try:
        return load(folder)
    except EngineError as fault:
        if not _may_be_damaged(folder):
            raise  # a new one would be the same
        return load(_made_anew(_kept_job(model_id, weight_format), fault))


def _made_anew(job: ExportJob, fault: LocalPipelinesError) -> Path:
    _LOG.warning(
        "%s", tr("{name} is exported again: {fact}").format(name=job.target.name, fact=fault.fact)
    )
    return make_export(job, replace=True)


def _may_be_damaged(folder: Path) -> bool:
    """Whether a new export could be another one: a file has changed, or a tool."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.versions != tool_versions():
        return True
    with suppress(OSError):
        summed = all(file.sha256 for file in manifest.files.values())
        return not summed or changed_file(folder, manifest.files, trust_times=False) is not None
    return True


def _kept_job(model_id: ModelName, weight_format: str) -> ExportJob:
    kept = hf_home() / "local_pipelines" / "openvino"
    model, form = locate(model_id), checked_format(weight_format)
    return ExportJob(model, kept / cache_name(model, form), form)


def cache_name(model: Model, weight_format: str) -> str:
    """A name for a model and a format; two folders of one name do not get the same."""
    if model.has_own_name:
        return f"{model.title.replace('/', '--')}-{weight_format}"
    place = hashlib.sha256(
        str(model.gguf.path if model.gguf else model.folder).encode()
    ).hexdigest()[:8]
    name = re.sub(r"[^\w.-]", "_", model.title)[:_LONGEST_NAME]
    return f"{name}-{place}-{weight_format}"
