"""Every notebook keeps the hygiene rules, says what is stored, and runs with other parameters."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from course_kit.notebooks.check import check, find_faults
from course_kit.notebooks.executor import Outcome
from course_kit.notebooks.kernels import CleanRoom, clean_room
from course_kit.notebooks.output_rules import no_stderr, only_wanted_errors
from course_kit.notebooks.page import Page
from course_kit.notebooks.pages import (
    code_cells,
    find_all_lessons,
    find_lessons,
    parameters,
    read_as_stored,
)

ROOT = Path(__file__).parents[2]
LESSONS = find_lessons(ROOT / "notebooks")
Compare = Callable[[Path, CleanRoom], subprocess.CompletedProcess[str]]
RunWith = Callable[..., Outcome]
Differences = Callable[[Any, Any], list[str]]
Once = Callable[[Path, Callable[[], None]], None]  # these four are fixtures of conftest.py

# Other values than the lessons' own; each notebook gets those that it has.
OTHER = {
    "MAX_NEW_TOKENS": 8,
    "DEVICE": -1,
    "BATCH_SIZE": 3,
    "SEED": 7,
    "BACKEND": "openvino",
    "REAL_MODEL_ID": "pocket",  # as where no package index can be reached
}
# By the lesson's own. With OTHER, each lesson runs on each engine ("auto" is genai without a GPU).
ANOTHER_BACKEND = {"torch": "genai", "auto": "torch"}

# With the real model, the lessons take the engines in turn; a nightly run has all of them.
IN_TURN = dict(zip(LESSONS, cycle(("torch", "genai", "openvino")), strict=False))

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def settings(lesson: Path) -> dict[str, Any]:
    return parameters(read_as_stored(lesson))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the lessons one place for their exports: making one takes longer than many cells."""
    return tmp_path_factory.mktemp("models")


def test_first_lessons_are_there() -> None:
    """The other tests here, which run over what they find, do find the first lessons."""
    assert {"00_setup", "01_loading"} <= {lesson.stem for lesson in LESSONS}


