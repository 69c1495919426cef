"""`course_kit run`: run the notebooks into a folder of results, as papermill does, and tell how."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TextIO

import nbformat
from jupyter_client.manager import AsyncKernelManager

from course_kit.kernels import kernel_manager
from course_kit.pages import code_cells, find_lessons, parameters, read_as_stored, tags

_CONSTANTS = {"True": True, "False": False, "None": None}
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
INTERRUPTED = "stopped by Ctrl-C"
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
    """

    notebook: Path
    output: Path
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    cell: int = 0
    error: str = ""

    @property
    def name(self) -> str:
        """The notebook's file name without its ending."""
        return self.notebook.stem

    @property
    def result(self) -> str:
        """`ok`, or the failed cell and its error."""
        if not self.error:
            return "ok"
        return f"failed in cell [{self.cell}]: {self.error}" if self.cell else self.error


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
    except (OSError, ValueError, RuntimeError) as error:
        outcome.error = _describe(error, output)
    watch.finish()
    return outcome


def _run(
    watch: Watch,
    values: Mapping[str, Any],
    timeout: int | None,
    manager: type[AsyncKernelManager],
) -> None:
    import papermill

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
    except RuntimeError:  # the kernel died, or did not even start
        is_clue = True
        raise
    finally:
        if not is_clue:
            path.unlink(missing_ok=True)


def _describe(error: Exception, output: Path) -> str:
    from nbclient.exceptions import DeadKernelError

    text = _one_line(f"{type(error).__name__}: {error}")
    if isinstance(error, DeadKernelError):
        text = "the kernel died; too little memory is the usual cause"
    log = f" (its last words: {output.with_suffix('.log').as_posix()})"
    return text + log if isinstance(error, RuntimeError) else text


def _one_line(text: str) -> str:
    return textwrap.shorten(_ANSI.sub("", text), width=300, placeholder=" ...")


def parse_value(text: str) -> Any:
    """Read a parameter's value as `papermill -p` does.

    Args:
        text: What was typed.

    Returns:
        True, False, None, a whole number, another number, or the text itself.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def find_notebooks(names: Sequence[str], folder: Path) -> list[Path]:
    """Find the notebooks that were named, or all numbered ones.

    Args:
        names: Paths, file names, names without ending, or numbers such as `01`.
        folder: Where the notebooks are.

    Returns:
        Their paths.

    Raises:
        FileNotFoundError: A name fits nothing, or there is no notebook at all.
    """
    lessons = find_lessons(folder)
    if not names and not lessons:
        raise FileNotFoundError(f"There is no notebook named like 00_setup.ipynb in {folder}.")
    return [_find_notebook(name, lessons) for name in names] if names else lessons


def _find_notebook(name: str, lessons: Sequence[Path]) -> Path:
    if Path(name).is_file():
        return Path(name)
    for lesson in lessons:
        if name in (lesson.name, lesson.stem, lesson.stem[:2]):
            return lesson
    there = ", ".join(lesson.stem for lesson in lessons) or "none"
    raise FileNotFoundError(f"There is no notebook {name}; there are: {there}.")


def check_names(values: Mapping[str, Any], notebooks: Sequence[Path]) -> None:
    """Refuse a parameter that none of the notebooks has: it is a typing error.

    Args:
        values: The parameters that were set.
        notebooks: The notebooks to run.

    Raises:
        ValueError: With the names that exist.
    """
    known: set[str] = set()
    for notebook in notebooks:
        with suppress(OSError, ValueError, SyntaxError):  # the run tells what is wrong with it
            known |= parameters(read_as_stored(notebook)).keys()
    for name in values:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise ValueError(f"No notebook has a parameter {name}; there are: {there}.")


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


def kernel_environment(values: Mapping[str, Any], *, online: bool) -> dict[str, str]:
    """Return the environment to run in: the learner's own, and offline where that is enough.

    Args:
        values: The parameters that were set.
        online: The network may be used whatever the model.

    Returns:
        The variables.
    """
    environment = dict(os.environ)
    environment["LOCAL_PIPELINES_WIDGETS"] = "0"  # nobody is there to use one
    if not online and values.get("MODEL_ID", "pocket") == "pocket":
        environment.setdefault("HF_HUB_OFFLINE", "1")
        environment.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # nothing is downloaded
    return environment


def format_table(outcomes: Sequence[Outcome]) -> str:
    """Write the outcomes as a table: name, cells, seconds, result."""
    rows = [("notebook", "cells", "seconds", "result")]
    rows += [(o.name, f"{o.done}/{o.total}", f"{o.seconds:.1f}", o.result) for o in outcomes]
    failed = sum(bool(o.error) for o in outcomes)
    cells = f"{sum(o.done for o in outcomes)}/{sum(o.total for o in outcomes)}"
    seconds = f"{sum(o.seconds for o in outcomes):.1f}"
    rows.append(("all", cells, seconds, f"{failed} failed" if failed else "ok"))
    name, done, time_ = (max(len(row[i]) for row in rows) for i in range(3))
    lines = [f"{a:<{name}}  {b:>{done}}  {c:>{time_}}  {d}" for a, b, c, d in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines[:1])), *lines[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="course_kit run", description=__doc__)
    add = parser.add_argument
    add("names", nargs="*", help="notebooks, e.g. 01 or notebooks/01_loading.ipynb; all by default")
    add("-p", dest="values", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="set a parameter; may be repeated")  # fmt: skip
    add("--notebooks", type=Path, default=Path("notebooks"), help="their folder (%(default)s)")
    add("--output", type=Path, default=Path("build/run"), help="for the results (%(default)s)")
    add("--timeout", type=int, default=600, help="seconds a cell may take, 0: any (%(default)s)")
    add("--gpu", action="store_true", help="with DEVICE=0; nothing is run where there is no GPU")
    add("--online", action="store_true", help="let the pocket model's run use the network too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the notebooks and print a line for each, the table and where the results are.

    Args:
        argv: The command's words.

    Returns:
        0 where all went well, 1 where a notebook failed, 2 for a wrong call, 130 after Ctrl-C.
    """
    options = _parser().parse_args(argv)
    values = {name: parse_value(value) for name, value in options.values}
    if options.gpu:
        if reason := _no_gpu():
            print(f"No notebook was run: there is no GPU here. {reason}")
            return 0
        values.setdefault("DEVICE", 0)
    try:
        check_secrets(values)
        notebooks = find_notebooks(options.names, options.notebooks)
        check_names(values, notebooks)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the table says it in one line
    environment = kernel_environment(values, online=options.online)
    outcomes: list[Outcome] = []
    for notebook in notebooks:
        outcomes.append(
            run_notebook(
                notebook,
                options.output / notebook.name,
                values=values,
                timeout=options.timeout,
                environment=environment,
            )
        )
        if outcomes[-1].error == INTERRUPTED:
            break
    print(f"\n{format_table(outcomes)}\n\n{_where(outcomes, options.output)}")
    return _status(outcomes)


def _no_gpu() -> str:
    """Why there is no GPU; empty if there is one."""
    from local_pipelines import select_device

    device = select_device()
    return device.reason if device.index < 0 else ""


def _status(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.error == INTERRUPTED for outcome in outcomes):
        return 130
    return int(any(outcome.error for outcome in outcomes))


def _where(outcomes: Sequence[Outcome], folder: Path) -> str:
    worst = next((o for o in outcomes if o.error), outcomes[0])
    return (
        f"The executed notebooks are in {folder.as_posix()}: open {worst.output.as_posix()}\n"
        "To work with the lessons themselves: make lab"
    )


if __name__ == "__main__":
    sys.exit(main())
