"""What the disks of this machine say: the room left, the sum of a file."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["disk_free", "sha256_of"]


def disk_free(path: Path) -> int | None:
    """Bytes free on the disk of a file or folder, which need not exist yet.

    Returns:
        None where the machine does not say, as for a drive that is not there.
    """
    for folder in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def sha256_of(file: Path) -> str:
    """The SHA-256 sum of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
