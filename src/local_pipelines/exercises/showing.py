"""How exercises, hints and solutions look: Markdown in a notebook, plain text elsewhere."""

from __future__ import annotations

from typing import Any

from local_pipelines.exercises.data import LETTERS, Exercise
from local_pipelines.wording.messages import mark, tr, tr_marked

_TITLES = {
    "prediction": mark("Prediction {number}, to be made before you run the code"),
    "program": mark("Program {number}"),
    "repair": mark("Repair {number}"),
    "quiz": mark("Question {number}"),
}


class Shown:
    """A text in Markdown, which a notebook shows as such."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    def _repr_markdown_(self) -> str:
        return self._text


def title(exercise: Exercise) -> str:
    """The exercise's title: what kind it is, and its number."""
    return tr(_TITLES[exercise.kind]).format(number=exercise.id)


def fenced(code: str) -> str:
    """Code as Markdown."""
    return f"```python\n{code}\n```"


def choice(value: Any) -> str:
    """An option as it is shown."""
    return tr(value) if isinstance(value, str) else repr(value)


def choices(exercise: Exercise) -> list[tuple[str, str]]:
    """The options of an exercise, each with its letter."""
    return [
        (letter, choice(option.value))
        for letter, option in zip(LETTERS, exercise.options, strict=False)
    ]


def statement(exercise: Exercise) -> str:
    """The exercise in Markdown, without its options."""
    parts = [f"**{title(exercise)}.** " + tr_marked(exercise.text)]
    parts += [fenced(exercise.code)] if exercise.code else []
    return "\n\n".join(parts)


def with_options(exercise: Exercise) -> str:
    """The exercise in Markdown, with its options."""
    lines = [f"- **{letter}** {text}" for letter, text in choices(exercise)]
    return "\n\n".join([statement(exercise), *(["\n".join(lines)] if lines else [])])