@pytest.mark.parametrize(
    "lesson", find_all_lessons(ROOT), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_lesson_keeps_the_hygiene_rules(lesson: Path) -> None:
    """A notebook of any language breaks none of the rules."""
    findings = check(lesson, ROOT)
    assert not findings, "\n".join(map(str, findings))


@pytest.mark.slow
@each_lesson
@pytest.mark.usefixtures("real_model")
def test_fresh_outputs_equal_the_stored_ones(lesson: Path, compare: Compare, once: Once) -> None:
    """A fresh run says word for word what is stored, but in cells tagged nbval-ignore-output."""

    def test() -> None:
        with clean_room(lesson.parent) as room:
            done = compare(room.folder / lesson.name, room)
        assert done.returncode == 0, done.stdout + done.stderr

    once(lesson, test)


@pytest.mark.slow
@each_lesson
def test_lesson_runs_with_other_parameters(
    lesson: Path, tmp_path: Path, exports: Path, run_with: RunWith, once: Once
) -> None:
    """A notebook runs to its end, without a warning, when a learner changes its parameters."""
    own = settings(lesson)
    values = {name: value for name, value in OTHER.items() if name in own and own[name] != value}

    def test() -> None:
        outcome = run_with(lesson, tmp_path, values, models=exports)
        assert outcome.result == "ok"
        fresh = nbformat.read(outcome.output, as_version=4)
        assert fresh.metadata.papermill.parameters == values
        assert find_faults(Page(lesson, ROOT, fresh), [no_stderr, only_wanted_errors]) == []

    once(lesson, test)


@each_lesson
def test_lesson_has_a_backend(lesson: Path) -> None:
    """Each notebook has the parameter that names the engine, and loads a model with it."""
    assert settings(lesson)["BACKEND"] in ANOTHER_BACKEND
    cells = "\n".join(cell.source for cell in code_cells(read_as_stored(lesson)))
    assert "backend=BACKEND" in cells


@pytest.mark.slow
@each_lesson
@pytest.mark.usefixtures("real_model")
def test_lesson_holds_for_the_real_model(
    lesson: Path, tmp_path: Path, exports: Path, run_with: RunWith, once: Once
) -> None:
    """With SmolLM2 in place of pocket, a notebook runs to its end without a warning."""
    own = settings(lesson)
    values = {"MODEL_ID": "smollm2", "BACKEND": IN_TURN[lesson], "MAX_NEW_TOKENS": 8}
    values = {name: value for name, value in values.items() if name in own}

    def test() -> None:
        outcome = run_with(lesson, tmp_path, values, models=exports)
        assert outcome.result == "ok"
        fresh = nbformat.read(outcome.output, as_version=4)
        assert find_faults(Page(lesson, ROOT, fresh), [no_stderr, only_wanted_errors]) == []

    once(lesson, test)


@pytest.mark.slow
@each_lesson
@pytest.mark.usefixtures("real_model")
def test_lesson_says_the_same_on_another_backend(
    lesson: Path,
    tmp_path: Path,
    exports: Path,
    run_with: RunWith,
    differences: Differences,
    once: Once,
) -> None:
    """Another engine changes what the clock shows, and nothing of what is compared."""
    stored = read_as_stored(lesson)
    values = {"BACKEND": ANOTHER_BACKEND[parameters(stored)["BACKEND"]]}

    def test() -> None:
        outcome = run_with(lesson, tmp_path, values, models=exports)
        assert outcome.result == "ok"
        fresh = nbformat.read(outcome.output, as_version=4)
        assert find_faults(Page(lesson, ROOT, fresh), [no_stderr, only_wanted_errors]) == []
        assert differences(stored, fresh) == []

    once(lesson, test)


@pytest.mark.parametrize("value", [0, -1, "many"])
@pytest.mark.parametrize(
    "lesson",
    [lesson for lesson in LESSONS if "MAX_NEW_TOKENS" in settings(lesson)],
    ids=lambda path: path.stem,
)
def test_wrong_parameter_fails_before_a_model_is_loaded(
    lesson: Path, tmp_path: Path, value: object, run_with: RunWith
) -> None:
    """A number of tokens that cannot work ends the run in the cell that checks the parameters."""
    outcome = run_with(lesson, tmp_path, {"MAX_NEW_TOKENS": value})
    assert outcome.error.startswith("ParameterError: MAX_NEW_TOKENS"), outcome.result
    cells = code_cells(nbformat.read(outcome.output, as_version=4))
    assert "check_parameters(" in cells[outcome.cell - 1].source
    before = "\n".join(cell.source for cell in cells[: outcome.cell - 1])
    assert not re.search(r"from_model_id|from_pretrained|load_\w+\(|pipeline\(", before)


@pytest.mark.slow
def test_comparison_finds_what_differs(tmp_path: Path, compare: Compare) -> None:
    """The comparison sees changed words, warnings and a missing error, but not colours or tags."""
    stored = [
        ("print('new')", "old\n", ""),
        ("import sys; print('a warning', file=sys.stderr)", "", ""),
        ("pass", None, "raises-exception"),
        ("import os; print(os.getpid())", "1\n", "nbval-ignore-output"),
        ("print('\\x1b[31mred\\x1b[0m', flush=True); print('words')", "red\nwords\n", ""),
    ]
    notebook = tmp_path / "00_a.ipynb"
    nbformat.write(v4.new_notebook(cells=[_stored(*cell) for cell in stored]), notebook)
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = compare(notebook, CleanRoom(tmp_path, environment))
    failed = re.findall(r"^FAILED .*::Cell (\d)", done.stdout, re.MULTILINE)
    assert failed == ["0", "1", "2"], done.stdout + done.stderr


def _stored(source: str, text: str | None, tag: str) -> Any:
    """Make an executed cell that printed a text, or failed where there is none."""
    if text is None:
        outputs = [v4.new_output("error", ename="KeyError", evalue="'x'", traceback=[])]
    else:
        outputs = [v4.new_output("stream", name="stdout", text=text)] if text else []
    metadata = {"tags": [tag]} if tag else {}
    return v4.new_code_cell(source, execution_count=1, outputs=outputs, metadata=metadata)
