"""`course_kit new exercise 3.6`: adds an exercise to a lesson's file, to be filled in."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from local_pipelines.exercises.data import FOLDER, read

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


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is asked for, and say where it is.

    Args:
        argv: The command's words.

    Returns:
        The exit status: 0 where all went well.
    """
    parser = argparse.ArgumentParser(prog="course_kit new", description=__doc__)
    parser.add_argument("what", choices=["exercise"], help="what is made")
    parser.add_argument("number", help="its number, such as 3.6")
    choice = parser.parse_args(argv)
    try:
        file = add_exercise(choice.number)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{file}\nFill in what says TODO; `pytest tests/exercises` runs its answers.")
    return 0
