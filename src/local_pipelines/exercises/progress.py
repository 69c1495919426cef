"""What a learner has done: a small file that stays on this machine.

It holds a name, if one was typed, and for each exercise the tries and the day it was done. It is
plain JSON: it can be read, copied and deleted, and nothing sends it anywhere.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from local_pipelines.wording.messages import tr
from local_pipelines.workbench.file_lock import one_at_a_time

PLACE = "LOCAL_PIPELINES_PROGRESS"
_LARGEST = 1_000_000  # bytes; a whole course takes some thousand
_MOST_TRIES = 1_000_000


class DamagedError(Exception):
    """The file is there and is no file of progress."""


@dataclass(frozen=True)
class Record:
    """The tries of one exercise, and the day it was done, if it was."""

    tries: int = 0
    done: str = ""


@dataclass
class Progress:
    """What a file holds."""

    name: str = ""
    records: dict[str, Record] = field(default_factory=dict)


def progress_file() -> Path:
    """Where the file lies: LOCAL_PIPELINES_PROGRESS, or the user's folder for data."""
    given = os.environ.get(PLACE, "").strip()
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "local_pipelines" / "progress.json"


def read_progress(file: Path) -> Progress:
    """Read a file of progress; one that is not there is empty.

    Raises:
        DamagedError: It is something else.
        OSError: It cannot be read.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        return Progress()
    if len(content) > _LARGEST:
        raise DamagedError
    try:
        return _checked(json.loads(content.decode("utf-8-sig")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError from error


def _checked(content: Any) -> Progress:
    records = {}
    for number, row in content["exercises"].items():
        tries, done = row.get("tries"), row.get("done", "")
        if not re.fullmatch(r"\d{1,2}\.q?\d{1,2}", number, re.ASCII):
            raise ValueError
        if type(tries) is not int or not 0 <= tries <= _MOST_TRIES:
            raise ValueError
        if done:
            date.fromisoformat(done)
        records[number] = Record(tries, done)
    if not isinstance(content.get("name", ""), str):
        raise TypeError
    return Progress(whole_text(content.get("name", ""))[:80], records)


def whole_text(text: str) -> str:
    """A text without halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def note_try(number: str, *, right: bool) -> str:
    """Count one try of an exercise.

    Returns:
        A sentence where it could not be kept, or where a damaged file was put aside; else nothing.
    """

    def count(progress: Progress) -> None:
        before = progress.records.get(number, Record())
        if not before.done:
            done = date.today().isoformat() if right else ""
            progress.records[number] = Record(min(before.tries + 1, _MOST_TRIES), done)

    return _change(count)


def note_name(name: str) -> str:
    """Keep the name that a learner typed; what comes back is as of `note_try`."""

    def set_name(progress: Progress) -> None:
        progress.name = whole_text(str(name)).strip()[:80]

    return _change(set_name)


def _change(change: Any) -> str:
    file = progress_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(file.with_name(file.name + ".lock")):
            note = ""
            try:
                progress = read_progress(file)
            except DamagedError:
                progress, note = Progress(), _put_aside(file)
            change(progress)
            _write(file, progress)
            return note
    except OSError as error:
        text = tr("Your progress could not be kept in {file}: {reason}.")
        return text.format(file=file, reason=error.strerror or type(error).__name__)


def _put_aside(file: Path) -> str:
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    file.rename(aside)
    text = tr("The file of your progress was damaged: it is kept as {file}, and a new one begins.")
    return text.format(file=aside.name)


def _write(file: Path, progress: Progress) -> None:
    rows = {
        number: {"tries": each.tries} | ({"done": each.done} if each.done else {})
        for number, each in progress.records.items()
    }
    content = {"name": progress.name, "exercises": rows}
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    # Written beside it and put in its place: whoever reads gets the old file or the new one.
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".new")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
