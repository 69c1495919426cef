"""Judges an answer: right, wrong in a way that has a name, or of which kind it should have been."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

from local_pipelines.exercises.calling import RaisedError, TooLongError, bounded
from local_pipelines.exercises.comparing import UnreadableError, attribute, plain, same
from local_pipelines.exercises.data import LETTERS, Exercise, Wrong
from local_pipelines.exercises.signs import SIGNS
from local_pipelines.exercises.verdict import Verdict
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import language, mark, tr

FUNCTION_SECONDS = 3.0
CHAIN_SECONDS = 120.0
_MOST = 200  # characters of a foreign text that are repeated
_KINDS = {
    "function": mark("A function is expected: write its name, without brackets."),
    "chain": mark("A chain is expected, such as `prompt | llm`, or a function that answers."),
    "number": mark("A number is expected."),
    "text": mark("A text in quotes is expected."),
    "list": mark("A list is expected."),
}


def judge(exercise: Exercise, answer: Any) -> Verdict:
    """Say whether an answer is right, and why.

    Args:
        exercise: The exercise.
        answer: What a learner gave: a value, a function or a chain; `...` is no answer yet.
    """
    if answer is ...:
        return Verdict(exercise.id, "unanswered", tr("not answered yet"))
    if exercise.options:
        return _judge_option(exercise, answer)
    if exercise.expects == "function":
        return _judge_function(exercise, answer)
    if exercise.expects == "chain":
        return _judge_chain(exercise, answer)
    return _judge_value(exercise, answer)


def _right(exercise: Exercise, reason: str = "") -> Verdict:
    return Verdict(exercise.id, "right", paragraph(tr("Right."), tr(reason or exercise.right)))


def _wrong(exercise: Exercise, *sentences: str) -> Verdict:
    return Verdict(exercise.id, "wrong", paragraph(*sentences))


# --- values ---------------------------------------------------------------------------------------


def _judge_option(exercise: Exercise, answer: Any) -> Verdict:
    try:
        given = plain(answer)
    except UnreadableError:
        given = None
    letter = given.strip(" .)('\"").lower() if isinstance(given, str) else ""
    for key, option in zip(LETTERS, exercise.options, strict=False):
        if key == letter or _is_value(given, option.value, exercise.tolerance):
            right = bool(option.right)
            return _right(exercise, option.right) if right else _wrong(exercise, tr(option.says))
    letters = ", ".join(LETTERS[: len(exercise.options)])
    if exercise.kind == "prediction" and isinstance(exercise.options[0].value, int | float):
        text = tr(
            "This is none of the answers to choose from: give the number, or one of {letters}."
        )
    else:
        text = tr("This is none of the answers to choose from: give one of the letters {letters}.")
    return _wrong(exercise, text.format(letters=letters))


def _judge_value(exercise: Exercise, answer: Any) -> Verdict:
    try:
        given = plain(answer)
    except UnreadableError:
        return _wrong(exercise, *_kind(exercise, answer))
    if _is_value(given, exercise.value, exercise.tolerance):
        return _right(exercise)
    for wrong in exercise.wrong:
        if _is_value(given, wrong.value, exercise.tolerance):
            return _wrong(exercise, tr(wrong.says))
    kinds = {"number": (int, float), "text": (str,), "list": (list,)}[exercise.expects]
    if isinstance(given, bool) or not isinstance(given, kinds):
        return _wrong(exercise, *_kind(exercise, answer))
    return _wrong(exercise, tr("Not yet: the kind is right, the value is not."), _advice(exercise))


def _is_value(given: Any, wanted: Any, tolerance: float) -> bool:
    if same(given, wanted, tolerance):
        return True
    return isinstance(wanted, str) and same(given, tr(wanted))


def _kind(exercise: Exercise, answer: Any) -> tuple[str, str]:
    return tr("This is {kind}.").format(kind=type(answer).__name__), tr(_KINDS[exercise.expects])


def _advice(exercise: Exercise) -> str:
    return tr('hint("{number}") helps.').format(number=exercise.id)


# --- functions ------------------------------------------------------------------------------------


def _judge_function(exercise: Exercise, answer: Any) -> Verdict:
    if not callable(answer) or isinstance(answer, type):
        return _wrong(exercise, *_kind(exercise, answer))
    results = []
    for call in exercise.calls:
        try:
            given = _called(answer, call["args"])
        except TooLongError:
            return _wrong(exercise, *_endless(call["args"]))
        except RaisedError as error:
            return _wrong(exercise, *_raised(error, call["args"]))
        try:
            results.append(plain(given))
        except UnreadableError:
            text = tr("Your function returned {kind}, and something else is expected of it.")
            return _wrong(exercise, text.format(kind=type(given).__name__), _advice(exercise))
    right = [
        same(result, call["gives"], exercise.tolerance, loose=False)
        for result, call in zip(results, exercise.calls, strict=True)
    ]
    if all(right):
        return _right(exercise)
    return _wrong(exercise, *_named(exercise, results) or _failed(exercise, results, right))


def _called(function: Any, arguments: list[Any]) -> Any:
    mine = copy.deepcopy(arguments)  # what a function does to them does not reach the next call
    return bounded(lambda: function(*mine), FUNCTION_SECONDS)


def _named(exercise: Exercise, results: list[Any]) -> list[str]:
    """The sentence of the wrong answer that does the same on all calls, if one does."""
    for wrong, known in zip(exercise.wrong, wrong_results(exercise), strict=True):
        if known is not None and all(
            same(a, b, exercise.tolerance, loose=False) for a, b in zip(results, known, strict=True)
        ):
            return [tr(wrong.says)]
    return []


def wrong_results(exercise: Exercise) -> list[list[Any] | None]:
    """What each wrong example of an exercise gives; None where it is no function or fails."""
    return [_results_of(exercise, wrong) for wrong in exercise.wrong]


def _results_of(exercise: Exercise, wrong: Wrong) -> list[Any] | None:
    try:
        function = example(exercise, wrong.code)
        return [plain(_called(function, call["args"])) for call in exercise.calls]
    except (RaisedError, TooLongError, UnreadableError):
        return None


def example(exercise: Exercise, code: str, names: dict[str, Any] | None = None) -> Any:
    """Run the code of a solution or of a wrong answer, and give what it makes.

    Args:
        exercise: The exercise that it belongs to.
        code: The code; it makes a value of the exercise's name.
        names: What the lesson has made before.
    """
    namespace = dict(names or {})
    exec(code, namespace)  # noqa: S102 - our own data, never a learner's
    return namespace[exercise.name]


def _failed(exercise: Exercise, results: list[Any], right: list[bool]) -> Iterator[str]:
    if all(result is None for result in results):
        yield tr("Your function returned nothing: the word return is missing.")
        return
    number = right.index(False)
    wanted, call = exercise.calls[number]["gives"], exercise.calls[number]["args"]
    if not _alike(results[number], wanted):
        text = tr("Your function returned {kind}, and something else is expected of it.")
        yield text.format(kind=type(results[number]).__name__)
    else:
        text = tr("{done} of {total} trials are right. One that is not: {call}.")
        yield text.format(done=sum(right), total=len(right), call=_shown(call))
    yield _advice(exercise)


def _alike(given: Any, wanted: Any) -> bool:
    numbers = (int, float)
    if isinstance(given, numbers) and isinstance(wanted, numbers):
        return isinstance(given, bool) == isinstance(wanted, bool)
    return type(given) is type(wanted)


def _shown(arguments: list[Any]) -> str:
    text = ", ".join(map(repr, arguments))
    return f"({text if len(text) <= _MOST else text[:_MOST] + ' …'})"


def _raised(error: RaisedError, arguments: list[Any]) -> tuple[str, ...]:
    name, message = type(error.error).__name__, _first_line(error.error)
    text = tr("Your function ended with {error} when it was called with {call}.")
    said = f"{name}: {message}" if message else name
    return (text.format(error=said, call=_shown(arguments)),)


def _first_line(error: BaseException) -> str:
    try:
        return next(iter(str(error).strip().splitlines()), "")[:_MOST]
    except Exception:  # noqa: BLE001 - an error of a learner's own may not even have a text
        return ""


def _endless(arguments: list[Any]) -> tuple[str, ...]:
    text = tr(
        "Your function did not come back within {seconds} seconds when it was called with {call}: "
        "look for a loop that never ends."
    )
    return (text.format(seconds=f"{FUNCTION_SECONDS:g}", call=_shown(arguments)),)


# --- chains ---------------------------------------------------------------------------------------


def _judge_chain(exercise: Exercise, answer: Any) -> Verdict:
    ask = attribute(answer, "invoke") or answer
    if not callable(ask) or isinstance(answer, type):
        return _wrong(exercise, *_kind(exercise, answer))
    here = language()
    for each in exercise.asks:
        question = each["question"].get(here, each["question"]["en"])
        given: Any = question
        if each.get("key"):
            given = {each["key"]: question}
        try:
            output = bounded(partial(ask, given), CHAIN_SECONDS)
        except TooLongError:
            text = tr("Your chain did not answer within {seconds} seconds.")
            return _wrong(exercise, text.format(seconds=f"{CHAIN_SECONDS:g}"))
        except RaisedError as error:
            return _wrong(exercise, *_chain_raised(error, given))
        said = _said_of_output(exercise, each, question, output)
        if said:
            return _wrong(exercise, *said)
    return _right(exercise)


def _said_of_output(
    exercise: Exercise, ask: dict[str, Any], question: str, output: Any
) -> list[str]:
    """What is wrong with an answer; nothing where it is right."""
    content = output if isinstance(output, str) else attribute(output, "content")
    if not isinstance(content, str):
        text = tr("Your chain gave {kind}, and a text is expected of it.")
        return [text.format(kind=type(output).__name__)]
    for wrong in exercise.wrong:
        if wrong.signs and all(SIGNS[sign](question, content, output) for sign in wrong.signs):
            return [tr(wrong.says)]
    holds = ask.get("holds", {})
    if holds and holds.get(language(), holds["en"]).casefold() not in content.casefold():
        text = tr("Your chain answers, but the answer to {question!r} is not in what it says.")
        return [text.format(question=question), _advice(exercise)]
    return []


def _chain_raised(error: RaisedError, given: Any) -> tuple[str, ...]:
    text = tr("Your chain ended with {error} when it was asked {question}.")
    said = f"{type(error.error).__name__}: {_first_line(error.error)}"
    return (text.format(error=said, question=_shown([given])),)
