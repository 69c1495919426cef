"""`course_kit new exercise` makes an exercise that works at once and only wants its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from course_kit.new import add_exercise, main
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
