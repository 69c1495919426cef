"""Writes the translated pages of all languages, and takes away those not good enough."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from course_kit.notebooks.pages import find_lessons
from course_kit.translate.language_line import language_line, link_english_pages
from course_kit.translate.languages import find_languages
from course_kit.translate.page import build_page
from course_kit.translate.progress import Progress, progress
from course_kit.translate.sources import find_sources

__all__ = ["build"]


def build(root: Path, languages: Collection[str] = ()) -> list[Progress]:
    """Write the translated pages of all languages, and remove those that are not good enough.

    Args:
        root: The repository.
        languages: Their codes; all by default.

    Returns:
        The state of each page.
    """
    all_languages = find_languages(root)
    states = [
        progress(language, source) for language in all_languages for source in find_sources(root)
    ]
    chosen = [state for state in states if not languages or state.language.code in languages]
    shown = [s for s in states if s.is_published and (s in chosen or s.page.is_file())]
    for state in chosen:
        _store(state, shown)
    link_english_pages(root, shown)
    for language in all_languages:
        wanted = {state.page for state in states}
        for orphan in set(find_lessons(language.folder / "notebooks")) - wanted:
            orphan.unlink()
    return states


def _store(state: Progress, shown: list[Progress]) -> None:
    if not state.is_published:
        state.page.unlink(missing_ok=True)
        return
    own = {other.source.place for other in shown if other.language == state.language}
    build_page(state, own, state.page, language_line(state, shown))
