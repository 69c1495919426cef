"""A lock on an open file, which the system lets go of when its process ends, however it ends."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_LOCKED_BYTE = (1 << 31) - 2  # behind the end: Windows lets nobody else read what is locked


def try_lock(stream: IO[Any]) -> bool | None:
    """Lock a file for as long as it is open: None where this disk has no locks, False if taken.

    Containers of one machine see each other's locks; so do machines that share a network disk,
    where that disk has locks at all.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            place = stream.tell()
            stream.seek(_LOCKED_BYTE)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            stream.seek(place)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _TAKEN else None
    return True


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Let one thread or process go on at a time; where the disk has no locks, nobody waits."""
    with file.open("ab") as stream:
        while try_lock(stream) is False:
            time.sleep(0.2)
        yield
