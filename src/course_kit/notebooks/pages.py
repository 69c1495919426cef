"""Where the notebooks lie and what is in them: the few questions that every command asks."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat

__all__ = [
    "LESSON_PATTERN",
    "code_cells",
    "find_all_lessons",
    "find_lessons",
    "find_notebooks",
    "find_root",
    "links",
    "parameters",
    "prose",
    "read_as_stored",
    "repository_url",
    "syntax_tree",
    "tags",
]

LESSON_PATTERN = "[0-9][0-9]_*.ipynb"


def find_root(start: Path | None = None) -> Path:
    """Find the repository that a folder belongs to.

    Args:
        start: The folder to start from; the current one by default.

    Returns:
        The nearest folder upwards that has a `pyproject.toml`, or `start` itself.
    """
    start = (start or Path.cwd()).resolve()
    return next((f for f in (start, *start.parents) if (f / "pyproject.toml").is_file()), start)


def repository_url(root: Path) -> str:
    """Read the repository's address, without a slash at its end, from `pyproject.toml`."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Repository"]).rstrip("/")


def find_lessons(folder: Path) -> list[Path]:
    """List the numbered notebooks of one folder in their order."""
    return sorted(folder.glob(LESSON_PATTERN))


def find_all_lessons(root: Path) -> list[Path]:
    """List every numbered notebook of a repository: the English ones, then the translated."""
    folders = [root / "notebooks", *sorted(root.glob("i18n/*/notebooks"))]
    return [lesson for folder in folders for lesson in find_lessons(folder)]


def read_as_stored(path: Path) -> Any:
    """Read a notebook exactly as it is, without the repairs that `nbformat.read` makes.

    Args:
        path: The notebook.

    Returns:
        Its `NotebookNode`.

    Raises:
        ValueError: The file is no notebook of format 4.
    """
    try:
        nb = nbformat.v4.reads(path.read_text(encoding="utf-8"))
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a notebook: {error}") from error
    if nb.get("nbformat") != 4 or "cells" not in nb:
        raise ValueError(f"{path.name} is not a notebook of format 4.")
    return nb


def tags(cell: Any) -> list[str]:
    """List a cell's tags."""
    return list(cell.metadata.get("tags", []))


def code_cells(nb: Any) -> list[Any]:
    """List the code cells that have something to run."""
    return [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]


def syntax_tree(cell: Any) -> ast.Module:
    """Parse a code cell as IPython would read it: magics and shell lines are calls.

    Args:
        cell: The code cell.

    Returns:
        The tree of the Python code.

    Raises:
        SyntaxError: The cell is not valid.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    python: str = TransformerManager().transform_cell(cell.source)
    return ast.parse(python)


def parameters(nb: Any) -> dict[str, Any]:
    """Read the values in a notebook's cells tagged `parameters`.

    Args:
        nb: The notebook.

    Returns:
        The values by name; `...` stands for a value that is no literal.
    """
    values: dict[str, Any] = {}
    for cell in code_cells(nb):
        if "parameters" in tags(cell):
            values.update(_assignments(syntax_tree(cell)))
    return values


def _assignments(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value:
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, _literal(node.value)  # type: ignore[attr-defined]


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...


_FENCE = re.compile(r"^[ \t>]*(```|~~~).*?^[ \t>]*\1", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"(`+)[^`].*?\1", re.DOTALL)
_LINK = re.compile(
    r"""\]\(\s*<?([^)\s>]+)[^)]*\)"""  # [text](target "title")
    r"""|^\[[^\]]+\]:\s*<?([^\s>]+)"""  # [name]: target
    r"""|\b(?:href|src)\s*=\s*["']([^"']+)["']""",
    re.MULTILINE,
)


def prose(markdown: str) -> str:
    """Return Markdown without its code, where a `#` or a bracket means something else."""
    return _CODE_SPAN.sub("", _FENCE.sub("", markdown))


def links(markdown: str) -> list[str]:
    """List the targets of all links and images of a Markdown text, HTML ones included.

    >>> links("[a](b.md), `[c](d.md)` and <img src='e.png'>")
    ['b.md', 'e.png']
    """
    return ["".join(groups) for groups in _LINK.findall(prose(markdown))]


def find_notebooks(names: Sequence[str], folder: Path) -> list[Path]:
    """Find the notebooks that were named, or all numbered ones.

    Args:
        names: Paths, file names, names without ending, or numbers such as `01`.
        folder: Where the notebooks are.

    Returns:
        Their paths.

    Raises:
        FileNotFoundError: A name fits nothing, or there is no notebook at all.
    """
    lessons = find_lessons(folder)
    if not names and not lessons:
        raise FileNotFoundError(f"There is no notebook named like 00_setup.ipynb in {folder}.")
    return [_find_notebook(name, lessons) for name in names] if names else lessons


def _find_notebook(name: str, lessons: Sequence[Path]) -> Path:
    if Path(name).is_file():
        return Path(name)
    for lesson in lessons:
        if name in (lesson.name, lesson.stem, lesson.stem[:2]):
            return lesson
    there = ", ".join(lesson.stem for lesson in lessons) or "none"
    raise FileNotFoundError(f"There is no notebook {name}; there are: {there}.")
