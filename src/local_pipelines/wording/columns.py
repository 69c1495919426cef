"""Lines up text in tables: in HTML, or in a terminal, where a Chinese character is two columns."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# Where a line may end in text without blanks: after a wide character, and the closing mark, if
# any, that belongs to it; no line begins with such a mark.
_PIECE = re.compile(
    r"\s+|[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef][、。，；：！？）」』》”]*"
    r"|[^\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+[、。，；：！？）」』》”]*"
)


def columns(text: str) -> int:
    """Count the columns that a text takes.

    Examples:
        >>> columns("RAM"), columns("内存")
        (3, 4)
    """
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth, wcwidth  # tens of milliseconds that English does not need

    whole = wcswidth(text)
    # It gives -1 for a text with a line break or another control character.
    return whole if whole >= 0 else sum(max(0, wcwidth(character)) for character in text)


def pad(text: str, width: int) -> str:
    """Fill a text up with blanks to a width in columns."""
    return text + " " * (width - columns(text))


def align(rows: Iterable[Sequence[str]], indent: int = 0) -> str:
    """Write rows of cells below each other, two blanks between the columns.

    Examples:
        >>> print(align([("RAM", "8 GB"), ("内存", "16 GB")]))
        RAM   8 GB
        内存  16 GB
    """
    rows = list(rows)
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(pad, row, widths)).rstrip() for row in rows)
    return "\n".join(" " * indent + line for line in lines)


def fold(text: str, width: int, *, head: str, indent: int) -> str:
    """Break a paragraph into lines of a width, moved in by `indent` columns; long words stay whole.

    `head` stands before it in the first line.
    """
    lines, space = [""], width - indent
    for piece in _PIECE.findall(re.sub(r"\s", " ", text)):
        if lines[-1] and columns(lines[-1] + piece.rstrip()) > space:
            lines.append("")
        lines[-1] += piece if lines[-1] or piece.strip() else ""
    return pad(head, indent) + ("\n" + " " * indent).join(line.rstrip() for line in lines)


def html_table(
    rows: Iterable[Sequence[str]], *, head: Sequence[str] = (), row_heads: bool = False
) -> str:
    """Write rows of cells as a table for a notebook; what stands in the cells is escaped.

    The first cell of each row is its head where `row_heads` says so.
    """
    top = _html_row(head, ['th scope="col"'] * len(head)) if head else ""
    top = f"<thead>{top}</thead>" if top else ""
    front = 'th scope="row"' if row_heads else "td"
    body = "".join(_html_row(row, [front, *["td"] * (len(row) - 1)]) for row in rows)
    return f"<table>{top}<tbody>{body}</tbody></table>"


def _html_row(cells: Sequence[str], tags: Sequence[str]) -> str:
    # Only positions are set, no colours: the table reads in light and dark themes alike.
    style = 'style="text-align:left; vertical-align:top; white-space:normal"'
    written = (
        f"<{tag} {style}>{html.escape(text)}</{tag[:2]}>"
        for tag, text in zip(tags, cells, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"
