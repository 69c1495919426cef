"""What a lesson asks for: exercises and a quiz, answers that are checked, hints and solutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local_pipelines.errors import failure
from local_pipelines.exercises.checking import judge
from local_pipelines.exercises.data import LETTERS, Exercise, find, lesson_number, of_lesson
from local_pipelines.exercises.progress import note_name, note_try, progress_file
from local_pipelines.exercises.progress_page import ProgressPage, read_page
from local_pipelines.exercises.showing import (
    Shown,
    choice,
    choices,
    fenced,
    statement,
    with_options,
)
from local_pipelines.exercises.verdict import Verdict
from local_pipelines.widgets import style
from local_pipelines.widgets.quiz import question_box, question_html
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.workbench import front_end

_hints_given: dict[str, int] = {}


class Question(Shown):
    """Exercises to answer: buttons where a browser is, else Markdown that tells what to write."""

    def __init__(self, exercises: Sequence[Exercise]) -> None:
        self._exercises = exercises
        super().__init__("\n\n".join(map(with_options, exercises)))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        here = [each for each in self._exercises if each.options]
        if not here or not front_end.widgets_work():
            return {"text/plain": repr(self), "text/markdown": repr(self)}
        record = front_end.Record()  # a notebook that is opened again has no widgets
        box = style.styled("lp-quiz", [_box(each) for each in here], record.hiding)
        record.show(question_html(repr(self)), repr(self))
        return style.show(box, repr(self))


def _box(each: Exercise) -> Any:
    return question_box(
        statement(each), choices(each), lambda letter: str(check_answer(each.id, letter))
    )


def exercise(number: str) -> Question:
    """Show an exercise in the reader's language.

    Args:
        number: Its number, such as "3.1".

    Returns:
        The exercise; a prediction has buttons where there is a browser.

    Raises:
        ParameterError: There is none of that number.
    """
    return Question([find(number)])


def check_answer(number: str, answer: Any) -> Verdict:
    """Say whether an answer is right, and why; offline, in the reader's language.

    The try is counted in a small file of yours: see `my_progress`.

    Args:
        number: The exercise's number, such as "3.2", or a quiz question's, such as "3.q1".
        answer: The answer: a number, a text, a letter, a list, a function or a chain. `...` is no
            answer yet.

    Returns:
        The verdict, true where the answer is right.

    Raises:
        ParameterError: There is no exercise of that number.
    """
    found = find(number)
    verdict = judge(found, answer)
    if verdict.state == "unanswered":
        return verdict
    note = note_try(found.id, right=bool(verdict))
    return Verdict(verdict.id, verdict.state, verdict.text, note)


def hint(number: str) -> Shown:
    """Give a hint for an exercise; the second time, a greater one.

    Raises:
        ParameterError: There is no exercise of that number.
    """
    found = find(number)
    if not found.hints:
        return Shown(tr("A quiz question has no hints: read the lesson's part about it once more."))
    given = min(_hints_given.get(found.id, 0), len(found.hints) - 1)
    _hints_given[found.id] = given + 1
    head = tr("Hint {number} of {total}:").format(number=given + 1, total=len(found.hints))
    return Shown(paragraph(head, tr(found.hints[given])))


def show_solution(number: str) -> Shown:
    """Show a solution of an exercise, and why it is right.

    Raises:
        ParameterError: There is no exercise of that number.
    """
    found = find(number)
    for letter, option in zip(LETTERS, found.options, strict=False):
        if option.right:
            return Shown("\n\n".join([f"**{letter}** {choice(option.value)}", tr(option.right)]))
    return Shown("\n\n".join([fenced(found.solution), tr(found.right)]))


def quiz(lesson: str, answers: Sequence[Any] | None = None) -> Question | Verdicts:
    """Show the quiz questions of a lesson, or check answers to them.

    Args:
        lesson: The lesson's number, such as "3".
        answers: A letter for each question, in order; `...` leaves one out. Without answers the
            questions are shown.

    Raises:
        ParameterError: There is no such lesson, or the number of answers is another one.
    """
    name = lesson_number(lesson)
    questions = [each for each in of_lesson(name) if each.kind == "quiz"]
    if answers is None:
        return Question(questions)
    if isinstance(answers, str) and len(answers.strip()) == len(questions):
        answers = answers.strip()  # "abacbd"
    elif not isinstance(answers, list | tuple) or len(answers) != len(questions):
        raise failure("quiz-answers", lesson=name, number=len(questions))
    pairs = zip(questions, answers, strict=True)
    return Verdicts([check_answer(each.id, answer) for each, answer in pairs])


class Verdicts(list[Verdict]):
    """Verdicts below each other."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        return "".join(each._repr_html_() for each in self)


def my_progress(lesson: str | None = None, *, name: str | None = None) -> ProgressPage:
    """Show what you have done: a lesson's card, or a page of the whole course to print.

    Args:
        lesson: The lesson of the card; all of them if not given.
        name: A name to stand on the page, kept in the file; nobody has to give one.

    Returns:
        The page; it says where the file lies, and `write("page.html")` makes a file to print.

    Raises:
        ParameterError: There is no such lesson.
    """
    chosen = lesson_number(lesson) if lesson is not None else None
    note = note_name(name) if name is not None else ""
    return read_page(progress_file(), chosen, note)
