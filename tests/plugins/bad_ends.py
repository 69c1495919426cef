"""The tables "If it fails" of the lessons, and whether a message is what a row promises."""

from __future__ import annotations

import re
from pathlib import Path

from course_kit.notebooks.pages import find_notebooks, read_as_stored

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def rows(lesson: str) -> list[str]:
    """Read what a reader sees, the first column of a lesson's table "If it fails"."""
    (path,) = find_notebooks([lesson], NOTEBOOKS)
    cells = [cell.source for cell in read_as_stored(path).cells if cell.cell_type == "markdown"]
    (table,) = re.findall(r"## If it fails\n(.*?)\n\n", "\n\n".join([*cells, ""]), re.DOTALL)
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return [columns[0] for columns in lines[2:]]  # after the heading and its rule


def row_with(lesson: str, words: str) -> str:
    """Find the one row with these words."""
    (row,) = [row for row in rows(lesson) if words in row]
    return row


def shows(row: str, message: str) -> bool:
    """Whether a message has all that a row quotes, in code or in quotation marks, in its order."""
    quoted = [first or second for first, second in re.findall(r'`([^`]+)`|"([^"]+)"', row)]
    pieces = [piece.strip() for text in quoted for piece in text.split("…") if piece.strip()]
    found = re.search(".*".join(map(re.escape, pieces)), " ".join(message.split()))
    return bool(pieces) and found is not None
