"""What is said about answers that nobody thought of: one sentence, and never a traceback."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import check_answer, exercise, hint, quiz, show_solution
from local_pipelines.errors import ParameterError
from local_pipelines.exercises import checking, data
from local_pipelines.exercises.calling import TooLongError, bounded
from local_pipelines.exercises.checking import judge


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of progress of the test's own."""
    file = tmp_path / "progress.json"
    monkeypatch.setenv("LOCAL_PIPELINES_PROGRESS", str(file))
    return file


def test_no_answer_yet_is_said_and_not_counted(own_file: Path) -> None:
    """`...` is no answer: nothing is judged, and nothing is written."""
    verdict = check_answer("3.1", ...)
    assert repr(verdict) == "○ 3.1: not answered yet"
    assert not verdict
    assert not own_file.exists()


@pytest.mark.parametrize("number", ["3.9", "99.1", "", "3", "three", None, [], 3.7, "3.1; drop"])
def test_an_exercise_that_does_not_exist_is_named(number: Any) -> None:
    """A number that there is not ends in one sentence with one that there is."""
    for call in (exercise, hint, show_solution, lambda each: check_answer(each, 1)):
        with pytest.raises(ParameterError, match=r"There is no exercise .*Try"):
            call(number)


@pytest.mark.parametrize("number", ["3.1", " 03.1 ", 3.1])
def test_a_number_may_be_written_in_several_ways(number: Any) -> None:
    """A zero in front, blanks, and a number in place of a text are understood."""
    assert check_answer(number, 7)


class Hostile:
    """Raises whatever is done with it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError


RING: list[Any] = []
RING.append(RING)


@pytest.mark.parametrize(
    "answer",
    [None, "", "no such", -1, 10**400, float("nan"), float("inf"), True, [], {}, RING, object(),
     int, b"7", 7j, {7}, [7], "7 messages", lambda: 7],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_a_wrong_kind_of_answer_is_told(answer: Any) -> None:
    """A value of another kind is wrong in one short text, for each kind of exercise."""
    for number in ("3.1", "3.2", "3.3", "3.5", "3.q1"):
        if callable(answer) and number == "3.5":
            continue
        verdict = check_answer(number, answer)
        assert verdict.state == "wrong"
        assert 0 < len(verdict.text) < 400


def test_a_function_that_was_called_already_is_told() -> None:
    """Where a function is expected, its result is not enough."""
    text = judge(data.find("3.3"), "a text").text
    assert text == "This is str. A function is expected: write its name, without brackets."


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda text, stops: 1 / 0, "ended with ZeroDivisionError: division by zero"),
        (lambda text: text, "ended with TypeError"),
        (lambda text, stops: None, "the word return is missing"),
        (lambda text, stops: len(text), "returned int, and something else is expected"),
        (lambda text, stops: (each for each in text), "returned generator"),
        (lambda text, stops: exit(), "ended with SystemExit"),
        (lambda text, stops: "one", "1 of 5 trials are right"),
    ],
    ids=["error", "arguments", "no return", "kind", "generator", "exit", "some"],
)
def test_what_a_function_does_wrong_is_told(function: Any, said: str) -> None:
    """An error, a missing return, another kind, and a trial that fails: a sentence each."""
    verdict = judge(data.find("3.3"), function)
    assert not verdict
    assert said in verdict.text


def test_an_error_without_a_text_is_told() -> None:
    """Even an error whose text cannot be made does not end the check."""

    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def function(text: str, stops: list[str]) -> str:
        raise SpeechlessError

    assert "ended with SpeechlessError when" in judge(data.find("3.3"), function).text


def test_an_endless_loop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop without end is told after the limit, and does not run on."""
    monkeypatch.setattr(checking, "FUNCTION_SECONDS", 0.2)
    turns = [0]

    def endless(text: str, stops: list[str]) -> str:
        while True:
            try:
                turns[0] += 1
            except Exception:  # noqa: BLE001, S112 - as a learner may write
                continue

    assert "look for a loop that never ends" in judge(data.find("3.3"), endless).text
    seen = turns[0]
    time.sleep(0.2)
    assert turns[0] == seen


def test_a_check_works_in_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A button's click may come in another thread: the limit holds there, too."""
    results: list[bool] = []

    def check() -> None:
        with pytest.raises(TooLongError):
            bounded(lambda: threading.Event().wait(30), 0.1)
        results.append(bool(check_answer("3.1", 7)))

    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    assert results == [True]


def test_a_function_cannot_change_the_trials() -> None:
    """What a function does to its arguments does not reach the next check."""
    before = repr(data.find("6.3").calls)

    def destroy(rows: list[list[int]], filler: int) -> list[list[int]]:
        rows.clear()
        return rows

    assert not judge(data.find("6.3"), destroy)
    assert repr(data.find("6.3").calls) == before


def test_a_hostile_object_does_not_end_the_check() -> None:
    """An object that raises whatever is done with it is judged as any other."""
    for number in ("3.1", "3.3", "3.q1"):
        assert check_answer(number, Hostile()).state == "wrong"


