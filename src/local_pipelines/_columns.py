"""Lines up text in the fixed columns of a terminal, where a Chinese character takes two of them."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["align", "columns", "fold", "pad"]

# Where a line may end in text without blanks: after a wide character, and the closing mark, if
# any, that belongs to it; no line begins with such a mark.
_PIECE = re.compile(
    r"\s+|[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef][、。，；：！？）」』》”]*"
    r"|[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+[、。，；：！？）」』》”]*"
)


def columns(text: str) -> int:
    """How many columns a text takes."""
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int) -> str:
    """Fill a text up with blanks to a width in columns."""
    return text + " " * (width - columns(text))


def align(rows: Iterable[Sequence[str]], indent: int = 0) -> str:
    """Write rows of cells below each other, two blanks between the columns."""
    rows = list(rows)
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(pad, row, widths)).rstrip() for row in rows)
    return "\n".join(" " * indent + line for line in lines)


def fold(text: str, width: int, *, head: str, indent: int) -> str:
    """Break a text into lines that fit a width; long words are left whole.

    Args:
        text: One paragraph.
        width: Columns of a line.
        head: What stands before it in the first line.
        indent: Columns that it is moved in, in each line.
    """
    if text.isascii() or len(text) == columns(text):
        return textwrap.fill(
            text,
            width,
            initial_indent=pad(head, indent),
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    lines, room = [""], width - indent
    for piece in _PIECE.findall(text):
        if lines[-1] and columns(lines[-1] + piece.rstrip()) > room:
            lines.append("")
        lines[-1] += piece if lines[-1] or piece.strip() else ""
    return pad(head, indent) + ("\n" + " " * indent).join(line.rstrip() for line in lines)
