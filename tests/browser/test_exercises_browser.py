"""The exercises of two lessons in a real JupyterLab: wrong, hint, right, card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from course_kit.notebooks.pages import find_lessons, read_as_stored

pytestmark = pytest.mark.slow

LESSONS = {path.stem[:2]: path for path in find_lessons(Path(__file__).parents[2] / "notebooks")}
FILLING = """
def answer_6_3(rows, filler):
    longest = max(map(len, rows))
    return [{row} for row in rows]
print(check_answer("6.3", answer_6_3))
"""
FILLER = "[filler] * (longest - len(row))"


def exercises(lesson: str) -> list[str]:
    """The cells of a lesson from its exercises on, as they are stored."""
    cells = read_as_stored(LESSONS[lesson]).cells
    first = next(n for n, cell in enumerate(cells) if cell.id == "exercises-import")
    return [cell.source for cell in cells[first:] if cell.cell_type == "code"]


def test_a_prediction_and_a_quiz_answer_a_click(
    lab: Any, open_notebook: Callable[..., Any]
) -> None:
    """Lesson 3: a wrong button says why, a hint helps, Enter on the right one, and the card."""
    own = ['print(hint("3.1"))', 'print(my_progress("3"))']
    cells = exercises("03")
    notebook = open_notebook(lab.write("three.ipynb", *cells[:2], cells[-1], *own))
    notebook.run_all()
    page = notebook.page
    page.get_by_role("button", name="b 4").first.click()
    page.get_by_text("The answers are missing").wait_for()
    assert page.get_by_role("status").filter(has_text="The answers are missing").count() == 1
    assert "Hint" in notebook.run(3)
    page.get_by_role("button", name="c 6").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("✓ 3.1: Right.").wait_for()
    page.get_by_role("button", name="b Nothing, and it tells nobody.").click()
    page.get_by_text("✓ 3.q1: Right.").wait_for()
    card = notebook.run(4)
    assert "3.1       ✓     2" in card
    assert "3.q1      ✓     1" in card
    assert page.get_by_text("Who keeps the conversation").locator("visible=true").count() == 1
    notebook.save()
    saved = nbformat.read(lab.folder / "three.ipynb", as_version=4)
    stored = [output for output in saved.cells[1].outputs if "text/html" in output.get("data", {})]
    assert "<p><b>Prediction 3.1" in stored[0].data["text/html"], "nothing is left to read later"
    assert "widgets" not in saved.metadata


def test_a_program_is_checked_in_a_cell(lab: Any, open_notebook: Callable[..., Any]) -> None:
    """Lesson 6 runs through unanswered; then a named wrong answer, a hint, a right one, a card."""
    own = [
        FILLING.format(row=f"row + {FILLER}"),
        'print(hint("6.3"))',
        FILLING.format(row=f"{FILLER} + row"),
        'print(my_progress("6"))',
    ]
    cells = exercises("06")
    notebook = open_notebook(lab.write("six.ipynb", *cells, *own))
    notebook.run_all()
    outputs = ["".join(each.get("text", "") for each in cell.outputs)
               for cell in notebook.code_cells()[len(cells):]]  # fmt: skip
    assert "The padding is on the wrong side" in outputs[0]
    assert outputs[1].startswith("Hint 1 of 2")
    assert outputs[2].startswith("✓ 6.3: Right.")
    assert "6.3       ✓     2" in outputs[3]
    assert notebook.page.get_by_text("○ 6.1").count() == 1
