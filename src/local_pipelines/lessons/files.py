"""`answer_file`: many prompts from a file, their answers to a file, and going on after a stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from local_pipelines.chains.asking import Asking, error_text, storable
from local_pipelines.engines.report import Interrupted
from local_pipelines.errors import failure
from local_pipelines.lessons.prompt_files import AnswerFile, FilePrompt, PromptSource
from local_pipelines.wording.messages import ntr, tr
from local_pipelines.workbench.checks import whole_number
from local_pipelines.workbench.progress import progress_bar, somebody_looks


@dataclass(frozen=True, repr=False)
class FileReport:
    """What became of a file of prompts."""

    source: Path
    target: Path
    prompts: int  # how many there are
    answered: int
    failed: int  # how many have an error in an answer's place
    resumed: int  # how many of all these were done before this call
    seconds: float  # how long this call took

    def __repr__(self) -> str:
        told = ntr(
            "{number} prompt of {source}, answered in {target}.",
            "{number} prompts of {source}, answered in {target}.",
            self.prompts,
        )
        names = {"source": self.source.name, "target": self.target.name}
        lines = [told.format(number=self.prompts, **names)]
        if self.failed:
            told = ntr(
                '{number} has an "error" in place of an "answer".',
                '{number} have an "error" in place of an "answer".',
                self.failed,
            )
            lines.append(told.format(number=self.failed))
        if self.resumed:
            told = tr("{number} of them were done before this call.")
            lines.append(told.format(number=self.resumed))
        return "\n".join(lines)


def answer_file(
    chain: Any,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    column: str | None = None,
    batch_size: int = 64,
    progress: bool | None = None,
) -> FileReport:
    """Answer all prompts of a file, and keep the answers in another as they come.

    The target gets one line of JSON for each prompt, in their order: `index`, `prompt`, and
    `answer`, or `error` where a prompt could not be answered. Called again after an interruption,
    it goes on where it ended. Neither file is held in memory.

    Args:
        chain: What answers: a model, or a chain such as `prompt | llm | parser`.
        source: A file in UTF-8: `.txt` with a prompt in each line, `.jsonl` or `.csv`. Empty lines
            are left out.
        target: The file for the answers, `.jsonl`.
        column: Where the prompts are in a table or in JSON lines; "prompt" unless given, or a
            table's only column.
        batch_size: How many prompts to give to the chain, and save, at a time.
        progress: Show a progress bar; where somebody looks, unless given.

    Returns:
        How many prompts were answered.

    Raises:
        PromptFileError: A file cannot be read or written, has changed, or is being answered by
            another call.
        ParameterError: An argument cannot work.
        KeyboardInterrupt: It was interrupted; what was answered is kept.
    """
    start = time.perf_counter()
    if not hasattr(chain, "batch"):
        raise failure("cannot-answer", kind=type(chain).__name__)
    whole_number("batch_size", batch_size, example=64)
    prompts = PromptSource(Path(source), column)
    _check_apart(Path(source), Path(target))
    total = sum(1 for _ in prompts)
    show = somebody_looks() if progress is None else progress
    with AnswerFile(Path(target)) as answers:
        waiting = _not_done(prompts, answers)
        resumed = answers.rows
        with _bar(total, resumed, show) as count, _explained_stop(answers, total):
            _answer_all(Asking(chain, answers.answered), waiting, answers, batch_size, count)
        return FileReport(
            source=prompts.path,
            target=answers.path,
            prompts=total,
            answered=answers.answered,
            failed=answers.failed,
            resumed=resumed,
            seconds=time.perf_counter() - start,
        )


_Numbered = tuple[int, FilePrompt]


def _check_apart(source: Path, target: Path) -> None:
    # realpath, as Path.resolve() raises where links lead in a circle.
    same = os.path.realpath(source) == os.path.realpath(target)
    if same or (target.exists() and source.samefile(target)):
        raise failure("same-file", file=source.name, name=f"{source.stem}_answers.jsonl")


def _not_done(prompts: PromptSource, answers: AnswerFile) -> Iterator[_Numbered]:
    """The prompts that have no answer yet, once those that have one prove to be the same."""
    numbered = enumerate(prompts)
    for row in answers.read_rows():
        _, prompt = next(numbered, (0, None))
        if prompt is None or prompt.text != row["prompt"]:
            raise failure(
                "source-changed",
                source=prompts.path.name,
                target=answers.path.name,
                number=row["index"] + 1,
            )
    return numbered


def _answer_all(
    asking: Asking,
    waiting: Iterator[_Numbered],
    answers: AnswerFile,
    batch_size: int,
    count: Callable[[int], object],
) -> None:
    while batch := list(islice(waiting, batch_size)):
        good = {index: prompt.text for index, prompt in batch if not prompt.error}
        outputs = dict(zip(good, asking.outputs([*good.values()]), strict=True))
        answers.write(
            [_row(index, prompt, outputs.get(index, prompt.error)) for index, prompt in batch]
        )
        count(len(batch))


def _row(index: int, prompt: FilePrompt, output: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"index": index, "prompt": prompt.text}
    if prompt.error:
        return row | {"error": prompt.error}
    if isinstance(output, Exception):
        return row | {"error": error_text(output)}
    return row | {"answer": storable(output)}


@contextmanager
def _explained_stop(answers: AnswerFile, total: int) -> Iterator[None]:
    """Say, when somebody interrupts, what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt as error:
        told = tr(
            "Stopped: {done} of {total} prompts are done and kept in {file}. "
            "Call answer_file again as before, and it goes on from there."
        )
        raise Interrupted(
            told.format(done=answers.rows, total=total, file=answers.path.name)
        ) from error


@contextmanager
def _bar(total: int, done: int, show: bool) -> Iterator[Callable[[int], object]]:
    """Show a progress bar, or none; what comes back counts prompts that are done."""
    with progress_bar(total, tr("prompt")) if show else nullcontext() as bar:
        update = bar.update if bar is not None else int
        update(done)
        yield update
