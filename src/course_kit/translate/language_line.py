"""The line under a page's title that links to the page in all its languages."""

from __future__ import annotations

from pathlib import Path

from course_kit.notebooks.execute import write
from course_kit.translate.blocks import LANGUAGE_LINE
from course_kit.translate.links import translated_place
from course_kit.translate.progress import Progress
from course_kit.translate.sources import find_sources

__all__ = ["language_line", "link_english_pages", "put_language_line"]


def language_line(state: Progress | None, shown: list[Progress], place: str = "") -> str:
    """Write the line with links to a page in all its languages.

    Args:
        state: The page that gets the line; None for the English one.
        shown: The pages that a link may lead to.
        place: The English page, where there is no state.

    Returns:
        The line; nothing where there is only English.
    """
    place = state.source.place if state else place
    others = [other for other in shown if other.source.place == place]
    if not others:
        return ""
    up = "../" * (place.count("/") + (2 if state else 0))
    names = [f"[English]({up}{place})" if state else "English"]
    for other in others:
        target = up + translated_place(place, other.language)
        is_own = state is not None and other.language == state.language
        names.append(other.language.name if is_own else f"[{other.language.name}]({target})")
    return " · ".join(names) + " <!-- languages -->"


def put_language_line(text: str, line: str) -> str:
    """Put the line under a page's title, or take it away where it is empty."""
    text = LANGUAGE_LINE.sub("\0", text).replace("\0\n\n", "").replace("\n\n\0", "")
    title, blank, rest = text.partition("\n\n")
    return f"{title}\n\n{line}{blank}{rest}" if line else text


def link_english_pages(root: Path, shown: list[Progress]) -> None:
    """Keep the language line of the English pages right; a page without translations has none."""
    for source in find_sources(root):
        line = language_line(None, shown, source.place)
        if source.is_notebook:
            first = source.notebook.cells[0]
            text = put_language_line(first.source, line)
            if text != first.source:
                first.source = text
                write(source.notebook, source.path)
        elif source.path.suffix == ".md":
            text = put_language_line(source.text, line)
            if text != source.text:
                source.path.write_text(text, encoding="utf-8", newline="\n")
