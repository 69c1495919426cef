"""Every translated notebook runs in its own language and says what is stored in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from course_kit.notebooks.check import find_faults
from course_kit.notebooks.executor import Outcome
from course_kit.notebooks.output_rules import no_stderr, only_wanted_errors
from course_kit.notebooks.page import Page
from course_kit.notebooks.pages import find_all_lessons, read_as_stored

ROOT = Path(__file__).parents[2]
PAGES = [path for path in find_all_lessons(ROOT) if "i18n" in path.relative_to(ROOT).parts]

Differences = Callable[[Any, Any], list[str]]
RunWith = Callable[[Path, Path, dict[str, Any]], Outcome]
Once = Callable[[Path, Callable[[], None]], None]  # these three are fixtures of conftest.py

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda path: path.relative_to(ROOT / "i18n").with_suffix("").as_posix()
)


@pytest.mark.slow
@pytest.mark.usefixtures("real_model")
@each_page
def test_page_runs_and_says_what_is_stored(
    page: Path, tmp_path: Path, run_with: RunWith, differences: Differences, once: Once
) -> None:
    """Under papermill, in its own language, without a warning, word for word as stored."""

    def test() -> None:
        outcome = run_with(page, tmp_path, {})
        assert outcome.result == "ok"
        fresh = nbformat.read(outcome.output, as_version=4)
        assert find_faults(Page(page, ROOT, fresh), [no_stderr, only_wanted_errors]) == []
        assert differences(read_as_stored(page), fresh) == []

    once(page, test)


def test_another_output_is_a_difference(differences: Differences) -> None:
    """The comparison sees one changed word, and none where the outputs are the same."""
    stored = read_as_stored(PAGES[0])
    assert differences(stored, read_as_stored(PAGES[0])) == []
    changed = read_as_stored(PAGES[0])
    outputs = [out for cell in changed.cells for out in cell.get("outputs", []) if "text" in out]
    outputs[0].text += "x"
    assert len(differences(stored, changed)) == 1


@each_page
def test_outputs_are_the_pages_own(page: Path) -> None:
    """A translated notebook was executed, and does not carry its source's outputs."""
    cells = [cell for cell in read_as_stored(page).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    source = read_as_stored(ROOT / read_as_stored(page).metadata.course_kit.source)
    english = [cell.outputs for cell in source.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] != english
