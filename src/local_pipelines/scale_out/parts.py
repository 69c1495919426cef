"""The folder of answers: a file for each part, which is there as a whole or not at all.

A part's file is the only record that its rows are done, so nothing can come between a write and its
record. Its name is the part's number: whoever writes it twice writes it over, and doubles nothing.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines.errors import failure
from local_pipelines.scale_out.inputs import Inputs
from local_pipelines.workbench.file_lock import try_lock

_MANIFEST, _LOCK = "_run.json", "_lock"  # readers of Parquet folders pass over such names
_TOKENS = ("input_tokens", "output_tokens", "total_tokens")


@dataclass(frozen=True)
class Form:
    """How rows are written: the columns, and the format."""

    folder: Path
    schema: Any  # pyarrow's, of the input's columns
    json_columns: frozenset[str]

    @property
    def ending(self) -> str:
        """The format: the folder's name says it."""
        return ".jsonl" if self.folder.suffix == ".jsonl" else ".parquet"

    def path(self, number: int) -> Path:
        """Where a part stands."""
        return self.folder / f"part-{number:09d}{self.ending}"

    def write(self, number: int, rows: list[dict[str, Any]]) -> None:
        """Write a part; when this returns it is on the disk, and before there is none."""
        hidden = self.folder / f".part-{uuid.uuid4().hex}"
        try:
            with hidden.open("wb") as stream:
                if self.ending == ".jsonl":
                    lines = (json.dumps(row, ensure_ascii=False, default=str) for row in rows)
                    stream.writelines(line.encode("utf-8", "replace") + b"\n" for line in lines)
                else:
                    self._write_parquet(stream, rows)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(hidden, self.path(number))  # noqa: PTH105 - the tests take its place
        except BaseException:
            with suppress(OSError):
                hidden.unlink()
            raise

    def _write_parquet(self, stream: Any, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        usage = pa.struct([(name, pa.int64()) for name in _TOKENS])
        added = [("output", pa.string()), ("usage", usage), ("error", pa.string())]
        schema = pa.schema([*self.schema, *map(pa.field, *zip(*added, strict=True))])
        written = [{name: self._cell(name, value) for name, value in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(written, schema=schema), stream)

    def _cell(self, name: str, value: Any) -> Any:
        if name in self.json_columns and value is not None:
            value = json.dumps(value, default=str)
        elif name == "output" and value is not None and not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False)
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

    def read(self, number: int) -> list[dict[str, Any]]:
        """Read a part."""
        if self.ending == ".jsonl":
            text = self.path(number).read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines()]
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.ParquetFile(self.path(number)).read().to_pylist()
        return rows

    def failed(self, number: int) -> int:
        """How many rows of a part have an error."""
        if self.ending == ".jsonl":
            return sum(row["error"] is not None for row in self.read(number))
        import pyarrow.parquet as pq

        errors = pq.ParquetFile(self.path(number)).read(columns=["error"])["error"]
        return len(errors) - int(errors.null_count)


@contextmanager
def opened(form: Form) -> Iterator[None]:
    """Keep the folder for this run alone; what killed runs began is removed.

    Raises:
        PromptFileError: It cannot be written, is something else, or another run is writing it.
    """
    folder = form.folder
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = {each.name for each in folder.iterdir()} - {_LOCK}
        if names and _MANIFEST not in names and any(not n.startswith(".") for n in names):
            raise failure("no-run-folder", folder=folder.name)
        lock = (folder / _LOCK).open("ab")
    with lock:
        if try_lock(lock) is False:
            raise failure("run-locked", folder=folder.name)
        _remove_begun(folder)
        try:
            yield
        finally:
            _remove_begun(folder)


def _remove_begun(folder: Path) -> None:
    for file in folder.glob(".part-*"):
        file.unlink(missing_ok=True)


def size_of(folder: Path) -> int | None:
    """The rows of a part of a run that was begun; None where there is none."""
    found = _manifest(folder)
    return found["batch_size"] if found else None


def check_run(form: Form, inputs: Inputs, size: int, column: str | None) -> None:
    """Write down what the run is about, or compare it with what was written down.

    Raises:
        PromptFileError: The folder holds the answers of another run.
    """
    about = {
        "run": 1,
        "inputs": inputs.digest,
        "rows": inputs.rows,
        "column": column,
        "batch_size": size,
    }
    found = _manifest(form.folder)
    if found and found != about:
        raise failure("other-run", folder=form.folder.name, inputs=inputs.name)
    with explained(form.folder):
        hidden = form.folder / f".part-{uuid.uuid4().hex}"
        hidden.write_text(json.dumps(about), encoding="utf-8")
        hidden.replace(form.folder / _MANIFEST)


def _manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / _MANIFEST
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["run"] == 1 and int(found["batch_size"]) > 0:
            return dict(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise failure("no-run-folder", folder=folder.name)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Make a sentence of what the system says about the folder."""
    try:
        yield
    except OSError as error:
        if hasattr(error, "fact"):
            raise
        raise failure("answers-unwritable", f"{error.strerror or error}.", file=folder) from error
