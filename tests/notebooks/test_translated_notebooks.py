"""Every translated notebook runs in its own language and says what is stored in it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from course_kit.hygiene import Page, find_faults, no_stderr, only_wanted_errors
from course_kit.kernels import CleanRoom, clean_room
from course_kit.pages import find_all_lessons, read_as_stored
from course_kit.runner import Outcome

ROOT = Path(__file__).parents[2]
PAGES = [path for path in find_all_lessons(ROOT) if "i18n" in path.relative_to(ROOT).parts]

Compare = Callable[[Path, CleanRoom], subprocess.CompletedProcess[str]]
RunWith = Callable[[Path, Path, dict[str, Any]], Outcome]
Once = Callable[[Path, Callable[[], None]], None]  # these three are fixtures of conftest.py

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda path: path.relative_to(ROOT / "i18n").with_suffix("").as_posix()
)


@pytest.mark.slow
@each_page
def test_fresh_outputs_equal_the_stored_ones(page: Path, compare: Compare, once: Once) -> None:
    """A fresh run in the page's language says word for word what is stored."""

    def test() -> None:
        with clean_room(page.parent) as room:
            done = compare(room.folder / page.name, room)
        assert done.returncode == 0, done.stdout + done.stderr

    once(page, test)


@pytest.mark.slow
@each_page
def test_page_runs_under_papermill(
    page: Path, tmp_path: Path, run_with: RunWith, once: Once
) -> None:
    """A translated notebook runs to its end, without a warning, as its source does."""

    def test() -> None:
        outcome = run_with(page, tmp_path, {})
        assert outcome.result == "ok"
        fresh = nbformat.read(outcome.output, as_version=4)
        assert find_faults(Page(page, ROOT, fresh), [no_stderr, only_wanted_errors]) == []

    once(page, test)


@each_page
def test_outputs_are_the_pages_own(page: Path) -> None:
    """A translated notebook was executed, and does not carry its source's outputs."""
    cells = [cell for cell in read_as_stored(page).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    source = read_as_stored(ROOT / read_as_stored(page).metadata.course_kit.source)
    english = [cell.outputs for cell in source.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] != english
