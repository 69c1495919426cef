"""`course_kit run`: run the notebooks into a folder of results, as papermill does, and tell how."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from course_kit.notebooks.executor import INTERRUPTED, Outcome, check_secrets, run_notebook
from course_kit.notebooks.kernels import real_model_is_here
from course_kit.notebooks.pages import find_notebooks, parameters, read_as_stored

__all__ = ["check_names", "format_table", "kernel_environment", "main", "parse_value"]

BACKENDS = ("torch", "openvino", "genai")
_CONSTANTS = {"True": True, "False": False, "None": None}


def parse_value(text: str) -> Any:
    """Read a parameter's value as `papermill -p` does.

    >>> [parse_value(text) for text in ("8", "1e3", "None", "pocket")]
    [8, 1000.0, None, 'pocket']

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


def check_names(values: Mapping[str, Any], notebooks: Sequence[Path]) -> set[str]:
    """Refuse a parameter that none of the notebooks has: it is a typing error.

    Args:
        values: The parameters that were set.
        notebooks: The notebooks to run.

    Returns:
        The names of all parameters that there are.

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
    return known


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


def format_table(outcomes: Sequence[Outcome], folder: Path | None = None) -> str:
    """Write the outcomes as a table: name (below the folder of results), cells, seconds, result."""

    def name(outcome: Outcome) -> str:
        path = outcome.output.with_suffix("")
        return path.relative_to(folder).as_posix() if folder else outcome.name

    rows = [("notebook", "cells", "seconds", "result")]
    rows += [(name(o), f"{o.done}/{o.total}", f"{o.seconds:.1f}", o.result) for o in outcomes]
    failed = sum(bool(o.error) for o in outcomes)
    cells = f"{sum(o.done for o in outcomes)}/{sum(o.total for o in outcomes)}"
    seconds = f"{sum(o.seconds for o in outcomes):.1f}"
    rows.append(("all", cells, seconds, f"{failed} failed" if failed else "ok"))
    wide, done, time_ = (max(len(row[i]) for row in rows) for i in range(3))
    lines = [f"{a:<{wide}}  {b:>{done}}  {c:>{time_}}  {d}" for a, b, c, d in rows]
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
    add("--backends", action="store_true", help="with each value of BACKEND in turn")
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
        known = check_names(values, notebooks)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if "REAL_MODEL_ID" in known - values.keys() and not real_model_is_here():
        print("smollm2 is not here, so the lessons show pocket in its place: make install gets it.")
        values["REAL_MODEL_ID"] = "pocket"
    runs = [{"BACKEND": name} for name in BACKENDS] if options.backends else [{}]
    outcomes: list[Outcome] = []
    for own in runs:
        folder = options.output.joinpath(*own.values())
        outcomes += _run_all(notebooks, folder, {**values, **own}, options)
        if outcomes[-1].error == INTERRUPTED:
            break
    print(f"\n{format_table(outcomes, options.output)}\n\n{_where(outcomes, options.output)}")
    return _status(outcomes)


def _run_all(
    notebooks: Sequence[Path], folder: Path, values: dict[str, Any], options: argparse.Namespace
) -> list[Outcome]:
    """Run the notebooks one after the other, until somebody interrupts."""
    environment = kernel_environment(values, online=options.online)
    outcomes: list[Outcome] = []
    for notebook in notebooks:
        outcomes.append(
            run_notebook(
                notebook,
                folder / notebook.name,
                values=values,
                timeout=options.timeout,
                environment=environment,
            )
        )
        if outcomes[-1].error == INTERRUPTED:
            break
    return outcomes


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
