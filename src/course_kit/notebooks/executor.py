"""Runs one notebook from its first cell to its last, with papermill, and tells how it went."""

from __future__ import annotations

import logging
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO

import nbformat
from jupyter_client.manager import AsyncKernelManager

from course_kit.notebooks.kernels import kernel_manager
from course_kit.notebooks.pages import code_cells, parameters, read_as_stored, tags

__all__ = ["ANSI", "INTERRUPTED", "Outcome", "Watch", "check_secrets", "run_notebook"]

INTERRUPTED = "stopped by Ctrl-C"


ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


_SECRET_NAME = re.compile(r"(.*_)?(TOKEN|API_KEY|SECRET|PASSWORD)", re.IGNORECASE)


_SECRET_VALUE = re.compile(r"""[\s"']*(hf|lsv2)_\w{12,}[\s"']*""")


@dataclass
class Outcome:
    """How the run of one notebook went, or goes.

    Attributes:
        notebook: The notebook that was run.
        output: Where the executed copy is.
        done: Number of code cells that ran to their end.
        total: Number of code cells.
        seconds: Wall-clock time, the kernel's start included.
        cell: Number of the code cell that ran last, as its `[n]` shows it.
        error: What went wrong in one line; empty where nothing did.
        log: What the kernel's process said before it died; None while it lives.
    """

    notebook: Path
    output: Path
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    cell: int = 0
    error: str = ""
    log: Path | None = None

    @property
    def name(self) -> str:
        """The notebook's file name without its ending."""
        return self.notebook.stem

    @property
    def result(self) -> str:
        """`ok`, or the failed cell and its error."""
        if not self.error:
            return "ok"
        clue = f" (its last words: {self.log.as_posix()})" if self.log else ""
        where = f"failed in cell [{self.cell}]: " if self.cell else ""
        return f"{where}{self.error}{clue}"


