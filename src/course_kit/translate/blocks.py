"""Markdown: its blocks by markdown-it-py's token positions; the markup around them stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from course_kit.translate.code import code_units
from course_kit.translate.units import Unit, has_prose
from local_pipelines import errors

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["heading_slugs", "markdown_units", "parser"]

_PARENTS = {
    "heading_open": "heading",
    "list_item_open": "list item",
    "blockquote_open": "quotation",
    "th_open": "table heading",
    "td_open": "table cell",
}
_ALT = re.compile(r"!\[([^\]]+)\]")
_LINK_TEXT = re.compile(r"(?<!!)\[([^\]\[!]+)\]\(")
_HTML_TEXT = re.compile(r""">([^<>]*[^\W\d_][^<>]*)<|\b(?:alt|title)\s*=\s*"([^"]*)\"""")
_BADGES = {"link_open", "link_close", "image", "softbreak"}
# What the package says is in the reader's language; what others say is English everywhere.
_MESSAGE = re.compile(rf"`(?:{'|'.join(errors.__all__)}): [^`]+`")
LANGUAGE_LINE = re.compile(r"^.*<!-- languages -->$", re.MULTILINE)


def parser() -> MarkdownIt:
    """Return the parser: CommonMark with tables, as JupyterLab and GitHub read it."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def heading_slugs(source: str) -> list[tuple[str, str]]:
    """List the anchors of the headings of a Markdown text, JupyterLab's and GitHub's of each."""
    tokens = parser().parse(source)
    titles = [b.content for a, b in pairwise(tokens) if a.type == "heading_open"]
    return [_slugs(re.sub(r"[`*_]|\]\([^)]*\)|\[", "", title).strip()) for title in titles]


def _slugs(title: str) -> tuple[str, str]:
    return title.replace(" ", "-"), re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def markdown_units(source: str, *, strings: bool = False) -> list[Unit]:
    """Find the units of a Markdown text.

    Args:
        source: The text.
        strings: Strings in its Python examples are units, too.

    Returns:
        The units in their order.
    """
    return list(_Reader(source, strings=strings).units())


class _Reader:
    """Walks over the tokens of one text and knows where its lines begin."""

    def __init__(self, source: str, *, strings: bool) -> None:
        self.source = source
        self.strings = strings
        self.lines = source.split("\n")
        self.offsets = [0, *accumulate(len(line) + 1 for line in self.lines)]
        self.cell = 0

    def units(self) -> Iterator[Unit]:
        parents: list[str] = []
        for token in parser().parse(self.source):
            if token.nesting > 0:
                parents.append(token.type)
                self.cell = 0 if token.type == "tr_open" else self.cell
            elif token.nesting < 0:
                parents.pop()
            elif token.map:
                yield from self._of(token, parents)

    def _of(self, token: Token, parents: list[str]) -> Iterator[Unit]:
        if token.type == "fence" and token.info.split()[:1] == ["python"]:
            yield from self._example(token)
        elif token.type == "html_block":
            yield from self._html(token)
        elif token.type == "inline":
            kinds = [_PARENTS[parent] for parent in parents if parent in _PARENTS]
            yield from self._text(token, kinds[-1] if kinds else "paragraph")

    def _start(self, token: Token) -> int:
        return self.offsets[token.map[0]] if token.map else 0

    def _example(self, token: Token) -> Iterator[Unit]:
        start = self.source.find(token.content, self._start(token))
        if start >= 0:  # indented in a list, its lines are not one piece of the source
            for unit in code_units(token.content, strings=self.strings):
                yield unit.moved(start)

    def _html(self, token: Token) -> Iterator[Unit]:
        start = self.source.find(token.content, self._start(token))
        for match in _HTML_TEXT.finditer(token.content):
            group = 1 if match[1] else 2
            text = match[group]
            if text.strip() and has_prose(text):
                begin = start + match.start(group) + len(text) - len(text.lstrip())
                joined = " ".join(text.split())
                yield Unit("HTML text", joined, begin, begin + len(text.strip()))

    def _text(self, token: Token, kind: str) -> Iterator[Unit]:
        span = self._cell(token) if kind.startswith("table") else self._span(token)
        if span is None or LANGUAGE_LINE.search(token.content):
            return
        start, end = span
        children = [child for child in token.children or [] if child.content.strip() != ""
                    or child.type in _BADGES]  # fmt: skip
        if any(child.type == "image" for child in children) and _only_badges(token):
            yield from self._badges(start, end)
        elif has_prose(token.content):
            write = _write_cell if kind.startswith("table") else _write_text
            yield Unit(kind, _join(token.content), start, end, write)
        elif _MESSAGE.fullmatch(token.content):
            yield Unit("message", token.content, start, end, _write_cell)

    def _badges(self, start: int, end: int) -> Iterator[Unit]:
        for pattern, kind in ((_ALT, "image description"), (_LINK_TEXT, "link text")):
            for match in pattern.finditer(self.source[start:end]):
                if has_prose(match[1]):
                    yield Unit(kind, match[1], start + match.start(1), start + match.end(1))

    def _span(self, token: Token) -> tuple[int, int] | None:
        first, last = token.map or (0, 0)
        texts = token.content.split("\n")
        begin = self.lines[first].rfind(texts[0].rstrip())
        end = self.lines[first + len(texts) - 1].rfind(texts[-1].strip())
        if begin < 0 or end < 0 or first + len(texts) > last:
            return None
        stop = self.offsets[first + len(texts) - 1] + end + len(texts[-1].strip())
        return self.offsets[first] + begin, stop

    def _cell(self, token: Token) -> tuple[int, int] | None:
        """Find a cell in its row; cells of one row come in their order."""
        row = token.map[0] if token.map else 0
        text = token.content.replace("|", r"\|")
        begin = self.lines[row].find(text, self.cell)
        if begin < 0:
            return None
        self.cell = begin + len(text)
        return self.offsets[row] + begin, self.offsets[row] + self.cell


def _only_badges(token: Token) -> bool:
    """Tell whether a block is pictures and links only, so that no sentence is cut apart."""
    depth = 0
    for child in token.children or []:
        depth += child.nesting if child.type.startswith("link") else 0
        if child.type not in _BADGES and not (
            child.type == "text" and (depth or not child.content.strip(" ·|"))
        ):
            return False
    return True


def _join(content: str) -> str:
    """Join soft line breaks; a hard one stays, as a line break in the catalogue."""
    text = re.sub(r"(?: {2,}|\\)\n\s*", "\0", content)
    return re.sub(r"\s*\n\s*", " ", text).replace("\0", "\n")


def _write_text(text: str) -> str:
    return text.replace("\n", "\\\n")


def _write_cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace("\n", "<br>")
