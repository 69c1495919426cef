"""What the disks of this machine say: the room left, the sum of a file."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path


def disk_free(path: Path) -> int | None:
    """Bytes free on the disk of a file or folder, which need not exist yet; None if unknown."""
    for folder in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk, or a home's quota, is full; libraries say it in text."""
    full = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
    return getattr(error, "errno", None) in full or "No space left" in str(error)


def sha256_of(file: Path) -> str:
    """The SHA-256 sum of a file's bytes, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- memory -----------------------------------------------------------------------------------

CGROUP = Path("/sys/fs/cgroup")
# Of cgroups version 2 and 1: the limit, what is used, and how memory.stat calls the part of it that
# is only a cache of files, which the kernel gives back to whoever needs memory.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def ram() -> tuple[int, int]:
    """Measure the RAM, total and free, in bytes; in a container, what the container may take."""
    import psutil

    memory = psutil.virtual_memory()
    for limit_file, used_file, stat_file, cached in _CGROUP_FILES:
        with suppress(OSError, ValueError):  # no such container, or one without a limit ("max")
            limit = int((CGROUP / limit_file).read_text())
            used = int((CGROUP / used_file).read_text()) - _stat(CGROUP / stat_file, cached)
            return min(memory.total, limit), max(0, min(memory.available, limit - used))
    return memory.total, memory.available


def _stat(file: Path, name: str) -> int:
    with suppress(OSError):
        if match := re.search(rf"^{name} (\d+)$", file.read_text(), re.MULTILINE):
            return int(match[1])
    return 0


def usable_cores() -> int:
    """How many cores this process may use."""
    # A container or a scheduler may allow fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
