"""`translations stat`: how much of each page each language has."""

from __future__ import annotations

from pathlib import Path

from course_kit.notebooks.pages import read_as_stored
from course_kit.translate.catalogue import orphans, translations
from course_kit.translate.languages import find_languages
from course_kit.translate.progress import LEAST_PER_CENT, Progress, progress
from course_kit.translate.sources import find_sources

__all__ = ["format_orphans", "format_table", "needs_run", "overview"]


def overview(root: Path) -> list[Progress]:
    """Count the units of every page in every language."""
    return [progress(one, page) for one in find_languages(root) for page in find_sources(root)]


def format_orphans(root: Path) -> str:
    """Name the catalogues that belong to no page, a line each; empty where there are none."""
    sources = find_sources(root)
    lines = (
        f"\nWithout a page: {path.relative_to(root).as_posix()}, {len(translations(path))} units."
        for language in find_languages(root)
        for path in orphans(language, sources)
    )
    return "".join(lines)


def needs_run(state: Progress) -> bool:
    """Tell whether a translated notebook has no outputs, or those of other code."""
    if not state.source.is_notebook or not state.page.is_file():
        return False
    cells = [cell for cell in read_as_stored(state.page).cells if cell.cell_type == "code"]
    return any(cell.execution_count is None for cell in cells)


def format_table(states: list[Progress]) -> str:
    """Write the states as a table of Markdown, a line a page, a column a language."""
    languages = list(dict.fromkeys(state.language.code for state in states))
    by_page: dict[str, list[Progress]] = {}
    for state in states:
        by_page.setdefault(state.source.place, []).append(state)
    rows = [["page", "units", *languages]]
    for place, line in by_page.items():
        rows.append([place, str(line[0].total), *(_describe(state) for state in line)])
    rows.append(["all", *_totals(states, languages)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)) + " |"
             for r in rows]  # fmt: skip
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _describe(state: Progress) -> str:
    notes = [f"{state.per_cent} %"]
    if state.fuzzy:
        notes.append(f"{state.fuzzy} fuzzy")
    if not state.is_published:
        notes.append(f"not published (< {LEAST_PER_CENT} %)")
    elif not state.page.is_file():
        notes.append("not built")
    elif needs_run(state):
        notes.append("not executed")
    return ", ".join(notes)


def _totals(states: list[Progress], languages: list[str]) -> list[str]:
    cells = []
    for code in languages:
        own = [state for state in states if state.language.code == code]
        done, total = sum(s.done for s in own), sum(s.total for s in own)
        cells.append(f"{100 * done // total if total else 100} %")
    first = [state for state in states if state.language.code == languages[0]] if languages else []
    return [str(sum(state.total for state in first)), *cells]
