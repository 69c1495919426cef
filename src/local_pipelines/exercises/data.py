"""The exercises as data: a file `lessons/NN.toml` for each lesson, read when first asked for.

What such a file holds is told at the top of `lessons/03.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from local_pipelines.errors import failure
from local_pipelines.wording.grammar import nearest

FOLDER = Path(__file__).parent / "lessons"
KINDS = ("prediction", "program", "repair", "quiz")
LETTERS = "abcdef"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One of the answers to choose from: `right` says why it is right, `says` why it is wrong."""

    value: Any
    right: str = ""
    says: str = ""


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A wrong answer that is known: an example, and what is said about it."""

    says: str
    code: str = ""  # an example, which makes a value of the exercise's name
    value: Any = None  # the example itself
    signs: tuple[str, ...] = ()  # what gives it away in the answers of a chain: see signs.py


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """An exercise or a quiz question."""

    id: str
    kind: str
    text: str
    code: str = ""  # is shown below the text
    hints: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    expects: str = ""  # "function", "chain", "number", "text" or "list", where there are no options
    value: Any = None
    tolerance: float = 0.0
    calls: tuple[dict[str, Any], ...] = ()  # of a function: `args`, and what it `gives`
    asks: tuple[dict[str, Any], ...] = ()  # of a chain: a question in each language
    solution: str = ""
    right: str = ""
    wrong: tuple[Wrong, ...] = ()

    @property
    def name(self) -> str:
        """The variable that holds the answer in a notebook: answer_3_2."""
        return "answer_" + self.id.replace(".", "_")

    @property
    def lesson(self) -> str:
        """The number of its lesson, without a zero in front."""
        return self.id.partition(".")[0]


def find(number: object) -> Exercise:
    """Look up an exercise by its number, such as "3.2" or "3.q1".

    Raises:
        ParameterError: There is none of that number.
    """
    asked = str(number).strip().lower() if isinstance(number, str | float) else ""
    lesson, _, rest = asked.partition(".")
    asked = f"{lesson.lstrip('0') or '0'}.{rest}"
    known = {each.id: each for name in lessons() for each in of_lesson(name)}
    if asked not in known:
        shown = repr(number)[:80]
        raise failure("no-exercise", number=shown, example=nearest(asked, known) or "3.2")
    return known[asked]


def lessons() -> list[str]:
    """The numbers of the lessons that have exercises, in order."""
    return [str(int(path.stem)) for path in sorted(FOLDER.glob("[0-9][0-9].toml"))]


def lesson_number(asked: object) -> str:
    """The number of a lesson that has exercises, as `lessons` gives it.

    Raises:
        ParameterError: It has none.
    """
    digits = str(asked).strip() if isinstance(asked, str | int) else ""
    number = str(int(digits)) if digits.isascii() and digits.isdigit() else ""
    if number not in lessons():
        raise failure("no-exercises-of-lesson", number=repr(asked)[:80], names=", ".join(lessons()))
    return number


@cache
def of_lesson(lesson: str) -> tuple[Exercise, ...]:
    """The exercises and quiz questions of a lesson, in the file's order."""
    return read(FOLDER / f"{int(lesson):02d}.toml")


def read(file: Path) -> tuple[Exercise, ...]:
    """Read a file of exercises.

    Raises:
        ParameterError: It is not written as a file of exercises is.
    """
    try:
        rows = tomllib.loads(file.read_text(encoding="utf-8")).get("exercise", [])
        return tuple(_exercise(row) for row in rows)
    except (tomllib.TOMLDecodeError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise failure("exercise-file-broken", file=file.name, error=str(error)) from error


def _exercise(row: dict[str, Any]) -> Exercise:
    row = {
        key: value.strip("\n") if isinstance(value, str) else value for key, value in row.items()
    }
    if not re.fullmatch(r"\d+\.q?\d+", row["id"]) or row["kind"] not in KINDS:
        raise ValueError(f"{row['id']}, {row['kind']}")
    row["options"] = tuple(Option(**each) for each in row.get("options", ()))
    row["wrong"] = tuple(
        Wrong(**each | {"signs": tuple(each.get("signs", ()))}) for each in row.get("wrong", ())
    )
    for key in ("hints", "calls", "asks"):
        row[key] = tuple(row.get(key, ()))
    return Exercise(**row)


def sentences(file: Path) -> Iterator[str]:
    """What a translator gets of a file: texts and sentences, neither code nor words of code."""
    for exercise in read(file):
        yield exercise.text
        yield from exercise.hints
        for option in exercise.options:
            if isinstance(option.value, str) and is_prose(option.value):
                yield option.value
            yield option.right or option.says
        yield from filter(None, [exercise.right, *(each.says for each in exercise.wrong)])


def is_prose(text: str) -> bool:
    """Whether an option is words for a reader: code in backticks and single words are not."""
    return " " in text.strip() and not re.fullmatch(r"`[^`]*`", text.strip())
