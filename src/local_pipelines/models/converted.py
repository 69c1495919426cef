"""Checkpoints made on this machine out of GGUF files: each once, whole or not at all.

They are kept in `HF_HOME`. What lies there damaged, or was made from another file, is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines.errors import CacheError, LocalPipelinesError
from local_pipelines.models.file_sums import FileSum, changed_file, json_object
from local_pipelines.models.gguf import read_gguf
from local_pipelines.models.gguf_checkpoint import write_checkpoint, written_bytes
from local_pipelines.wording.grammar import gigabytes
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.cache_folder import hf_home
from local_pipelines.workbench.file_lock import one_at_a_time
from local_pipelines.workbench.machine import disk_free, is_disk_full, sha256_of
from local_pipelines.workbench.progress import Stages
from local_pipelines.workbench.workshop import Workshop, recover, workshop

MANIFEST = "local_pipelines_model.json"

_LOG = logging.getLogger("local_pipelines")
_LONGEST_NAME = 60  # characters of a folder's name; file systems take 255 bytes
_VERSION = 1  # of what is written; another number has every file converted again
_CARD = """\
# {name}

Made on this machine from the file `{name}`. Numbers that it has in fewer than 16 bits are written
as 16-bit numbers again, which does not bring back what was lost.
"""


@dataclass(frozen=True)
class Conversion:
    """A checkpoint that is made out of a GGUF file.

    Args:
        name: What messages call it.
        id: Its folder in `HF_HOME`.
        source: What tells the very file from any other.
        card: Its README.md.
        file: Finds the GGUF file, or fetches it into a folder.
    """

    name: str
    id: str
    source: Any
    card: str
    file: Callable[[Path], Path]

    @property
    def place(self) -> Path:
        """Where it lies, or will."""
        return hf_home() / "local_pipelines" / "models" / self.id

    def folder(self) -> Path | None:
        """Where it lies whole and undamaged; None if it does not."""
        told = json_object(self.place / MANIFEST)
        if told.get("source") != self.source:
            return None
        with suppress(OSError, LookupError, TypeError, AttributeError):
            files = {name: FileSum(*sums) for name, sums in told["files"].items()}
            return self.place if changed_file(self.place, files) is None else None
        return None

    def made(self) -> Path:
        """Its folder, where it is made unless it is there.

        Raises:
            ModelError: The file cannot be converted.
            CacheError: The disk is full, or cannot be written to.
        """
        recover(self.place)
        if folder := self.folder():
            return folder
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self.place.with_name(f".{self.id}.lock")):
                # Another process may have made it meanwhile.
                return self.folder() or self._make()
        except LocalPipelinesError:
            raise
        except Exception as error:
            if not is_disk_full(error) and not isinstance(error, OSError):
                raise
            cause = tr("The disk is full.") if is_disk_full(error) else f"{error}."
            raise self._not_kept(cause) from error

    def _make(self) -> Path:
        if os.path.lexists(self.place):
            was = json_object(self.place / MANIFEST).get("source", self.source)
            fact = tr("{name} is damaged and made again.")
            if was != self.source:
                fact = tr("{name} has changed and is converted again.")
            _LOG.warning("%s", fact.format(name=self.name))
        with Stages(self.name, True) as stages, workshop(self.place, CacheError) as shop:
            file = stages.enter(tr("fetch the model"), lambda: self.file(shop.folder))
            stages.enter(tr("convert"), lambda: self._convert(file, shop.export))
            stages.enter(tr("finish"), lambda: self._finish(shop))
        return self.place

    def _convert(self, file: Path, folder: Path) -> None:
        gguf = read_gguf(file)
        needed, free = written_bytes(gguf), disk_free(folder)
        if free is not None and needed > free:
            cause = tr("It takes {needed}, and {free} are free.")
            raise self._not_kept(cause.format(needed=gigabytes(needed), free=gigabytes(free)))
        write_checkpoint(gguf, folder)

    def _finish(self, shop: Workshop) -> None:
        sums = {f.name: (f.stat().st_size, sha256_of(f)) for f in shop.export.iterdir()}
        told = {"source": self.source, "files": sums}
        (shop.export / "README.md").write_text(self.card, encoding="utf-8")
        (shop.export / MANIFEST).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        shop.put_in_place(lambda: self.folder() is not None, replace=True)

    def _not_kept(self, cause: str) -> CacheError:
        fact = tr("{name} cannot be kept in {folder}.")
        return CacheError(
            fact.format(name=self.name, folder=self.place.parent),
            cause,
            tr("Free some space, or set HF_HOME to a folder that you may write to."),
        )


def conversion_of(file: Path) -> Conversion:
    """The checkpoint of a GGUF file that lies on this machine."""
    found, place = file.stat(), hashlib.sha256(os.fsencode(file)).hexdigest()[:8]
    name = re.sub(r"[^\w.-]", "_", file.name)[:_LONGEST_NAME]
    return Conversion(
        name=file.name,
        id=f"{name}-{place}",
        source=[_VERSION, found.st_size, found.st_mtime_ns],
        card=_CARD.format(name=file.name),
        file=lambda _: file,
    )
