"""Where the rows come from: a list, JSON lines, a table with commas, or Parquet.

One pass over the input, row by row, gives tickets: each says where the rows of one part begin. A
worker reads the rows of its tickets by itself, so that they never pass through the driver.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from local_pipelines.errors import failure
from local_pipelines.scale_out.records import RESULTS, ColumnTypes, Record, record
from local_pipelines.wording.grammar import listed
from local_pipelines.wording.messages import tr

_LONGEST_FIELD = 1 << 24  # characters; the csv module's own limit is 131,072


@dataclass(frozen=True)
class Ticket:
    """The rows of one part: its number, how many there are, and where they begin."""

    number: int
    first: int  # the number of its first row
    rows: int
    place: int = 0  # bytes from the file's start
    packed: bytes = b""  # the rows themselves, where they come from a list


Reader = Callable[[Ticket], list[Record]]


@dataclass(frozen=True)
class Inputs:
    """All that is known about an input after one look at it."""

    name: str
    tickets: list[Ticket]
    rows: int
    digest: str  # another one means other rows
    schema: Any  # pyarrow's, of the columns
    json_columns: frozenset[str]  # what is mixed or nested, kept as JSON
    read: Reader


def look_at(inputs: object, size: int, column: str | None) -> Inputs:
    """Count the rows, sum them up, and note where each part begins.

    Args:
        inputs: A list of texts or dictionaries, or a file: `.jsonl`, `.csv` or `.parquet`.
        size: The rows of a part.
        column: The column that is the prompt; None to ask with the whole row.

    Raises:
        ParameterError: It is neither, has no such column, or one with a name that is taken.
        PromptFileError: There is no such file, or it cannot be read.
    """
    if isinstance(inputs, list | tuple):
        return _listed(inputs, size, column)
    if not isinstance(inputs, str | os.PathLike):
        raise failure("inputs-unknown", kind=type(inputs).__name__)
    path = Path(inputs).absolute()
    look = {".jsonl": _json_lines, ".csv": _table, ".parquet": _parquet}.get(path.suffix.lower())
    if look is None:
        raise failure("inputs-of-no-kind", file=path.name)
    if not path.is_file():
        raise failure("no-prompt-file", file=path, folder=Path.cwd())
    try:
        return look(path, size, column)
    except OSError as error:
        if hasattr(error, "fact"):
            raise
        raise failure("prompts-unreadable", f"{error.strerror or error}.", file=path) from error


def _finished(
    name: str, types: ColumnTypes, tickets: list[Ticket], digest: str, read: Reader
) -> Inputs:
    import pyarrow as pa

    names = {"json": "string", "": "string"}
    kinds = {each: names.get(kind, kind) for each, kind in types.kinds.items()}
    schema = pa.schema([(each, pa.type_for_alias(kind)) for each, kind in kinds.items()])
    mixed = frozenset(each for each, kind in types.kinds.items() if kind == "json")
    rows = sum(ticket.rows for ticket in tickets)
    return Inputs(name, tickets, rows, digest, schema, mixed, read)


def _check_columns(name: str, names: Iterable[str], column: str | None, rows: int) -> None:
    names = [*names]
    if column is not None and rows and column not in names:
        raise failure(
            "no-such-column", file=name, column=column, names=listed(names), first=[*names, "…"][0]
        )
    if taken := sorted({*names} & {*RESULTS}):
        raise failure("column-taken", file=name, column=taken[0])


# ------------------------------------------------------------------------------- a list


def _listed(items: Iterable[Any], size: int, column: str | None) -> Inputs:
    types, summed = ColumnTypes(), hashlib.sha256()
    tickets: list[Ticket] = []
    stream, first = iter(items), 0
    while rows := list(islice(stream, size)):
        for number, row in enumerate(rows, first):
            types.see(record(row, number, column).fields)
            summed.update(_bytes_of(row) + b"\n")
        tickets.append(Ticket(len(tickets), first, len(rows), packed=pickle.dumps(rows)))
        first += len(rows)
    name = tr("the list")
    _check_columns(name, types.kinds, column, first)
    read = partial(read_list, column)
    return _finished(name, types, tickets, summed.hexdigest(), read)


def _bytes_of(row: object) -> bytes:
    try:
        return json.dumps(row, default=str, sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError):  # names that are no text, a circle
        return repr(row).encode("utf-8", "replace")


def read_list(column: str | None, ticket: Ticket) -> list[Record]:
    """Read the rows that a ticket carries."""
    rows = pickle.loads(ticket.packed)  # noqa: S301 - this program packed them
    return [record(row, number, column) for number, row in enumerate(rows, ticket.first)]


# ------------------------------------------------------------------------ lines of JSON


def _json_lines(path: Path, size: int, column: str | None) -> Inputs:
    types, summed, places, rows = ColumnTypes(), hashlib.sha256(), [], 0
    with path.open("rb") as stream:
        for number, (place, line) in enumerate(_lines(stream)):
            summed.update(line)
            places += [place] * (number % size == 0)
            types.see(_from_json(line, number, column).fields)
            rows = number + 1
    _check_columns(path.name, types.kinds, column, rows)
    read = partial(read_json_lines, path, column)
    return _finished(path.name, types, _tickets(places, rows, size), summed.hexdigest(), read)


def _tickets(places: list[int], rows: int, size: int) -> list[Ticket]:
    return [
        Ticket(number, number * size, min(size, rows - number * size), place)
        for number, place in enumerate(places)
    ]


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, and where they begin."""
    place = stream.tell()
    for line in iter(stream.readline, b""):
        if line.strip(b"\xef\xbb\xbf \t\r\n"):
            yield place, line
        place += len(line)


