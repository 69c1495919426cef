"""Reads prompts from a file and keeps their answers in another, line by line.

Neither file is ever in memory as a whole: ten lines and a million cost the same.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from local_pipelines.errors import LocalPipelinesError, ParameterError, PromptFileError, failure
from local_pipelines.wording.grammar import listed
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.file_lock import try_lock

_UNREADABLE, _UNWRITABLE = "prompts-unreadable", "answers-unwritable"  # tables of sentences.toml
_DEFAULT_COLUMN = "prompt"
_LONGEST_FIELD = 1 << 24  # characters; the csv module's own limit is 131,072
_LONE = re.compile("[\ud800-\udfff]")  # what bytes that are no UTF-8 are read as
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class FilePrompt:
    """One prompt of a file."""

    text: str  # where it is broken, as much of it as can be written down
    error: str = ""  # why it cannot be answered


class PromptSource:
    """A file of prompts, by its ending: text with one a line, JSON lines, or a table with commas.

    `column` is the table's column, or each JSON line's field, that holds the prompt.
    """

    def __init__(self, path: Path, column: str | None) -> None:
        self.path = path
        self._column = column
        readers = {".csv": self._table, ".jsonl": self._json_lines}
        self._read = readers.get(path.suffix.lower(), self._lines)
        if column is not None and self._read == self._lines:
            raise failure("column-of-text", column=column, file=path.name)
        self._check_encoding()

    def __iter__(self) -> Iterator[FilePrompt]:
        with _explained(self.path, _UNREADABLE), self.path.open(**_AS_TEXT) as stream:
            for prompt in self._read(stream):
                yield _checked(prompt)

    def _check_encoding(self) -> None:
        with _explained(self.path, _UNREADABLE), self.path.open("rb") as stream:
            if stream.read(2) in _WIDE:
                raise failure("not-utf-8", file=self.path.name)

    def _lines(self, stream: IO[str]) -> Iterator[FilePrompt]:
        for line in stream:
            if line.strip():
                yield FilePrompt(line.rstrip("\r\n"))

    def _json_lines(self, stream: IO[str]) -> Iterator[FilePrompt]:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield self._from_json(line.strip(), number)

    def _from_json(self, line: str, number: int) -> FilePrompt:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return FilePrompt(line, tr("Line {number} is not JSON.").format(number=number))
        column = self._column or _DEFAULT_COLUMN
        prompt = row.get(column) if isinstance(row, dict) else row
        if isinstance(prompt, str) and prompt.strip():
            return FilePrompt(prompt)
        error = tr('Line {number} has no text under "{column}".')
        return FilePrompt(line, error.format(number=number, column=column))

    def _table(self, stream: IO[str]) -> Iterator[FilePrompt]:
        before = csv.field_size_limit(_LONGEST_FIELD)
        try:
            # strict=False: a stray quotation mark spoils one row, not the file.
            reader = csv.DictReader(stream)
            column = self._column_of(reader.fieldnames or [])
            for row in reader:
                prompt = row.get(column) or ""
                if prompt.strip():
                    yield FilePrompt(prompt)
        except csv.Error as error:
            told = {"file": self.path.name, "number": reader.line_num, "error": error}
            raise failure("no-table", **told) from error
        finally:
            csv.field_size_limit(before)

    def _column_of(self, names: Any) -> str:
        name = self._column or (names[0] if len(names) == 1 else _DEFAULT_COLUMN)
        if names and name not in names:
            raise ParameterError(
                tr('{file} has no column "{column}".').format(file=self.path.name, column=name),
                tr("Its columns are {columns}.").format(columns=listed([*map(str, names)])),
                tr("Write column={column!r}.").format(column=names[0]),
            )
        return str(name)


class AnswerFile:
    """The file of answers: one JSON object a line, in the order of the prompts.

    One that is there is gone on with, unless it is some other file or somebody writes it now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answered = self.failed = 0
        with _explained(path, _UNWRITABLE):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = _opened(path)
            # Some network file systems have no locks. A lock file in their place would outlive a
            # process that was killed, and keep the file from being gone on with.
            if try_lock(self._stream) is False:
                self._stream.close()
                raise failure("answers-locked", file=path.name)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.answered + self.failed

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read_rows(self) -> Iterator[dict[str, Any]]:
        """Give the rows that are there. A last line that was never finished is cut off."""
        end = 0
        with _explained(self.path, _UNWRITABLE):
            for line in self._stream:
                row = _parsed(line)
                if not line.endswith(b"\n"):  # the process ended in the middle of writing it
                    if not self.rows and not _is_begun(line):
                        raise self._foreign()
                    break
                if row is None or row["index"] != self.rows:
                    raise self._foreign()
                self._count(row)
                end += len(line)
                yield row
            self._stream.seek(end)
            self._stream.truncate()

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Add rows. When this returns they are on the disk."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with _explained(self.path, _UNWRITABLE):
            self._stream.write(text.encode("utf-8", "replace"))
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._check_in_place()
        for row in rows:
            self._count(row)

    def _check_in_place(self) -> None:
        """Notice that the file was deleted or replaced: what is written then is nowhere."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self.path.stat(), os.fstat(self._stream.fileno())):
                return
        raise failure("answers-gone", file=self.path.name)

    def _count(self, row: dict[str, Any]) -> None:
        self.failed += "error" in row
        self.answered += "error" not in row

    def _foreign(self) -> LocalPipelinesError:
        return failure("no-answers", file=self.path.name, number=self.rows + 1)


_AS_TEXT: dict[str, Any] = {
    "encoding": "utf-8-sig",  # some editors begin a file with a mark
    "errors": "surrogateescape",  # a broken byte is one prompt's misfortune, not the file's
    "newline": "",
}


def _checked(prompt: FilePrompt) -> FilePrompt:
    if not _LONE.search(prompt.text):
        return prompt
    error = prompt.error or tr("The prompt is not valid UTF-8.")
    return FilePrompt(_LONE.sub("\ufffd", prompt.text), error)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("x+b")
    except FileExistsError:
        return path.open("r+b")


def _is_begun(line: bytes) -> bool:
    """Tell whether a piece of a line is the beginning of the first row.

    >>> _is_begun(b'{"ind'), _is_begun(b'{"index": 0, "prompt": "What'), _is_begun(b'{"mine": 1}')
    (True, True, False)
    """
    first = b'{"index": 0, "prompt": '
    return line.startswith(first) or first.startswith(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and isinstance(row.get("prompt"), str) and "index" in row
    return row if whole and ("answer" in row or "error" in row) else None


@contextmanager
def _explained(path: Path, reason: str) -> Iterator[None]:
    """Make the error of a table of what the system says about a file."""
    try:
        yield
    except PromptFileError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and reason == _UNREADABLE:
            raise failure("no-prompt-file", file=path, folder=Path.cwd()) from error
        raise failure(reason, f"{error.strerror or error}.", file=path) from error
