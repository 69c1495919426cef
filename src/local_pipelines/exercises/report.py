"""`python -m local_pipelines.exercises.report FOLDER`: a class's table, of files handed in."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from local_pipelines.errors import LocalPipelinesError, failure
from local_pipelines.exercises.data import lessons, of_lesson
from local_pipelines.exercises.progress import DamagedError, Progress, read_progress, whole_text
from local_pipelines.exercises.progress_page import html_page
from local_pipelines.wording.columns import html_table
from local_pipelines.wording.messages import tr

_NAMES = ("class.html", "class.csv")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def write_report(folder: Path) -> tuple[Path, Path]:
    """Make a table of a class from the files of progress in a folder and below it.

    Args:
        folder: Where the files lie: any name that ends in `.json`.

    Returns:
        The tables beside them: class.html and class.csv.

    Raises:
        PromptFileError: There is no such folder, or the tables cannot be written there.
    """
    if not folder.is_dir():
        raise failure("no-report-folder", folder=str(folder))
    head = [tr("name"), *lessons(), tr("remark")]
    rows = list(_rows(folder))
    page, table = (folder / name for name in _NAMES)
    try:
        body = html_table(rows, head=head, row_heads=True)
        page.write_text(html_page(tr("Class"), body), encoding="utf-8")
        table.write_text(_as_csv([head, *rows]), encoding="utf-8-sig", newline="")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise failure("card-not-written", file=str(folder), error=reason) from error
    return page, table


def _rows(folder: Path) -> Iterator[list[str]]:
    for file in sorted(folder.rglob("*.json")):
        if not file.is_file():
            continue
        name = whole_text(file.relative_to(folder).with_suffix("").as_posix())
        try:
            progress = read_progress(file)
        except (DamagedError, OSError):
            yield [name, *("" for _ in lessons()), tr("cannot be read")]
            continue
        yield [progress.name or name, *(_done(progress, each) for each in lessons()), ""]


def _done(progress: Progress, lesson: str) -> str:
    numbers = [each.id for each in of_lesson(lesson)]
    done = sum(
        number in progress.records and bool(progress.records[number].done) for number in numbers
    )
    return tr("{done} of {total}").format(done=done, total=len(numbers))


def _as_csv(rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows([_harmless(cell) for cell in row] for row in rows)
    return stream.getvalue()


def _harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula.

    >>> _harmless("=1+1"), _harmless("Ada")
    ("'=1+1", 'Ada')
    """
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) else cell


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables and say where they are.

    Args:
        argv: The words of the command; those of this process by default.

    Returns:
        The exit status: 0 where all went well.
    """
    parser = argparse.ArgumentParser(prog="local_pipelines.exercises.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the files progress.json lie")
    choice = parser.parse_args(argv)
    try:
        for path in write_report(choice.folder):
            sys.stdout.write(f"{path}\n")
    except LocalPipelinesError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
