"""A lesson's card and the page of the whole course: exercises done, tries, dates."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path

from local_pipelines.errors import failure
from local_pipelines.exercises.data import lessons, of_lesson
from local_pipelines.exercises.progress import DamagedError, Progress, Record, read_progress
from local_pipelines.wording.columns import align, html_table
from local_pipelines.wording.messages import tr


@dataclass(frozen=True, repr=False)
class ProgressPage:
    """What a learner has done, as a table for a notebook, a terminal or a printer."""

    file: Path
    progress: Progress
    lesson: str | None = None
    note: str = ""

    def _head(self) -> list[str]:
        if self.lesson is None:
            return [tr("lesson"), tr("done"), tr("tries"), tr("last day")]
        return [tr("exercise"), tr("done"), tr("tries"), tr("day")]

    def _rows(self) -> list[list[str]]:
        if self.lesson is None:
            return [_lesson_row(self.progress, each) for each in lessons()]
        rows = []
        for exercise in of_lesson(self.lesson):
            record = self.progress.records.get(exercise.id, Record())
            done = "✓" if record.done else "○"
            rows.append([exercise.id, done, str(record.tries), record.done])
        return rows

    def _remarks(self) -> list[str]:
        where = tr("This is kept in {file}; delete that file to begin anew.").format(file=self.file)
        return [self.note, where] if self.note else [where]

    def __repr__(self) -> str:
        name = [self.progress.name] if self.progress.name else []
        return "\n".join([*name, align([self._head(), *self._rows()]), *self._remarks()])

    def _repr_html_(self) -> str:
        name = f"<p><b>{escape(self.progress.name)}</b></p>" if self.progress.name else ""
        table = html_table(self._rows(), head=self._head(), row_heads=True)
        remarks = "".join(f"<p>{escape(each)}</p>" for each in self._remarks())
        return f"{name}{table}{remarks}"

    def write(self, file: str | os.PathLike[str]) -> Path:
        """Write the page as a file to print or to hand in.

        Raises:
            PromptFileError: It cannot be written there.
        """
        path = Path(file)
        try:
            path.write_text(html_page(tr("My progress"), self._repr_html_()), encoding="utf-8")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise failure("card-not-written", file=str(path), error=reason) from error
        return path


def _lesson_row(progress: Progress, lesson: str) -> list[str]:
    numbers = [each.id for each in of_lesson(lesson)]
    records = [progress.records.get(number, Record()) for number in numbers]
    done = [each.done for each in records if each.done]
    tries = sum(each.tries for each in records)
    return [lesson, f"{len(done)}/{len(numbers)}", str(tries), max(done, default="")]


def read_page(file: Path, lesson: str | None = None, note: str = "") -> ProgressPage:
    """Make the page of a file of progress; a damaged one is left as it is, and said."""
    try:
        return ProgressPage(file, read_progress(file), lesson, note)
    except DamagedError:
        note = tr("The file of your progress is damaged, and nothing can be read in it.")
    except OSError as error:
        text = tr("The file of your progress cannot be read: {reason}.")
        note = text.format(reason=error.strerror or type(error).__name__)
    return ProgressPage(file, Progress(), lesson, note)


def html_page(title: str, body: str) -> str:
    """A page for a browser or a printer, which loads nothing from anywhere."""
    rules = (
        "body { font-family: sans-serif; max-width: 60em; margin: 2em auto; }"
        " th, td { padding: .2em 1em .2em 0; }"
    )
    return (
        f'<!doctype html>\n<html><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{rules}</style></head>\n<body><h1>{escape(title)}</h1>\n{body}</body></html>\n"
    )
