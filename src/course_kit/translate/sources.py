"""The English sources: notebooks, README and .env.example, and the units in each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from course_kit.notebooks.pages import find_lessons, read_as_stored, tags
from course_kit.translate.blocks import markdown_units
from course_kit.translate.code import TAG, code_units, keeps
from course_kit.translate.units import Unit, wrap

__all__ = ["Source", "cell_units", "find_sources", "settings_units"]

_SETTINGS_WIDTH = 95
_HEADING = re.compile(r"# --- (?P<title>.+?) -{3,}")
_VARIABLE = re.compile(r"#?\s*[A-Z][A-Z0-9_]*=")


@dataclass(frozen=True)
class Source:
    """An English page.

    Attributes:
        root: The repository.
        path: The file.
    """

    root: Path
    path: Path

    @property
    def place(self) -> str:
        """The path from the repository's root, with slashes."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def is_notebook(self) -> bool:
        """Whether it has cells."""
        return self.path.suffix == ".ipynb"

    @property
    def domain(self) -> str:
        """The name of its catalogues."""
        return (
            self.path.name.removesuffix(".ipynb").removesuffix(".md").lstrip(".").replace(".", "_")
        )

    @cached_property
    def notebook(self) -> Any:
        """The notebook, as stored."""
        return read_as_stored(self.path)

    @cached_property
    def text(self) -> str:
        """The text of a page without cells."""
        return self.path.read_text(encoding="utf-8")

    def units(self) -> Iterator[tuple[str, Unit]]:
        """Yield each unit with its reference: the file and, in a notebook, the cell's id."""
        if self.is_notebook:
            for cell in self.notebook.cells:
                yield from ((f"{self.place}:{cell.id}", unit) for unit in cell_units(cell))
        else:
            yield from ((self.place, unit) for unit in text_units(self.path, self.text))


def find_sources(root: Path) -> list[Source]:
    """List all pages that are translated, in the order of a learner."""
    pages = [root / ".env.example", root / "README.md", *find_lessons(root / "notebooks")]
    return [Source(root, page) for page in pages if page.is_file()]


def cell_units(cell: Any) -> list[Unit]:
    """Find the units of a notebook's cell."""
    strings = TAG in tags(cell)
    if cell.cell_type == "markdown":
        return markdown_units(cell.source, strings=strings)
    return code_units(cell.source, strings=strings, keep=keeps(tags(cell)))


def text_units(path: Path, text: str) -> list[Unit]:
    """Find the units of a page without cells."""
    return markdown_units(text) if path.suffix == ".md" else settings_units(text)


def settings_units(text: str) -> list[Unit]:
    """Find the comments of a file of settings, paragraph by paragraph."""
    units: list[Unit] = []
    paragraph: list[str] = []
    start = position = 0
    for line in [*text.split("\n"), ""]:
        heading = _HEADING.fullmatch(line)
        if line.startswith("# ") and not heading and not _VARIABLE.match(line):
            start = position if not paragraph else start
            paragraph.append(line[2:].strip())
        elif paragraph:
            units.append(_settings_comment(" ".join(paragraph), start, position - 1))
            paragraph = []
        if heading:
            units.append(_settings_heading(heading, position))
        position += len(line) + 1
    return units


def _settings_comment(text: str, start: int, end: int) -> Unit:
    def write(translation: str) -> str:
        return "\n".join(f"# {line.rstrip()}" for line in wrap(translation, _SETTINGS_WIDTH - 2))

    return Unit("comment", text, start, end, write)


def _settings_heading(heading: re.Match[str], position: int) -> Unit:
    def write(translation: str) -> str:
        return f"# --- {translation} ".ljust(len(heading[0]), "-")

    return Unit("heading", heading["title"], position, position + len(heading[0]), write)
