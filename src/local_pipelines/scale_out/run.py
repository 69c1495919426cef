"""`run_on_ray`: the same chain on many processes or machines, no row lost and none doubled."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from local_pipelines.engines.report import Interrupted
from local_pipelines.errors import failure
from local_pipelines.scale_out.cluster import connected
from local_pipelines.scale_out.inputs import Ticket, look_at
from local_pipelines.scale_out.parts import Form, check_run, opened, size_of
from local_pipelines.scale_out.report import RayRun
from local_pipelines.scale_out.worker import Job, Worker
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import is_finite, whole_number
from local_pipelines.workbench.progress import progress_bar, somebody_looks
from local_pipelines.workbench.versions import installed_version

_MOST_BLOCKS = 1000  # of Ray's: each costs some milliseconds


def run_on_ray(
    chain_factory: Callable[[], Any],
    inputs: Any,
    *,
    output: str | os.PathLike[str] | None = None,
    column: str | None = None,
    concurrency: int = 1,
    batch_size: int = 64,
    num_cpus: float = 1,
    num_gpus: float = 0,
    address: str | None = None,
    retry_errors: bool = False,
    progress: bool | None = None,
) -> RayRun:
    """Answer many rows with a chain in several processes, on this machine or on a cluster.

    Called again after an interruption, it does what is missing. A row that cannot be answered is
    written with its error, and the others go on.

    Args:
        chain_factory: A function that makes the chain; each worker calls it once.
        inputs: A list of texts or dictionaries, or a file: `.jsonl`, `.csv` or `.parquet`.
        output: The folder for the answers, in Parquet, or in JSON lines if its name ends in
            `.jsonl`; a folder that goes with the result, unless given. Workers of a cluster must
            see it, and the input file, under the same path.
        column: The column that the chain is asked with; the whole row unless given.
        concurrency: How many workers there are.
        batch_size: How many rows a worker gives to the chain, and writes, at a time. A run that is
            gone on with keeps the number it was begun with.
        num_cpus: The cores of a worker.
        num_gpus: The GPUs of a worker, or a share of one.
        address: A cluster's address; this machine unless given.
        retry_errors: Ask those rows again that have an error.
        progress: Show a progress bar; where somebody looks, unless given.

    Returns:
        What became of the rows, and the rows themselves, one after another.

    Raises:
        MissingPackageError: Ray is not installed.
        ParameterError: An argument cannot work, or nothing answers at the address.
        PromptFileError: A file cannot be read or written, or the folder is of another run.
        KeyboardInterrupt: It was interrupted; what was answered is kept.
    """
    start = time.perf_counter()
    _check_numbers(concurrency, batch_size, num_cpus, num_gpus)
    if installed_version("ray") is None or installed_version("pyarrow") is None:
        raise failure("ray-missing")
    if address and output is None:
        raise failure("cluster-without-output")
    kept = None if output is not None else tempfile.TemporaryDirectory(prefix="answers-")
    folder = Path(output if output is not None else kept.name).absolute()  # type: ignore[union-attr]
    size = size_of(folder) or batch_size
    found = look_at(inputs, size, column)
    form = Form(folder, found.schema, found.json_columns)
    packed = _packed(Job(chain_factory, found.read, form, retry_errors))
    with opened(form):
        check_run(form, found, size, column)
        report = RayRun(form, found, kept=kept)
        missing = report.missing(retry_errors)
        if missing:
            show = somebody_looks() if progress is None else progress
            with connected(address, concurrency, num_cpus, num_gpus) as ray:
                report.ray_seconds = time.perf_counter() - start
                pool = _Pool(ray, packed, concurrency, num_cpus, num_gpus)
                _work(pool, missing, report, show, start)
    report.seconds = time.perf_counter() - start
    return report


def _check_numbers(concurrency: int, batch_size: int, num_cpus: float, num_gpus: float) -> None:
    whole_number("concurrency", concurrency)
    whole_number("batch_size", batch_size, example=64)
    for name, value, low in (("num_cpus", num_cpus, 0.01), ("num_gpus", num_gpus, 0)):
        if not is_finite(value) or value < low:
            raise failure("number-of-devices", name=name, value=value, number=1 if low else 0)


def _packed(job: Job) -> bytes:
    """Pack what a worker needs, as Ray does it: with functions that stand in a notebook."""
    from ray import cloudpickle

    if not callable(job.factory):
        raise failure("no-factory", kind=type(job.factory).__name__)
    try:
        return bytes(cloudpickle.dumps(job))
    except Exception as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise failure("factory-unpicklable", f"{said.rstrip('.')}.") from error


class _Pool:
    """Workers, and the tickets they work off."""

    def __init__(
        self, ray: Any, packed: bytes, size: int, num_cpus: float, num_gpus: float
    ) -> None:
        self._ray, self._packed, self._size = ray, packed, size
        self._devices = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self.errors: Any = ray.exceptions.RayError

    def results(self, tickets: list[Ticket]) -> Generator[dict[str, Any], None, None]:
        """Give what is done, part after part, as it comes."""
        data = self._ray.data
        items = [{"ticket": pickle.dumps(ticket)} for ticket in tickets]
        done = data.from_items(
            items, override_num_blocks=min(len(items), _MOST_BLOCKS)
        ).map_batches(
            Worker,
            fn_constructor_args=(self._packed,),
            compute=data.ActorPoolStrategy(size=self._size),
            batch_size=1,
            batch_format="pyarrow",
            **self._devices,
        )
        yield from done.iter_rows()


def _work(pool: _Pool, missing: list[Ticket], report: RayRun, show: bool, start: float) -> None:
    total = report.rows
    with progress_bar(total, tr("row")) if show else nullcontext() as bar:
        update = bar.update if bar is not None else int
        update(total - sum(ticket.rows for ticket in missing))
        try:
            with closing(pool.results(missing)) as results:
                for result in results:
                    _check(result["problem"], result["said"], report)
                    report.count(result)
                    if not report.first_seconds:
                        report.first_seconds = time.perf_counter() - start
                    update(result["rows"])
        except KeyboardInterrupt as error:
            raise Interrupted(report.stopped()) from error
        except pool.errors as error:
            _check("workers-failed", type(error).__name__, report)


def _check(problem: str, said: str, report: RayRun) -> None:
    """Raise what a worker could not get over."""
    if problem:
        counts = {"done": report.done, "total": report.rows}
        raise failure(problem, f"{said.rstrip('.')}.", folder=report.folder.name, **counts)
