"""One row of the input, what a chain is asked for it, and the types that its columns have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local_pipelines.wording.messages import tr

TEXT_COLUMN = "prompt"  # what a text without a column is kept under
RESULTS = ("output", "usage", "error")  # the columns that are added
_INT64 = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True)
class Record:
    """A row that was read: its columns, what the chain is asked, and why that is impossible."""

    fields: dict[str, Any]
    asked: Any = None
    error: str = ""


def record(value: object, number: int, column: str | None) -> Record:
    """Make a record of what stands in a row.

    Args:
        value: A text, or a dictionary with the columns.
        number: The row's number, from 0.
        column: The column that is the prompt; None to ask with the whole row.
    """
    if isinstance(value, str):
        return _checked(Record({column or TEXT_COLUMN: value}, value), number)
    if not isinstance(value, dict):
        error = tr("Row {number} is neither text nor a dictionary, but {kind}.")
        return Record({}, error=error.format(number=number + 1, kind=type(value).__name__))
    fields = {str(name): each for name, each in value.items()}
    return _checked(Record(fields, fields if column is None else fields.get(column)), number)


def _checked(found: Record, number: int) -> Record:
    if isinstance(found.asked, dict | str) and found.asked:
        return found
    error = tr("Row {number} has no text to ask.").format(number=number + 1)
    return Record(found.fields, error=error)


class ColumnTypes:
    """The types of columns that hold for all rows: one that is mixed is kept as JSON."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}

    def see(self, fields: dict[str, Any]) -> None:
        """Look at one more row."""
        for name, value in fields.items():
            kind, before = _kind(value), self.kinds.get(name, "")
            if not before or before == kind or {before, kind} == {"int64", "double"}:
                self.kinds[name] = "double" if before == "double" and kind else kind or before
            elif kind:
                self.kinds[name] = "json"


def _kind(value: object) -> str:
    """The type of one value; empty for None, which has any.

    >>> _kind(True), _kind(3), _kind(1 << 70), _kind(0.5), _kind("a"), _kind([1]), _kind(None)
    ('bool', 'int64', 'json', 'double', 'string', 'json', '')
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return "int64" if value in _INT64 else "json"
    kinds: dict[type, str] = {bool: "bool", float: "double", str: "string", type(None): ""}
    return kinds.get(type(value), "json")
