"""Ray itself: one on this machine, started and ended here, or a cluster that is there."""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local_pipelines.errors import failure
from local_pipelines.workbench.versions import installed_version

_STORE_BYTES = 200_000_000  # rows pass through it, models do not
_PATIENCE = 10  # seconds for a cluster to answer
_LONGEST_FOLDER = 40  # characters: the path of a socket below may have about a hundred


@contextmanager
def connected(address: str | None, workers: int, num_cpus: float, num_gpus: float) -> Iterator[Any]:
    """Give the package `ray`, connected; what was started here is ended here.

    Args:
        address: A cluster's; None for this machine, or whatever this process is connected to.
        workers: How many there will be.
        num_cpus: The cores of each.
        num_gpus: The GPUs of each.

    Raises:
        MissingPackageError: Ray is not installed.
        ParameterError: Nothing answers at the address, or a GPU is asked for that is not there.
    """
    ray = _imported()
    if ray.is_initialized():  # whoever began it ends it
        yield ray
        return
    folder = None if address else tempfile.mkdtemp(prefix="ray-", dir=_short_folder())
    try:
        if address:
            _join(ray, address)
        else:
            _start(ray, folder, math.ceil(workers * num_cpus) + 1)
            if num_gpus and ray.cluster_resources().get("GPU", 0) < num_gpus:
                raise failure("no-gpu-for-workers", number=num_gpus)
        yield ray
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _imported() -> Any:
    if installed_version("ray") is None or installed_version("pyarrow") is None:
        raise failure("ray-missing")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong is raised, too
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    _quiet_about_workers()
    return ray


def _quiet_about_workers() -> None:
    """Keep away what Ray prints of a killed worker: it starts another one by itself."""
    from ray._private import worker

    show = worker.print_to_stdstream
    if getattr(show, "quiet", False):
        return

    def filtered(data: dict[str, Any], *rest: Any, **more: Any) -> None:
        text = " ".join(data.get("lines", ()))
        if "MapBatches(Worker)" not in text and "A worker died or was killed" not in text:
            show(data, *rest, **more)

    filtered.quiet = True  # type: ignore[attr-defined]
    worker.print_to_stdstream = filtered


def _short_folder() -> str | None:
    usual = tempfile.gettempdir()
    return "/tmp" if os.name == "posix" and len(usual) > _LONGEST_FOLDER else None  # noqa: S108


_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


def _start(ray: Any, folder: str | None, cpus: int) -> None:
    from ray._private import ray_constants

    # Ray takes an address of the network instead of 127.0.0.1, and then anybody may reach it,
    # unless clusters are switched off, as they are on macOS and Windows.
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        with _silent():
            ray.init(
                "local",  # else RAY_ADDRESS would name a cluster
                num_cpus=cpus,
                object_store_memory=_STORE_BYTES,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                **_QUIET,
            )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters


def _join(ray: Any, address: str) -> None:
    try:
        _knock(address)
        with _silent():
            ray.init(address, **_QUIET)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise failure("no-cluster", f"{said.rstrip('.')}.", address=address) from error


def _knock(address: str) -> None:
    """Find out in seconds that nobody is there: Ray would try for minutes, and end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep away what Ray's C++ writes to the process's standard error, past Python."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
