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

from local_pipelines.errors import ParameterError, PromptFileError
from local_pipelines.wording.grammar import listed
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.file_lock import try_lock

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
    """A file of prompts: text with one a line, JSON lines, or a table with commas.

    Args:
        path: The file; its ending says which kind it is.
        column: The column of a table, or the field of each JSON line, that holds the prompt.

    Raises:
        PromptFileError: There is no such file, or it cannot be read.
        ParameterError: It has no such column.
    """

    def __init__(self, path: Path, column: str | None) -> None:
        self.path = path
        self._column = column
        self._read = {".csv": self._table, ".jsonl": self._json_lines}.get(
            path.suffix.lower(), self._lines
        )
        if column is not None and self._read == self._lines:
            raise ParameterError(
                tr("column={column!r} has no meaning for {file}.").format(
                    column=column, file=path.name
                ),
                tr("A file of text has one prompt in each line."),
                tr("Leave column out, or name the file .csv or .jsonl if it is one."),
            )
        self._check_encoding()

    def __iter__(self) -> Iterator[FilePrompt]:
        with _reading(self.path), self.path.open(**_AS_TEXT) as stream:
            for prompt in self._read(stream):
                yield _checked(prompt)

    def _check_encoding(self) -> None:
        with _reading(self.path), self.path.open("rb") as stream:
            if stream.read(2) in _WIDE:
                raise PromptFileError(
                    tr("{file} is not UTF-8.").format(file=self.path.name),
                    tr("It begins like UTF-16, as some Windows programs save text."),
                    tr('Save it as "UTF-8" and call again.'),
                )

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
        return FilePrompt(
            line,
            tr('Line {number} has no text under "{column}".').format(number=number, column=column),
        )

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
            raise PromptFileError(
                tr("{file} is no table with commas.").format(file=self.path.name),
                tr("Line {number}: {error}.").format(number=reader.line_num, error=error),
                tr("Correct the line and call again."),
            ) from error
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

    Args:
        path: The file; if it is there, it is gone on with.

    Raises:
        PromptFileError: It cannot be written, it is some other file, or somebody writes it now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answered = self.failed = 0
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = _opened(path)
            # Some network file systems have no locks. A lock file in their place would outlive a
            # process that was killed, and keep the file from being gone on with.
            if try_lock(self._stream) is False:
                self._stream.close()
                raise PromptFileError(
                    tr("Another call of answer_file is writing {file}.").format(file=path.name),
                    tr("Two at a time would spoil each other's answers."),
                    tr("Wait until that one is done or stop it, or give another target."),
                )

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
        with _writing(self.path):
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
        with _writing(self.path):
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
        raise PromptFileError(
            tr("{file} was deleted or replaced while answers were written to it.").format(
                file=self.path.name
            ),
            tr("Another program did it; one that syncs folders may have."),
            tr("Call answer_file again, with a target in a folder that is not synced."),
        )

    def _count(self, row: dict[str, Any]) -> None:
        self.failed += "error" in row
        self.answered += "error" not in row

    def _foreign(self) -> PromptFileError:
        return PromptFileError(
            tr("{file} holds something other than answers, and stays as it is.").format(
                file=self.path.name
            ),
            tr("Line {number} is not what answer_file writes there.").format(number=self.rows + 1),
            tr("Give another file as the target."),
        )


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
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except PromptFileError:
        raise
    except FileNotFoundError as error:
        raise PromptFileError(
            tr("There is no file {file}.").format(file=path),
            tr("The current folder is {folder}.").format(folder=Path.cwd()),
            tr("Correct the name, or give the whole path."),
        ) from error
    except OSError as error:
        raise PromptFileError(
            tr("{file} cannot be read.").format(file=path),
            f"{error.strerror or error}.",
            tr("Give a file that you may read."),
        ) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except PromptFileError:
        raise
    except OSError as error:
        raise PromptFileError(
            tr("{file} cannot be written.").format(file=path),
            f"{error.strerror or error}.",
            tr("Make room or give another target; what is written already is kept."),
        ) from error
