"""Every exercise: its solution is right, each wrong answer gets its sentence, in every language."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_pipelines.exercises import data
from local_pipelines.exercises.checking import example, judge
from local_pipelines.exercises.data import FOLDER, LETTERS, Exercise
from local_pipelines.exercises.signs import SIGNS
from local_pipelines.wording.messages import available_languages, tr

FILES = sorted(FOLDER.glob("*.toml"))
EXERCISES = [each for file in FILES for each in data.read(file)]
PRACTICE = [each for each in EXERCISES if each.kind != "quiz"]
SOLVED = [each for each in PRACTICE if each.solution]
WRONG = [(each, number) for each in EXERCISES for number, _ in enumerate(each.wrong)]


@cache
def made_by_lesson(lesson: str) -> dict[str, Any]:
    """The names that a lesson's cells have made, on pocket."""
    content = tomllib.loads((FOLDER / f"{int(lesson):02d}.toml").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(content.get("test", {}).get("setup", ""), names)  # noqa: S102 - our own data
    return names


def solution_of(exercise: Exercise) -> Any:
    return example(exercise, exercise.solution, made_by_lesson(exercise.lesson))


def name_of(value: Any) -> str:
    return value.id if isinstance(value, Exercise) else str(value)


@pytest.fixture(params=available_languages())
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each language that there is a catalogue for."""
    monkeypatch.setenv("LOCAL_PIPELINES_LANGUAGE", request.param)
    return str(request.param)


@pytest.mark.parametrize("exercise", SOLVED, ids=name_of)
def test_a_solution_is_right_and_says_why(exercise: Exercise, language: str) -> None:
    """The solution of the data is right in every language, and the reason is told."""
    verdict = judge(exercise, solution_of(exercise))
    reasons = [exercise.right, *(each.right for each in exercise.options if each.right)]
    assert verdict, verdict
    assert any(tr(each) in verdict.text for each in reasons if each)


@pytest.mark.parametrize(("exercise", "number"), WRONG, ids=name_of)
@pytest.mark.filterwarnings("ignore")
def test_a_known_wrong_answer_gets_its_sentence(
    exercise: Exercise, number: int, language: str
) -> None:
    """A wrong answer that has a name gets exactly its sentence, in every language."""
    wrong = exercise.wrong[number]
    given = wrong.value
    if wrong.code:
        given = example(exercise, wrong.code, made_by_lesson(exercise.lesson))
    verdict = judge(exercise, given)
    assert not verdict
    assert verdict.text == tr(wrong.says)


@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e.options], ids=name_of)
def test_each_option_says_why(exercise: Exercise, language: str) -> None:
    """One option is right; each other one, by its letter or its value, says why it is wrong."""
    right = [each for each in exercise.options if each.right]
    assert len(right) == 1
    assert len(exercise.options) >= 4
    for letter, option in zip(LETTERS, exercise.options, strict=False):
        for given in (letter, option.value):
            verdict = judge(exercise, given)
            assert bool(verdict) is bool(option.right), verdict
            assert tr(option.right or option.says) in verdict.text


@pytest.mark.parametrize("exercise", PRACTICE, ids=name_of)
def test_an_exercise_is_whole(exercise: Exercise) -> None:
    """An exercise has two hints, and three wrong answers that are known; nothing is a skeleton."""
    assert len(exercise.hints) == 2
    assert len(exercise.wrong) >= 3 or len(exercise.options) >= 4
    assert all(sign in SIGNS for wrong in exercise.wrong for sign in wrong.signs)
    assert (exercise.kind == "repair") <= bool(exercise.code)
    assert exercise.right or exercise.options
    said = [each.says for each in exercise.wrong]
    assert len({*said}) == len(said)
    assert "TODO" not in repr(exercise)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_lesson_has_five_exercises_and_six_questions(file: Path) -> None:
    """Two predictions, two programs, one repair, in order; then a quiz of six questions."""
    kinds = [(each.id, each.kind) for each in data.read(file)]
    lesson = int(file.stem)
    five = ["prediction", "prediction", "program", "program", "repair"]
    wanted = [(f"{lesson}.{number}", kind) for number, kind in enumerate(five, 1)]
    wanted += [(f"{lesson}.q{number}", "quiz") for number in range(1, 7)]
    assert kinds[: len(wanted)] == wanted
    assert {kind for _, kind in kinds[len(wanted) :]} <= {"program", "repair", "prediction"}


def test_the_right_letter_is_not_always_the_same() -> None:
    """Who always clicks on one letter does not get far."""
    letters = [
        letter
        for each in EXERCISES
        for letter, option in zip(LETTERS, each.options, strict=False)
        if option.right
    ]
    assert max(map(letters.count, "abcd")) <= 0.5 * len(letters)


@pytest.mark.parametrize("exercise", [e for e in PRACTICE if not e.options], ids=name_of)
def test_no_sentence_gives_the_answer_away(exercise: Exercise) -> None:
    """What is said about an unknown wrong answer does not contain what was expected."""
    if exercise.expects != "function":
        return
    verdict = judge(exercise, lambda *_: {"nothing": "of the kind"})
    for call in exercise.calls:
        if isinstance(call["gives"], str) and len(call["gives"]) > 4:
            assert call["gives"] not in verdict.text


@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e.options], ids=name_of)
def test_harmless_variants_of_an_option_are_accepted(exercise: Exercise) -> None:
    """Blanks, capitals, quotes, brackets and numpy's numbers make no answer wrong."""
    number = next(n for n, each in enumerate(exercise.options) if each.right)
    letter, value = LETTERS[number], exercise.options[number].value
    variants: list[Any] = [
        letter.upper(),
        f" {letter} ",
        f"{letter})",
        f"'{letter}'",
        f"({letter})",
    ]
    if isinstance(value, str):
        variants += [f"  {value}\n", value.upper(), f'"{value}"', value.rstrip(".")]
    else:
        variants += [str(value), f" {value} ", np.float64(value), np.array(value)]
    for variant in variants:
        assert judge(exercise, variant), variant


@pytest.mark.parametrize("exercise", [e for e in PRACTICE if e.expects == "function"], ids=name_of)
def test_harmless_variants_of_a_function_are_accepted(exercise: Exercise) -> None:
    """A tuple in place of a list, numpy's numbers, and a callable object are as good."""
    solution = solution_of(exercise)

    def changed(value: Any) -> Any:
        if isinstance(value, list):
            return tuple(changed(each) for each in value)
        if isinstance(value, dict):
            return {name: changed(each) for name, each in value.items()}
        if isinstance(value, bool):
            return np.bool_(value)
        if isinstance(value, float | int):
            return np.float64(value)
        return value

    class Callable:
        def __call__(self, *arguments: Any) -> Any:
            return changed(solution(*arguments))

    assert judge(exercise, Callable()), judge(exercise, Callable())
    assert judge(exercise, lambda *arguments: solution(*arguments))


def test_texts_are_fit_for_a_translator() -> None:
    """What a translator gets has no code block in it, and no stray blanks at its ends."""
    for file in FILES:
        for text in data.sentences(file):
            assert "```" not in text
            assert text == text.strip()
            assert not re.search(r"\n(?!\n)", text.replace("\n\n", "")), text


@pytest.mark.filterwarnings("ignore")
def test_on_the_real_model_a_stop_may_come_too_early(smollm2_folder: Path) -> None:
    """SmolLM2 begins with a blank line: the sentence says what helps, and then it is right."""
    content = tomllib.loads((FOLDER / "03.toml").read_text(encoding="utf-8"))
    setup = content["test"]["setup"].replace('"pocket"', repr(str(smollm2_folder)))
    names: dict[str, Any] = {}
    exec(setup, names)  # noqa: S102 - our own data
    exercise = data.find("3.4")
    verdict = judge(exercise, example(exercise, exercise.solution, names))
    assert "end the prompt with it" in verdict.text
    template = names["prompt"].template + "\n\n"
    names["prompt"] = names["PromptTemplate"].from_template(template)
    assert judge(exercise, example(exercise, exercise.solution, names))
