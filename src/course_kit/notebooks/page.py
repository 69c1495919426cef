"""A notebook as the rules see it, and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["KERNEL", "Finding", "Page", "Rule"]

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


@dataclass(frozen=True)
class Page:
    """A notebook and where it stands.

    Attributes:
        path: The file.
        root: The repository it belongs to.
        nb: Its content, as stored.
        private: Texts that no output may hold, such as the folders of the machine it ran on.
    """

    path: Path
    root: Path
    nb: Any
    private: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The path from the repository's root, with slashes."""
        return self.path.relative_to(self.root).as_posix()

    def cells(self, kind: str) -> Iterator[tuple[int, Any]]:
        """Yield the cells of one type with their position, counted from 1."""
        yield from ((i, c) for i, c in enumerate(self.nb.cells, 1) if c.cell_type == kind)

    def outputs(self) -> Iterator[tuple[int, Any, Any]]:
        """Yield position, cell and output for every output."""
        yield from ((i, c, out) for i, c in self.cells("code") for out in c.outputs)

    def finding(self, cell: int | None, sentence: str) -> Finding:
        """Write down a finding on this page."""
        return Finding(self.place, cell, sentence)


@dataclass(frozen=True)
class Finding:
    """A place where a notebook breaks a rule.

    Attributes:
        place: The notebook's path from the repository's root.
        cell: The cell's position, counted from 1 over all cells; None for the whole notebook.
        sentence: What is wrong, and what would be right.
    """

    place: str
    cell: int | None
    sentence: str

    def __str__(self) -> str:
        return f"{self.place}{f', cell {self.cell}' if self.cell else ''}: {self.sentence}"


Rule = Callable[[Page], Iterator[Finding]]
