"""`course_kit new exercise 3.6` begins an exercise; `new cells FILE` puts them into a lesson."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4

from local_pipelines.exercises.data import FOLDER, of_lesson, read

__all__ = ["main"]

_HEAD = "# The exercises of lesson {lesson}; the form is told at the top of 03.toml.\n"
_SKELETON = '''
[[exercise]]
id = "{number}"
kind = "program"
text = """
TODO: Write a function that … It gets …, and returns …"""
hints = [
  "TODO: a small hint",
  "TODO: a greater one",
]
expects = "function"
calls = [
  {{ args = ["oNe"], gives = "ONE" }},
]
solution = \'\'\'
def {name}(text):
    return text.upper()
\'\'\'
right = "TODO: why it is right"
[[exercise.wrong]]
code = \'\'\'
def {name}(text):
    return text
\'\'\'
says = "TODO: what is wrong with this answer"
[[exercise.wrong]]
code = \'\'\'
def {name}(text):
    return text.lower()
\'\'\'
says = "TODO: what is wrong with that answer"
[[exercise.wrong]]
code = \'\'\'
def {name}(text):
    return len(text)
\'\'\'
says = "TODO: what is wrong with this one"
'''


def add_exercise(number: str, folder: Path = FOLDER) -> Path:
    """Add an exercise to the file of its lesson, which is made if it is not there.

    Args:
        number: Its number, such as "3.6".
        folder: Where the files lie.

    Returns:
        The file.

    Raises:
        ValueError: The number is none, or is taken.
    """
    match = re.fullmatch(r"(\d{1,2})\.(\d{1,2})", number, re.ASCII)
    if not match:
        raise ValueError(f"{number} is no number of an exercise: write one such as 3.6.")
    lesson, rest = int(match[1]), int(match[2])
    number = f"{lesson}.{rest}"
    file = folder / f"{lesson:02d}.toml"
    if not file.exists():
        file.write_text(_HEAD.format(lesson=lesson), encoding="utf-8", newline="\n")
    elif number in {each.id for each in read(file)}:
        raise ValueError(f"{file.name} has an exercise {number} already: choose another number.")
    with file.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(_SKELETON.format(number=number, name=f"answer_{lesson}_{rest}"))
    return file


_TITLE = "## Exercises\n"
_INTRODUCTION = """\
## Exercises
Write an answer in place of `...`, and run the cell: it says whether it is right, and why. \
`hint("{lesson}.1")` helps twice,
`show_solution("{lesson}.1")` shows a way, and `my_progress()` what you have done."""
_QUIZ = """\
### Quiz
Click on an answer; where there are no buttons, \
`quiz("{lesson}", answers=["a", …])` takes a letter for each question."""
_IMPORTS = """\
from local_pipelines import check_answer, exercise, hint
from local_pipelines import my_progress, quiz, show_solution"""


def add_cells(notebook: Path) -> None:
    """Put the cells of a lesson's exercises in place of what stands under its title "Exercises".

    Args:
        notebook: The lesson; its exercises are in the file of its number.

    Raises:
        ValueError: It has no such title, or has the cells already.
    """
    nb = nbformat.read(notebook, as_version=4)
    ids = {cell.id for cell in nb.cells}
    places = [n for n, cell in enumerate(nb.cells) if f"\n{_TITLE}" in f"\n{cell.source}"]
    if not places or "exercises-import" in ids:
        raise ValueError(f'{notebook.name} has no title "Exercises", or has the cells already.')
    cell = nb.cells[places[-1]]
    before, _, rest = cell.source.partition(_TITLE)
    after = re.search(r"^## .*", rest, re.MULTILINE | re.DOTALL)
    cell.source = before.rstrip("\n")
    end = "after-exercises" if "end" in ids else "end"
    tail = [v4.new_markdown_cell(after[0].rstrip("\n"), id=end)] if after else []
    lesson = str(int(notebook.stem[:2]))
    nb.cells[places[-1] : places[-1] + 1] = [cell, *_cells(lesson), *tail]
    nbformat.write(nb, notebook)


def _cells(lesson: str) -> list[Any]:
    text, code = v4.new_markdown_cell, v4.new_code_cell
    cells = [text(_INTRODUCTION.format(lesson=lesson), id="exercises")]
    cells += [code(_IMPORTS, id="exercises-import")]
    practice = [each for each in of_lesson(lesson) if each.kind != "quiz"]
    for number, each in enumerate(practice, 1):
        answer = f'{each.name} = ...\ncheck_answer("{each.id}", {each.name})'
        cells += [
            text(f"### {each.id}", id=f"exercise-{number}-head"),
            code(f'exercise("{each.id}")', id=f"exercise-{number}"),
            code(answer, id=f"answer-{number}"),
        ]
    cells += [text(_QUIZ.format(lesson=lesson), id="quiz-head")]
    return [*cells, code(f'quiz("{lesson}")', id="quiz")]


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is asked for, and say where it is.

    Args:
        argv: The command's words.

    Returns:
        The exit status: 0 where all went well.
    """
    parser = argparse.ArgumentParser(prog="course_kit new", description=__doc__)
    parser.add_argument("what", choices=["exercise", "cells"], help="what is made")
    parser.add_argument("which", help="an exercise's number, such as 3.6, or a lesson's notebook")
    choice = parser.parse_args(argv)
    try:
        if choice.what == "cells":
            add_cells(Path(choice.which))
            return 0
        file = add_exercise(choice.which)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{file}\nFill in what says TODO; `pytest tests/exercises` runs its answers.")
    return 0
