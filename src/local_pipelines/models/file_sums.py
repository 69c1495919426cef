"""Sums of files: each is taken once, and again when the file has changed.

Hashing gigabytes takes longer than loading them. So what was found is kept in `HF_HOME`, with the
size, the time and the number on the disk that the file had then. The folder itself is not written
to: it may be somebody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines.errors import ModelError
from local_pipelines.models.checkpoint import read_json
from local_pipelines.workbench.cache_folder import hf_home
from local_pipelines.workbench.machine import sha256_of

_LARGE = 10**9  # bytes that take seconds to hash


@dataclass(frozen=True)
class FileSum:
    """A file's size, and its SHA-256 sum; an empty one was never taken."""

    size: int
    sha256: str = ""


def changed_file(
    folder: Path, files: Mapping[str, FileSum], *, trust_times: bool = True
) -> str | None:
    """The first of a folder's files that does not hold what it should; None if all do.

    A sum that was taken when the file had the same size and time is believed, if `trust_times`.
    Where sums cannot be kept for the next time, those of more than a gigabyte are not taken.
    """
    for name, file in files.items():
        if (folder / name).stat().st_size != file.size:
            return name
    summed = {name: file for name, file in files.items() if file.sha256}
    is_large = sum(file.size for file in summed.values()) > _LARGE
    if is_large and trust_times and not _keep(_memory(folder), json_object(_memory(folder))):
        return None
    found = known_sums(folder, summed, trust_times=trust_times)
    return next((name for name in summed if found[name] != summed[name]), None)


def known_sums(
    folder: Path, names: Iterable[str], *, trust_times: bool = True
) -> dict[str, FileSum]:
    """The sums of a folder's files, taken now or known from before."""
    known = json_object(_memory(folder)) if trust_times else {}
    notes: dict[str, list[Any]] = {}
    for name in names:
        found = (folder / name).stat()
        state = [found.st_size, found.st_mtime_ns, found.st_ino]
        match known.get(name):
            case [*then, str(sha256)] if then == state:
                notes[name] = [*state, sha256]
            case _:
                notes[name] = [*state, sha256_of(folder / name)]
    if notes != known:
        _keep(_memory(folder), notes)
    return {name: FileSum(note[0], note[3]) for name, note in notes.items()}


def json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is none that can be understood."""
    with suppress(ModelError):
        return read_json(file)
    return {}


def _memory(folder: Path) -> Path:
    place = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    return hf_home() / "local_pipelines" / "sums" / f"{place}.json"


def _keep(memory: Path, notes: Mapping[str, Any]) -> bool:
    """Write sums down, if that can be; half of them, after a kill, are as good as none."""
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(notes), encoding="utf-8")
        return True
    return False
