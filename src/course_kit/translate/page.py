"""A translated page out of its source and its catalogue; what is missing stays English."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import nbformat

from course_kit.notebooks.execute import write
from course_kit.notebooks.pages import read_as_stored, tags
from course_kit.translate.blocks import heading_slugs
from course_kit.translate.catalogue import translations
from course_kit.translate.code import LANGUAGE_CALL, magics, parse
from course_kit.translate.language_line import put_language_line
from course_kit.translate.languages import Language
from course_kit.translate.links import adjust_links
from course_kit.translate.progress import Progress
from course_kit.translate.sources import cell_units, text_units
from course_kit.translate.units import Unit, replace

__all__ = ["KIT", "MARK", "build_page", "is_language_call", "source_hash", "translate_notebook"]

MARK = "*[EN]*"  # before a block that is not translated yet


KIT = "course_kit"  # the key in a notebook's metadata


_SCRIPT_MARK = {"comment": "[EN] ", "string": "", "f-string": "", "HTML text": "[EN] ",
                "image description": "[EN] ", "link text": "[EN] "}  # fmt: skip


def build_page(
    state: Progress, published: Collection[str], path: Path, languages: str = ""
) -> None:
    """Write one translated page.

    Args:
        state: The page.
        published: The English pages that have a translation, for the links.
        path: Where to; a notebook that is there already gives its outputs if its code is the same.
        languages: The line with links to the other languages.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known = translations(state.language.catalogue(state.source.domain))
    if state.source.is_notebook:
        nb = translate_notebook(state, known, published, languages)
        _keep_outputs(nb, path)
        _write_if_changed(nb, path)
        return
    text = replace(state.source.text, text_units(state.source.path, state.source.text),
                   lambda unit: _translation(unit, known))  # fmt: skip
    if path.suffix == ".md":
        text = _finish_markdown(text, state, published, languages, is_first=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _translation(unit: Unit, known: Mapping[str, str]) -> str:
    if unit.text in known:
        return known[unit.text]
    return _SCRIPT_MARK.get(unit.kind, f"{MARK} ") + unit.text


def translate_notebook(
    state: Progress, known: Mapping[str, str], published: Collection[str], languages: str = ""
) -> Any:
    """Make a translated notebook, without outputs.

    Args:
        state: The page.
        known: The translations.
        published: The English pages that have a translation.
        languages: The line with links to the other languages.

    Returns:
        The notebook: same cells, ids and tags.
    """
    source = state.source.notebook
    cells = []
    for number, old in enumerate(source.cells):
        text = replace(old.source, cell_units(old), lambda unit: _translation(unit, known))
        cell = nbformat.from_dict({**old, "metadata": {**old.metadata}})
        if cell.cell_type == "code":
            cell.source = _set_language(text, state.language)
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = _finish_markdown(text, state, published, languages, is_first=not number)
        cells.append(cell)
    _lead_to_headings(source.cells, cells)
    return nbformat.from_dict(
        {
            "cells": cells,
            "metadata": {
                **source.metadata,
                KIT: {
                    "language": state.language.tag,
                    "source": state.source.place,
                    "source_hash": source_hash(source),
                    "translated": state.per_cent,
                },
            },
            "nbformat": source.nbformat,
            "nbformat_minor": source.nbformat_minor,
        }
    )


def _lead_to_headings(source: list[Any], cells: list[Any]) -> None:
    """Let links within the page follow their headings, whose anchors are their translated text."""
    old, new = (
        [slugs for cell in page if cell.cell_type == "markdown"
         for slugs in heading_slugs(cell.source)]
        for page in (source, cells)
    )  # fmt: skip
    if len(old) != len(new):
        return  # told by the checks
    anchors = {a: b for pair in zip(old, new, strict=True) for a, b in zip(*pair, strict=True)}
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = _ANCHOR.sub(
                lambda match: f"](#{quote(anchors.get(unquote(match[1]), unquote(match[1])))})",
                cell.source,
            )


_ANCHOR = re.compile(r"\]\(#([^)\s]+)\)")


def source_hash(nb: Any) -> str:
    """Sum up what an author has written in a notebook."""
    written = "\0".join(
        f"{cell.id}\0{put_language_line(cell.source, '')}\0{tags(cell)}" for cell in nb.cells
    )
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def code_hash(nb: Any) -> str:
    """Sum up what decides a notebook's outputs: its code, without comments that no output shows."""
    return hashlib.sha256("\0".join(_code(nb)).encode()).hexdigest()[:16]


def _code(nb: Any) -> Iterator[str]:
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        yield f"{cell.id} {tags(cell)}"
        try:  # a traceback shows the cell as it is written
            shown = "raises-exception" in tags(cell)
            yield cell.source if shown else ast.dump(parse(cell.source))
            yield from () if shown else magics(cell.source)
        except SyntaxError:
            yield cell.source


def _keep_outputs(nb: Any, path: Path) -> None:
    try:
        old = read_as_stored(path)
    except (OSError, ValueError):
        return
    if code_hash(old) != code_hash(nb):
        return
    ran = {cell.id: cell for cell in old.cells if cell.cell_type == "code"}
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = ran[cell.id].outputs
            cell.execution_count = ran[cell.id].execution_count


def _write_if_changed(nb: Any, path: Path) -> None:
    text = nbformat.writes(nb) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write(nb, path)


def _set_language(source: str, language: Language) -> str:
    """Tell `setup_environment()` the page's language: the one word that is put into the code."""
    try:
        calls = [node for node in ast.walk(parse(source)) if is_language_call(node)]
    except SyntaxError:
        return source
    for _ in calls:
        words = f'{LANGUAGE_CALL}(language="{language.tag}"'
        source = re.sub(rf"\b{LANGUAGE_CALL}\((?=\))", words, source)
    return source


def is_language_call(node: ast.AST) -> bool:
    """Tell whether a node is the call that sets a page's language, and leaves it open."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == LANGUAGE_CALL
        and not node.args
        and not node.keywords
    )


def _finish_markdown(
    text: str, state: Progress, published: Collection[str], languages: str, *, is_first: bool
) -> str:
    language, root = state.language, state.source.root
    text = put_language_line(text, "") if is_first else text
    text = adjust_links(text, state.source.place, language, published, root)
    text = put_language_line(text, languages) if is_first else text
    if language.direction == "rtl":
        title, blank, rest = text.partition("\n\n") if is_first else ("", "", text)
        text = f'{title}{blank}<div dir="rtl">\n\n{rest}\n\n</div>'
    return text
