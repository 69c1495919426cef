"""What the disks of this machine say: where models are kept, the room left, the sum of a file."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["disk_free", "hf_home", "sha256_of"]


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


def hf_home() -> Path:
    """The folder for models and what is made of them, as the Hub's client finds it.

    The client reads the variable once, when it is imported: it is not imported for this, so that
    `setup_environment` can still set it.
    """
    if client := sys.modules.get("huggingface_hub.constants"):
        return Path(client.HF_HOME)
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")  # noqa: PTH118
    return Path(os.path.expandvars(os.environ.get("HF_HOME") or default)).expanduser()
