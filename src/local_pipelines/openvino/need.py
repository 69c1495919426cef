"""What an export needs, asked for before its minutes of work: packages, memory and disk."""

from __future__ import annotations

from typing import NamedTuple

from local_pipelines.errors import MissingPackageError, failure
from local_pipelines.models import fit
from local_pipelines.openvino.formats import BYTES_PER_WEIGHT
from local_pipelines.openvino.job import ExportJob
from local_pipelines.wording.grammar import gigabytes
from local_pipelines.wording.messages import ntr, tr
from local_pipelines.workbench.machine import disk_free, ram
from local_pipelines.workbench.packages import installed_versions

_PACKAGES = ("openvino", "optimum-intel", "nncf", "openvino-tokenizers")


def check_packages() -> None:
    """Raise MissingPackageError unless all that takes part in an export is installed."""
    missing = [name for name, version in installed_versions(_PACKAGES).items() if version is None]
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


class ExportNeed(NamedTuple):
    """Bytes that an export takes for a while (memory, disk) and for good (kept)."""

    memory: int
    disk: int
    kept: int


def need_of(job: ExportJob, weights: int, stored: int) -> ExportNeed:
    """Estimate from the number of weights and the bytes of the files that hold them.

    In memory: the weights as they are read, and once more on their way into the file. On disk:
    int8 and int4 are made from a copy in full width, which is deleted at the end.
    """
    at_once = job.weight_format == "fp32"
    full = 4 * weights if at_once else stored
    kept = round(BYTES_PER_WEIGHT[job.weight_format] * weights)
    small = 50_000_000  # tokenizer and description
    return ExportNeed(2 * full, small + kept + (0 if at_once else full), kept)


def check_need(job: ExportJob, force: bool) -> None:
    """Say with figures that an export cannot end well; with `force`, only for missing packages."""
    check_packages()
    facts = fit.known_facts(job.model)
    if force or facts.weights is None:
        return
    told = {"name": job.model.title, "weight_format": job.weight_format}
    if not facts.weights.floats:
        raise failure("cannot-be-exported", **told)
    stored = facts.download_bytes or 2 * facts.weights.floats
    need = need_of(job, facts.weights.floats, stored)
    free, memory = disk_free(job.target), ram()[1]
    if free is not None and need.disk > free:
        told |= {"needed": gigabytes(need.disk), "free": gigabytes(free)}
        raise failure("export-disk", kept=gigabytes(need.kept), **told)
    if need.memory > memory:
        told |= {"needed": gigabytes(need.memory), "free": gigabytes(memory)}
        raise failure("export-memory", **told)