@dataclass
class Watch:
    """Follows a running notebook and keeps one line on the terminal up to date.

    Its `on_…` methods are nbclient's hooks of the same names.

    Args:
        outcome: Where to write down what happens.
        stream: Where the line goes; updated in place on a terminal, written once elsewhere.
    """

    outcome: Outcome
    stream: TextIO = field(default_factory=lambda: sys.stdout)

    def __post_init__(self) -> None:
        self._start = time.monotonic()
        self._live = self.stream.isatty()
        self._show()

    def hooks(self) -> dict[str, Any]:
        """Return the hooks as arguments for a notebook client."""
        names = ("on_notebook_start", "on_cell_execute", "on_cell_executed")
        return {name: getattr(self, name) for name in names}

    def on_notebook_start(self, notebook: Any) -> None:
        """Count the cells, now that papermill has put in its own."""
        self.outcome.total = len(code_cells(notebook))
        self._show()

    def on_cell_execute(self, cell: Any, cell_index: int) -> None:
        """Note which cell runs."""
        self.outcome.cell += 1
        self._show()

    def on_cell_executed(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """Count a cell that did what it should; for some lessons that is to fail."""
        passed = execute_reply["content"]["status"] == "ok" or "raises-exception" in tags(cell)
        self.outcome.done += passed
        self._show()

    def finish(self) -> None:
        """Write the last state of the line and leave it."""
        line = self._update()
        print(f"\r{line}" if self._live else line, file=self.stream, flush=True)

    def _show(self) -> None:
        if self._live:
            print(f"\r{self._update()}", end="", file=self.stream, flush=True)

    def _update(self) -> str:
        now = self.outcome
        now.seconds = time.monotonic() - self._start
        return f"{now.name:<24} {now.done:>3}/{now.total:<3} cells {now.seconds:>7.1f} s"


def run_notebook(
    notebook: Path,
    output: Path,
    *,
    values: Mapping[str, Any] | None = None,
    timeout: int | None = None,
    environment: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
) -> Outcome:
    """Run one notebook with papermill, in this interpreter and in the notebook's folder.

    Args:
        notebook: The notebook; it stays as it is.
        output: Where the executed copy goes, cell by cell.
        values: Parameters; those that the notebook does not have are left out.
        timeout: Seconds a cell may take; no limit by default.
        environment: The kernel's environment variables; this process's by default.
        stream: Where the progress line goes; standard output by default.

    Returns:
        The outcome. A failing cell, a dying kernel, a time limit, Ctrl-C and a file that cannot
        be read or written are told there and not raised.
    """
    outcome = Outcome(notebook, output)
    watch = Watch(outcome, stream or sys.stdout)
    environment = os.environ if environment is None else environment
    try:
        with _kernel_log(output) as log:
            _run(watch, values or {}, timeout, kernel_manager(environment, log))
    except TimeoutError:  # nbclient's CellTimeoutError, an OSError by descent
        outcome.error = f"TimeoutError: the cell took longer than {timeout} s (--timeout)"
    except KeyboardInterrupt:
        outcome.error = INTERRUPTED
    except RuntimeError as error:  # the kernel died, or did not even start
        outcome.error, outcome.log = _describe(error), output.with_suffix(".log")
    except (OSError, ValueError) as error:
        outcome.error = _describe(error)
    watch.finish()
    return outcome


def _run(
    watch: Watch,
    values: Mapping[str, Any],
    timeout: int | None,
    manager: type[AsyncKernelManager],
) -> None:
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the outcome says it in one line
    outcome = watch.outcome
    check_secrets(values)
    known = parameters(read_as_stored(outcome.notebook))
    try:
        papermill.execute_notebook(
            outcome.notebook,
            outcome.output,
            parameters={name: value for name, value in values.items() if name in known},
            kernel_name="python3",
            language="python",
            cwd=outcome.notebook.parent,
            progress_bar=False,
            # From here on these are settings of nbclient's NotebookClient.
            kernel_manager_class=manager,
            execution_timeout=timeout,
            **watch.hooks(),
        )
    except papermill.PapermillExecutionError:
        outcome.error = _failure(outcome.output)


def _failure(output: Path) -> str:
    """Find the cell that ended the run; none where all errors belong to the lesson.

    papermill takes every error output for a failure, those of cells tagged `raises-exception` too.
    """
    from papermill.execute import remove_error_markers

    nb = nbformat.read(output, as_version=4)
    for cell in code_cells(nb):
        if cell.metadata.papermill.exception:
            errors = [out for out in cell.outputs if out.output_type == "error"]
            return _one_line(
                f"{errors[0].ename}: {errors[0].evalue}" if errors else "the cell failed"
            )
    nbformat.write(remove_error_markers(nb), output)
    return ""


@contextmanager
def _kernel_log(output: Path) -> Iterator[IO[bytes]]:
    """Keep what the kernel's process says outside of its cells, if it dies: then it is a clue."""
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_suffix(".log")
    is_clue = False
    try:
        with path.open("wb") as log:
            yield log
    except RuntimeError:  # told as the outcome
        is_clue = True
        raise
    finally:
        if not is_clue:
            path.unlink(missing_ok=True)


def _describe(error: Exception) -> str:
    from nbclient.exceptions import DeadKernelError

    if isinstance(error, DeadKernelError):
        return "the kernel died; too little memory is the usual cause"
    return _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    return textwrap.shorten(ANSI.sub("", text), width=300, placeholder=" ...")


def check_secrets(values: Mapping[str, Any]) -> None:
    """Refuse a token as a parameter: papermill writes parameters into the executed notebook.

    Args:
        values: The parameters that were set.

    Raises:
        ValueError: One has the name or the form of a secret; the sentence does not show it.
    """
    for name, value in values.items():
        if _SECRET_NAME.fullmatch(name) or _SECRET_VALUE.fullmatch(str(value)):
            raise ValueError(
                f"{name} looks like a token, and parameters are stored in the executed notebook: "
                "set HF_TOKEN in .env or in the environment instead."
            )