def _from_json(line: bytes, number: int, column: str | None) -> Record:
    try:
        return record(json.loads(line.decode("utf-8-sig")), number, column)
    except UnicodeDecodeError:
        return Record({}, error=tr("The prompt is not valid UTF-8."))
    except (ValueError, RecursionError):
        return Record({}, error=tr("Line {number} is not JSON.").format(number=number + 1))


def read_json_lines(path: Path, column: str | None, ticket: Ticket) -> list[Record]:
    """Read a ticket's lines."""
    with path.open("rb") as stream:
        stream.seek(ticket.place)
        lines = islice(_lines(stream), ticket.rows)
        return [_from_json(line, n, column) for n, (_, line) in enumerate(lines, ticket.first)]


# ----------------------------------------------------------------- a table with commas


def _table(path: Path, size: int, column: str | None) -> Inputs:
    types, summed, places, rows = ColumnTypes(), hashlib.sha256(), [], 0
    with path.open("rb") as stream:
        names = next(_table_rows(stream, summed.update), (0, []))[1]
        types.kinds = dict.fromkeys(names, "string")
        for place, _ in _table_rows(stream, summed.update):
            places += [place] * (rows % size == 0)
            rows += 1
    _check_columns(path.name, names, column, rows or 1)
    read = partial(read_table, path, names, column)
    return _finished(path.name, types, _tickets(places, rows, size), summed.hexdigest(), read)


def _table_rows(
    stream: IO[bytes], see: Callable[[bytes], object] = id
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, and where they begin; quoted cells may have several lines."""

    def decoded() -> Iterator[str]:
        for line in iter(stream.readline, b""):
            see(line)
            yield line.decode("utf-8-sig" if stream.tell() == len(line) else "utf-8", "replace")

    csv.field_size_limit(_LONGEST_FIELD)
    place = stream.tell()
    for cells in csv.reader(decoded()):
        if cells:
            yield place, cells
        place = stream.tell()


def read_table(path: Path, names: list[str], column: str | None, ticket: Ticket) -> list[Record]:
    """Read a ticket's rows of a table."""
    with path.open("rb") as stream:
        stream.seek(ticket.place)
        rows = islice(_table_rows(stream), ticket.rows)
        return [
            record(dict(zip(names, cells, strict=False)), number, column)
            for number, (_, cells) in enumerate(rows, ticket.first)
        ]


# ------------------------------------------------------------------------------ Parquet


def _parquet(path: Path, size: int, column: str | None) -> Inputs:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow.remove_metadata()
    except pa.ArrowInvalid as error:
        raise failure("no-parquet", str(error).splitlines()[0], file=path.name) from error
    _check_columns(path.name, schema.names, column, rows or 1)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    tickets = _tickets([*range(0, rows, size)], rows, size)
    read = partial(read_parquet, path, column)
    return Inputs(path.name, tickets, rows, digest, schema, frozenset(), read)


def read_parquet(path: Path, column: str | None, ticket: Ticket) -> list[Record]:
    """Read a ticket's rows of a Parquet file: of the row groups that hold them, no others."""
    import pyarrow.parquet as pq

    found: list[Record] = []
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if start < ticket.first + ticket.rows and ticket.first < end:
                first = max(ticket.first - start, 0)
                table = file.read_row_group(group)
                table = table.slice(first, ticket.first + ticket.rows - max(ticket.first, start))
                found += [
                    record(row, start + first + n, column)
                    for n, row in enumerate(table.to_pylist())
                ]
            start = end
    return found
