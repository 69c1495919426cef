"""A translated notebook beside its source: the same program, with other words in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from course_kit.notebooks.page import KERNEL
from course_kit.notebooks.pages import tags
from course_kit.translate.blocks import heading_slugs
from course_kit.translate.code import (
    LANGUAGE_CALL,
    TAG,
    keeps,
    magics,
    masked,
    parse,
    string_nodes,
)
from course_kit.translate.languages import Language
from course_kit.translate.page import KIT, is_language_call, source_hash

__all__ = ["compare_notebooks", "same_program"]


def compare_notebooks(source: Any, page: Any, language: Language) -> Iterator[str]:
    """Compare a translated notebook with its source.

    Args:
        source: The English notebook.
        page: The translated one.
        language: Its language.

    Yields:
        What differs and should not.
    """
    if page.metadata.get("kernelspec") != KERNEL:
        yield "[kernel] other kernel metadata"
    facts = page.metadata.get(KIT, {})
    if facts.get("language") != language.tag:
        yield f"[language] its metadata say {facts.get('language')}, not {language.tag}"
    if facts.get("source_hash") != source_hash(source):
        yield "[stale] it was made from another state of its source"
    if [cell.id for cell in source.cells] != [cell.id for cell in page.cells]:
        yield "[cells] other cells, or another order"
        return
    for old, new in zip(source.cells, page.cells, strict=True):
        yield from (f"[{old.id}] {fault}" for fault in _compare_cells(old, new, language))
    yield from anchors(page)


def _compare_cells(old: Any, new: Any, language: Language) -> Iterator[str]:
    if (old.cell_type, tags(old)) != (new.cell_type, tags(new)):
        yield "[tags] another type or other tags"
    elif old.cell_type == "code":
        if magics(old.source) != magics(new.source):
            yield "[magics] other magics"
        try:
            if not same_program(old, new, language):
                yield "[program] the code differs by more than comments and tagged strings"
        except SyntaxError as error:
            yield f"[program] the code does not parse: {error.msg} (line {error.lineno})"


def same_program(old: Any, new: Any, language: Language) -> bool:
    """Compare two code cells, with the strings that may be translated left out.

    Args:
        old: The English cell.
        new: The translated one.
        language: What `setup_environment()` may be told.

    Returns:
        Whether nothing else differs.

    Raises:
        SyntaxError: One of them is not valid.
    """
    tree = parse(old.source)
    nodes = string_nodes(tree, masked(old.source), keeps(tags(old))) if TAG in tags(old) else []
    return _same(tree, parse(new.source), {id(node) for node in nodes}, language.tag)


def _same(old: Any, new: Any, free: set[int], tag: str) -> bool:
    if id(old) in free:
        return _fields(old) == _fields(new)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(
            _same(a, b, free, tag) for a, b in zip(old, new, strict=True)
        )
    if not isinstance(old, ast.AST):
        return type(old) is type(new) and bool(old == new)
    if type(old) is not type(new):
        return False
    if is_language_call(old):
        return ast.unparse(new) == f"{LANGUAGE_CALL}(language={tag!r})"
    return all(
        _same(getattr(old, name, None), getattr(new, name, None), free, tag) for name in old._fields
    )


def _fields(node: Any) -> list[str] | None:
    """List what a string's braces hold, in any order; None where it is no string."""
    if isinstance(node, ast.JoinedStr):
        return sorted(ast.dump(part) for part in node.values if not isinstance(part, ast.Constant))
    return [] if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def anchors(page: Any) -> Iterator[str]:
    """Require that links within a page lead to one of its headings."""
    texts = {cell.id: cell.source for cell in page.cells if cell.cell_type == "markdown"}
    there = {slug for text in texts.values() for pair in heading_slugs(text) for slug in pair}
    for text in texts.values():
        there.update(re.findall(r"""\b(?:id|name)\s*=\s*["']([^"']+)["']""", text))
    for name, text in texts.items():
        for anchor in re.findall(r"\]\(#([^)\s]+)\)", text):
            if unquote(anchor) not in there:
                yield f"[{name}] [anchor] the link #{anchor} leads to no heading of this page"
