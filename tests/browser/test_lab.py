"""The first lesson in a real JupyterLab, as a learner opens and runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_the_first_lesson_runs_in_jupyterlab(lab: Any, open_notebook: Callable[..., Any]) -> None:
    """Run All Cells comes to the end, with the errors that the lesson wants and no others."""
    lesson = nbformat.read(ROOT / "notebooks" / "00_setup.ipynb", as_version=4)
    for cell in lesson.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(lesson, lab.folder / "00_setup.ipynb")
    notebook = open_notebook("00_setup.ipynb")
    notebook.run_all(seconds=400)

    cells = notebook.code_cells()
    for cell in cells:
        errors = [output for output in cell.outputs if output.output_type == "error"]
        wanted = "raises-exception" in cell.metadata.get("tags", [])
        assert bool(errors) == wanted, (cell.source, errors)
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell
    assert [cell.execution_count for cell in cells] == list(range(1, 1 + len(cells)))
    table = notebook.page.locator(".jp-OutputArea-output table").filter(has_text="Device").first
    table.scroll_into_view_if_needed()
    assert table.is_visible()
    assert "cpu" in table.text_content()
