"""`course_kit new exercise` makes an exercise that works at once and only wants its words."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from course_kit.new import add_cells, add_exercise, main
from local_pipelines.exercises.checking import example, judge
from local_pipelines.exercises.data import read


@pytest.mark.parametrize("number", ["42.1", "03.6"])
def test_a_skeleton_can_be_checked(tmp_path: Path, number: str) -> None:
    """The new exercise is read, its solution is right, its wrong answers are known."""
    (exercise,) = read(add_exercise(number, tmp_path))
    assert exercise.id == number.lstrip("0")
    assert judge(exercise, example(exercise, exercise.solution))
    for wrong in exercise.wrong:
        assert judge(exercise, example(exercise, wrong.code)).text == wrong.says


def test_a_second_one_goes_behind(tmp_path: Path) -> None:
    """What is in the file stays as it is; a number that is taken is refused."""
    before = add_exercise("42.1", tmp_path).read_text(encoding="utf-8")
    file = add_exercise("42.2", tmp_path)
    assert file.read_text(encoding="utf-8").startswith(before)
    assert [each.id for each in read(file)] == ["42.1", "42.2"]
    with pytest.raises(ValueError, match="already"):
        add_exercise("42.2", tmp_path)


@pytest.mark.parametrize("number", ["3", "../3.1", "3.q1", "", "3.1.1", "١.١"])
def test_a_wrong_number_is_told(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no number ends in one sentence, and no file is made."""
    assert main(["exercise", number]) == 2
    assert "is no number of an exercise" in capsys.readouterr().err


def test_a_lesson_gets_its_cells(tmp_path: Path) -> None:
    """The cells take the place of the old section, as lesson 3 has them; only once."""
    old = "## If it fails\nA table.\n\n## Exercises\n**1.** Old.\n\n## References\nLinks."
    file = tmp_path / "03_chains.ipynb"
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell(old)]), file)
    add_cells(file)
    cells = nbformat.read(file, as_version=4).cells
    lesson = Path(__file__).parents[2] / "notebooks" / "03_chains.ipynb"
    theirs = {cell.id: cell.source for cell in nbformat.read(lesson, as_version=4).cells}
    assert [cells[0].source, cells[-1].source] == [
        "## If it fails\nA table.",
        "## References\nLinks.",
    ]
    assert all(theirs[cell.id] == cell.source for cell in cells[1:-1])
    before = file.read_bytes()
    with pytest.raises(ValueError, match="has the cells already"):
        add_cells(file)
    assert file.read_bytes() == before
