"""The hidden folder in which an export or a model is made, beside the place where it will lie.

It gets its name when everything in it is written, by the disk too. What a process that was
killed leaves behind is put right by the next call for the same place.

Whether a process still works in such a folder is told by a lock on a file in it, which the system
lets go of when the process ends: so for all processes and containers of one machine. What another
machine began on a shared disk is left alone until nothing in it was written for a day, as is what
was begun before this machine was started anew, or on a disk that has no locks.
"""

from __future__ import annotations

import errno
import gc
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local_pipelines.errors import ExportError, LocalPipelinesError
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.file_lock import try_lock

_LOCK = "lock"
_DAY = 24 * 60 * 60
_WORKSHOP = r"\.{name}\.(partial|old)-(\d+-\d+-)?[0-9a-f]{{6}}"  # the second: of older versions
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP}  # of disks that have no such call


@dataclass(frozen=True)
class Workshop:
    """A hidden folder, the place beside it that its export is made for, and what lay there."""

    folder: Path
    place: Path
    before: int | None
    error: type[LocalPipelinesError] = ExportError

    @property
    def export(self) -> Path:
        """The folder that becomes the export."""
        return self.folder / "export"

    @property
    def old(self) -> Path:
        """Where the export that was there before lies while the two change places."""
        return self.folder / "old"

    def put_in_place(self, is_done: Callable[[], bool], *, replace: bool = False) -> None:
        """Give the finished export its name.

        Args:
            is_done: Says whether the very same export lies there; LocalPipelinesError means no. If
                another process has put it there meanwhile, this one is thrown away.
            replace: Let what lies there give way.

        Raises:
            LocalPipelinesError: What lies there cannot be replaced.
            OSError: Something else came to lie there.
        """
        _sync(self.export)
        at_home = self.place.is_dir() and self.place.samefile(os.curdir)
        if replace and not self._is_overtaken(is_done):
            self._set_aside()
        else:
            with suppress(OSError):
                self.place.rmdir()  # an empty one is in the way on Windows
        try:
            self.export.rename(self.place)
        except BaseException as error:
            if isinstance(error, OSError) and self._is_overtaken(is_done):
                return
            if not os.path.lexists(self.place) and self.old.exists():
                self.old.rename(self.place)
            raise
        if at_home:
            os.chdir(self.place)  # its old folder is gone, and with it every relative path
        _sync_one(self.place.parent)

    def _is_overtaken(self, is_done: Callable[[], bool]) -> bool:
        with suppress(LocalPipelinesError):
            return _number(self.place) != self.before and is_done()
        return False

    def _set_aside(self) -> None:
        try:
            self.place.rename(self.old)
        except FileNotFoundError:
            pass  # another process is just replacing it
        except OSError as error:
            raise self.error(
                tr("{folder} is outdated and cannot be replaced.").format(folder=self.place),
                f"{error.strerror or error}.",
                tr("Close the programs that use it, or delete it yourself."),
            ) from error


@contextmanager
def workshop(target: Path, error: type[LocalPipelinesError] = ExportError) -> Iterator[Workshop]:
    """A folder to work in, on the target's disk, which does not outlive the work.

    Args:
        target: What is made.
        error: What is raised where it cannot be.

    Raises:
        LocalPipelinesError: Nothing can be written there.
    """
    place = _real(target)
    folder = place.with_name(f".{place.name}.partial-{secrets.token_hex(3)}")
    shop = Workshop(folder, place, _number(place), error)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, shop.folder, ignore_errors=True)
        try:
            if place.is_symlink():  # still: links in a circle
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            shop.export.mkdir(parents=True)
            stack.enter_context(_sign(shop.folder))
        except OSError as fault:
            raise cannot_write(target, fault, error) from fault
        stack.callback(gc.collect)  # closes weights in use, which Windows would not delete
        yield shop


def cannot_write(
    target: Path, fault: OSError, error: type[LocalPipelinesError] = ExportError
) -> LocalPipelinesError:
    """Make the error for a place where nothing can be written."""
    return error(
        tr("Nothing can be written to {parent}.").format(parent=target.parent),
        f"{fault.strerror or fault}.",
        tr("Write a folder that is yours, such as one beside the notebook.")
        if error is ExportError
        else tr("Set HF_HOME to a folder that you may write to, and restart the kernel."),
    )


def recover(target: Path) -> None:
    """Put right what processes that were killed left behind of exports to `target`.

    If one was killed while a new export took the place of an old one, the new one, which was
    finished, gets the place. Everything else is removed.
    """
    place = _real(target)
    pattern = re.compile(_WORKSHOP.format(name=re.escape(place.name)))
    with suppress(OSError):
        for folder in [path for path in place.parent.iterdir() if pattern.fullmatch(path.name)]:
            with suppress(OSError):
                _recover_from(folder, place)


def _recover_from(folder: Path, place: Path) -> None:
    is_old = f"{place.name}.old-" in folder.name  # of older versions: the set aside export itself
    if not (is_old and not os.path.lexists(place)) and not _is_abandoned(folder):
        return
    old = folder if is_old else folder / "old"
    if old.exists() and not os.path.lexists(place):
        finished = folder / "export"
        (finished if finished.exists() else old).rename(place)
    shutil.rmtree(folder, ignore_errors=True)


# --- who works there ---------------------------------------------------------------------------


def _sign(folder: Path) -> IO[bytes]:
    """Lock the workshop for this process, and write down who can see that."""
    stream = (folder / _LOCK).open("wb")
    if try_lock(stream):
        stream.write(_whose_locks())
        stream.flush()
    return stream


def _whose_locks() -> bytes:
    """This run of this machine's system: its processes and containers see each other's locks."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return platform.node().encode()


def _is_abandoned(folder: Path) -> bool:
    with suppress(OSError), (folder / _LOCK).open("rb") as stream:
        if stream.read() == _whose_locks():
            return try_lock(stream) is True
    times = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
    return time.time() - max(times) > _DAY


# --- the disk ----------------------------------------------------------------------------------


def _number(folder: Path) -> int | None:
    """The number by which the disk knows a folder, whatever its name; None if it is not there."""
    with suppress(OSError):
        return folder.stat().st_ino
    return None


def _real(target: Path) -> Path:
    """The place itself, where the target is a link to another disk."""
    return Path(os.path.realpath(target))


def _sync(folder: Path) -> None:
    """Have everything written: after a power cut, files of zeros would have their right names."""
    for path in (*folder.rglob("*"), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(number)
