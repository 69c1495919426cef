"""Counts, by lesson and language, which answers to the exercises are judged as they should be.

Solutions that are right, named wrong answers that are recognised, and harmless variants of right
answers that are accepted; and how long a check takes. `python benchmarks/exercises.py`
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import tomllib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from local_pipelines.exercises import data
from local_pipelines.exercises.checking import example, judge
from local_pipelines.exercises.data import FOLDER, LETTERS, Exercise
from local_pipelines.wording.messages import CHOICE, available_languages, tr

Count = list[int]


def made_by(lesson: str) -> dict[str, Any]:
    content = tomllib.loads((FOLDER / f"{int(lesson):02d}.toml").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(content.get("test", {}).get("setup", ""), names)  # noqa: S102 - our own data
    return names


def variants(exercise: Exercise, solution: Any) -> Iterator[Any]:
    """The right answer as people may write it."""
    for letter, option in zip(LETTERS, exercise.options, strict=False):
        if option.right:
            yield from (letter.upper(), f" {letter} ", f"{letter})", f"'{letter}'")
            text = str(option.value)
            yield from (
                f"  {text}\n",
                f'"{text}"',
                text.upper() if isinstance(option.value, str) else text,
            )
            if not isinstance(option.value, str):
                yield np.float64(option.value)
    if exercise.expects == "function":
        yield lambda *arguments: solution(*arguments)
        yield lambda *arguments: tupled(solution(*arguments))


def tupled(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(tupled, value))
    return np.float64(value) if type(value) in {int, float} else value


def wrong_answers(exercise: Exercise, names: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    for option in exercise.options:
        if option.says:
            yield option.value, option.says
    for wrong in exercise.wrong:
        yield (example(exercise, wrong.code, names) if wrong.code else wrong.value), wrong.says


def count(
    exercises: list[Exercise], names: dict[str, Any], times: dict[str, list[float]]
) -> list[Count]:
    solved, named, accepted = [0, 0], [0, 0], [0, 0]

    def judged(exercise: Exercise, answer: Any) -> Any:
        start = time.perf_counter()
        verdict = judge(exercise, answer)
        times.setdefault(exercise.expects or "choice", []).append(time.perf_counter() - start)
        return verdict

    for exercise in exercises:
        solution = example(exercise, exercise.solution, names) if exercise.solution else None
        if exercise.kind != "quiz":
            right = next((each.value for each in exercise.options if each.right), None)
            add(solved, judged(exercise, right if solution is None else solution))
        for answer, says in wrong_answers(exercise, names):
            add(named, judged(exercise, answer).text == tr(says))
        for answer in variants(exercise, solution):
            add(accepted, judged(exercise, answer))
    return [solved, named, accepted]


def add(counted: Count, right: object) -> None:
    counted[0] += bool(right)
    counted[1] += 1


def main() -> int:
    """Print both tables; 1 where an answer is not judged as it should be."""
    warnings.simplefilter("ignore")
    times: dict[str, list[float]] = {}
    failed = 0
    print("| lesson | language | solutions right | wrong answers named | variants accepted |")
    print("|---|---|---|---|---|")
    for lesson in data.lessons():
        names = made_by(lesson)
        for language in available_languages():
            os.environ[CHOICE] = language
            row = count([*data.of_lesson(lesson)], names, times)
            failed += sum(total - right for right, total in row)
            cells = " | ".join(f"{right} of {total}" for right, total in row)
            print(f"| {lesson} | {language} | {cells} |", flush=True)
    print("\n| kind | checks | median, ms | slowest, ms |\n|---|---|---|---|")
    for kind, seconds in times.items():
        middle, most = 1000 * statistics.median(seconds), 1000 * max(seconds)
        print(f"| {kind} | {len(seconds)} | {middle:.2f} | {most:.1f} |")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
