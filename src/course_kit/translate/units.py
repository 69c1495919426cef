"""The unit of translation, and how texts are put in the units' places."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local_pipelines.wording.columns import columns

__all__ = ["Unit", "bare", "has_prose", "replace", "wrap"]

CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
MATH = re.compile(r"\$\$.+?\$\$|(?<![\w$])\$(?=\S)[^$\n]+?(?<=\S)\$(?![\w$])", re.DOTALL)
_TARGET = re.compile(r"\]\([^)]*\)|<https?://[^>]*>|https?://\S+")
_TAG = re.compile(r"</?[A-Za-z][^>]*>|<!--.*?-->|&\w+;", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]{2,}")
# A line may be broken after a space and between two ideographs, nowhere else.
_IDEOGRAPHS = r"\u3000-\u303f\u3040-\u30ff\u3400-\u9fff\uff00-\uffef"
_PIECE = re.compile(rf"[{_IDEOGRAPHS}]\s*|\S+?(?=[{_IDEOGRAPHS}])|\S+\s*|\s+")


@dataclass(frozen=True)
class Unit:
    """A text to translate and where it stands.

    Attributes:
        kind: What it is: heading, paragraph, list item, comment, string …
        text: The text as a translator sees it, soft line breaks joined.
        start: Where it begins in the source.
        end: Where it ends.
        write: Turns a translation into what stands in the source.
    """

    kind: str
    text: str
    start: int
    end: int
    write: Callable[[str], str] = str

    @property
    def is_code(self) -> bool:
        """Whether it belongs to the code: a comment or a string."""
        return self.kind in {"comment", "string", "f-string"}

    def moved(self, by: int) -> Unit:
        """Return the unit as it stands in a larger text."""
        return Unit(self.kind, self.text, self.start + by, self.end + by, self.write)


def replace(source: str, units: Sequence[Unit], translate: Callable[[Unit], str | None]) -> str:
    """Put translations in the places of units; all the rest stays byte for byte.

    Args:
        source: The text that the units were found in.
        units: The units.
        translate: Gives a unit's translation; None leaves its place as it is.

    Returns:
        The new text.
    """
    parts: list[str] = []
    position = 0
    for unit in sorted(units, key=lambda unit: unit.start):
        text = translate(unit)
        if text is not None:
            parts += [source[position : unit.start], unit.write(text)]
            position = unit.end
    return "".join([*parts, source[position:]])


def bare(text: str) -> str:
    """Return Markdown without code, mathematics, link targets and tags: the words that are read.

    >>> bare("Run `make lab`, see [the help](README.md).")
    'Run  , see [the help].'
    """
    for pattern, substitute in ((CODE_SPAN, " "), (MATH, " "), (_TARGET, "]"), (_TAG, " ")):
        text = pattern.sub(substitute, text)
    return text


def has_prose(text: str) -> bool:
    """Tell whether there is something to translate in a piece of Markdown."""
    return bool(_WORD.search(bare(text)))


def wrap(text: str, width: int) -> list[str]:
    """Cut a text into lines, also one without spaces; joined, the lines are the text again.

    Args:
        text: The text.
        width: Columns a line may take; an ideograph takes two.

    Returns:
        The lines, spaces at their ends kept.
    """
    lines = [""]
    for piece in _PIECE.findall(text):
        if lines[-1] and columns(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return lines