def test_a_chain_may_be_a_function() -> None:
    """Whatever answers is a chain: here a function, which says too much, or an object."""
    repair = data.find("3.5")
    assert judge(repair, lambda inputs: "The capital of Peru is Lima.")
    echo = judge(repair, lambda inputs: f"<|user|>{inputs['question']} Lima.")
    assert "it still comes back with the answer" in echo.text
    assert "a text is expected of it" in judge(repair, lambda inputs: 3).text
    assert "KeyError" in judge(repair, lambda inputs: inputs["qestion"]).text


def test_an_answer_may_be_in_either_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option is known by its words in the reader's language, and in English."""
    monkeypatch.setattr(checking, "tr", lambda message: f"fr {message}")
    found = data.find("0.1")
    for given in (found.options[1].value, f"fr {found.options[1].value}", "B"):
        assert judge(found, given).text.startswith("fr Right. fr An empty variable")


def test_a_chain_is_asked_in_the_readers_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question comes in the language of the lesson; English where it has none."""
    asked: list[str] = []
    for name in ("fr", "zh_CN", "xx"):
        monkeypatch.setattr(checking, "language", lambda name=name: name)
        judge(data.find("3.5"), lambda inputs: asked.append(inputs["question"]) or "Lima")
    assert asked == [
        "Quelle est la capitale du Pérou ?", "秘鲁的首都是哪里？", "What is the capital of Peru?"
    ]  # fmt: skip


def test_hints_grow_and_the_last_stays() -> None:
    """The second hint is another one, and is given again when asked for more."""
    first, second, third = (repr(hint("8.3")) for _ in range(3))
    assert first.startswith("Hint 1 of 2: ")
    assert second == third
    assert second.startswith("Hint 2 of 2: ")
    assert "no hints" in repr(hint("3.q1"))


def test_a_solution_is_shown_with_its_reason() -> None:
    """Code for a program, the letter for a choice, and why it is right for both."""
    assert "def answer_3_3" in repr(show_solution("3.3"))
    assert "The stop that comes first" in repr(show_solution("3.3"))
    assert repr(show_solution("3.1")).startswith("**d** 7")


def test_an_exercise_shows_no_answer() -> None:
    """An exercise shows its text, its code and its options, and nothing of why."""
    shown = repr(exercise("3.1"))
    assert "- **d** 7" in shown
    assert "```python\nhistory" in shown
    found = data.find("3.1")
    assert not any((each.right or each.says) in shown for each in found.options)


def test_a_quiz_is_checked_as_a_whole() -> None:
    """A letter for each question gets a verdict each; `...` leaves one out."""
    verdicts = quiz("3", answers=["b", "c", "a", "d", "a", ...])
    assert [each.state for each in verdicts] == ["right"] * 5 + ["unanswered"]
    assert [bool(each) for each in quiz("03", answers="bcadad")] == [True] * 6
    assert repr(quiz("3")).count("**Question") == 6


@pytest.mark.parametrize("answers", [["a"], "ab", 3, {"a": 1}, []])
def test_a_wrong_number_of_answers_is_told(answers: Any) -> None:
    """Six questions want six answers."""
    with pytest.raises(ParameterError, match="has 6 questions"):
        quiz("3", answers=answers)


@pytest.mark.parametrize("lesson", ["99", "", None, True, "three"])
def test_a_lesson_without_a_quiz_is_told(lesson: Any) -> None:
    """A lesson that there is not ends in one sentence."""
    with pytest.raises(ParameterError, match="no lesson"):
        quiz(lesson)


def test_a_broken_file_of_exercises_is_told(tmp_path: Path) -> None:
    """A teacher's slip in a file names the file and what is wrong."""
    file = tmp_path / "42.toml"
    for content in (
        "[[exercise",
        '[[exercise]]\nid = "42.1"',
        '[[exercise]]\nid = 3\nkind = "quiz"',
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ParameterError, match=r"42\.toml cannot be read"):
            data.read(file)


def test_buttons_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A click says in a live region whether the answer is right, and counts as a try."""
    monkeypatch.setenv("LOCAL_PIPELINES_WIDGETS", "1")
    made: list[Any] = []
    from local_pipelines.widgets import style

    real = style.made

    def keep(*arguments: Any, **options: Any) -> Any:
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(style, "made", keep)
    bundle = exercise("3.1")._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    buttons = [each for each in made if type(each).__name__ == "Button"]
    assert [each.description for each in buttons] == ["a  3", "b  4", "c  6", "d  7"]
    said = next(each for each in made if "lp-said" in each._dom_classes)
    buttons[0].click()
    assert 'role="status"' in said.value
    assert "These are the questions alone" in said.value
    buttons[3].click()
    assert "Right." in said.value


def test_without_a_browser_it_is_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no widget can be seen, the text stands in the output."""
    monkeypatch.setenv("LOCAL_PIPELINES_WIDGETS", "0")
    bundle = exercise("3.1")._repr_mimebundle_()
    assert {*bundle} == {"text/plain", "text/markdown"}
