"""`course_kit execute`: run notebooks in place and store outputs that look the same on any machine.

The run happens in a clean room (see `kernels`): no network, token, model cache or setting of the
maintainer's. A notebook is written only when its outputs keep the hygiene rules.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat

from course_kit.notebooks.check import find_faults
from course_kit.notebooks.executor import ANSI, INTERRUPTED, run_notebook
from course_kit.notebooks.kernels import CleanRoom, clean_room
from course_kit.notebooks.output_rules import OUTPUT_RULES
from course_kit.notebooks.page import KERNEL, Page
from course_kit.notebooks.pages import code_cells, find_all_lessons, find_notebooks, find_root

__all__ = [
    "LANGUAGE",
    "ExecutionError",
    "execute",
    "find_in_languages",
    "main",
    "merge_streams",
    "normalise",
    "write",
]

LANGUAGE = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "pygments_lexer": "ipython3",
}
_OVERWRITTEN = re.compile(r"^.*\r(?=[^\n])", re.MULTILINE)
_VISIBLE = {"source_hidden", "outputs_hidden"}
_OURS = ("course_kit",)  # of a translation: its source, language and state


class ExecutionError(Exception):
    """A notebook did not run through, or its outputs must not be stored; it was left as it was."""


def execute(path: Path, *, timeout: int | None = None) -> Any:
    """Run a notebook in a clean room, without writing it.

    Args:
        path: The notebook.
        timeout: Seconds a cell may take; no limit by default.

    Returns:
        The executed notebook, normalised.

    Raises:
        ExecutionError: A cell failed, or an output breaks a rule; every such cell is named.
    """
    path = path.resolve()
    root = find_root(path.parent)
    with clean_room(path.parent) as room:
        nb = _run(room, path.name, timeout)
        normalise(nb)
        folders = (root, Path.home(), room.folder, Path(room.environment["HOME"]))
    private = tuple(str(folder) for folder in folders if len(folder.parts) > 1)
    findings = find_faults(Page(path, root, nb, private), OUTPUT_RULES)
    if findings:
        raise ExecutionError("\n".join(map(str, findings)))
    return nb


def _run(room: CleanRoom, name: str, timeout: int | None) -> Any:
    output = Path(room.environment["HOME"], "executed", name)
    outcome = run_notebook(
        room.folder / name,
        output,
        timeout=timeout,
        environment=room.environment,
        stream=StringIO(),
    )
    if outcome.error == INTERRUPTED:
        raise KeyboardInterrupt
    if outcome.error:
        raise ExecutionError(f"cell [{outcome.cell}]: {outcome.error}")
    return nbformat.read(output, as_version=4)


def normalise(nb: Any) -> None:
    """Take out of an executed notebook, in place, what differs between machines and runs.

    Args:
        nb: The notebook: metadata of the kernel, counts, streams, colours and library frames of
            tracebacks are made alike; ids, tags and what is hidden stay.
    """
    kept = {key: nb.metadata[key] for key in _OURS if key in nb.metadata}
    nb.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE, **kept})
    for cell in nb.cells:
        cell.metadata = nbformat.from_dict(_lasting_metadata(cell.metadata))
        if cell.cell_type == "code" and not cell.source.strip():
            cell.execution_count, cell.outputs = None, []
    for count, cell in enumerate(code_cells(nb), 1):
        cell.execution_count = count
        cell.outputs = merge_streams(cell.outputs)
        for output in cell.outputs:
            _normalise_output(output, count)


def _lasting_metadata(metadata: Any) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if metadata.get("tags"):
        kept["tags"] = list(metadata["tags"])
    hidden = {k: v for k, v in metadata.get("jupyter", {}).items() if k in _VISIBLE and v}
    if hidden:
        kept["jupyter"] = hidden
    if metadata.get("collapsed"):
        kept["collapsed"] = True
    return kept


def merge_streams(outputs: Sequence[Any]) -> list[Any]:
    """Join stream outputs that follow each other: how they were cut is chance.

    Args:
        outputs: A cell's outputs.

    Returns:
        The outputs in their order, lines that were overwritten left out.
    """
    merged: list[Any] = []
    for output in outputs:
        last: Any = merged[-1] if merged else {}
        same = output.get("name") == last.get("name")
        if output.output_type == "stream" and same:
            last.text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            output.text = _OVERWRITTEN.sub("", output.text)
    return merged


def _normalise_output(output: Any, count: int) -> None:
    if output.output_type == "execute_result":
        output.execution_count = count
    elif output.output_type == "stream":
        output.text = ANSI.sub("", output.text)
    elif output.output_type == "error":
        output.evalue = ANSI.sub("", output.evalue)
        # Frames of libraries name folders of this machine; the learner's own cell stays.
        lines = [ANSI.sub("", part) for part in output.traceback]
        output.traceback = [part for part in lines if not part.startswith("File ")]
    if "text/plain" in output.get("data", {}):
        output.data["text/plain"] = ANSI.sub("", output.data["text/plain"])


def write(nb: Any, path: Path) -> None:
    """Write a notebook as git likes it, in one step: an interrupted run leaves the old file.

    Args:
        nb: The notebook.
        path: Where to.
    """
    part = path.with_suffix(".ipynb.part")
    part.write_text(nbformat.writes(nb) + "\n", encoding="utf-8", newline="\n")
    part.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Execute notebooks in place and tell for each what came of it.

    Args:
        argv: The command's words.

    Returns:
        0 where all were stored, 1 where one could not be, 2 for a wrong call.
    """
    parser = argparse.ArgumentParser(prog="course_kit execute", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="01, fr/01, fr or notebooks/01_loading.ipynb; all by default"
    )
    parser.add_argument(
        "--timeout", type=int, default=600, help="seconds a cell may take (%(default)s)"
    )
    options = parser.parse_args(argv)
    root = find_root()
    try:
        lessons = find_in_languages(options.names, root)
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    return max(_store(lesson, options.timeout) for lesson in lessons)


def find_in_languages(names: Sequence[str], root: Path) -> list[Path]:
    """Find the notebooks that were named, English or translated.

    Args:
        names: As `find_notebooks` takes them, with a language before them (`fr/01`) or alone.
        root: The repository.

    Returns:
        Their paths; those of all languages where nothing was named.

    Raises:
        FileNotFoundError: A name fits nothing.
    """
    lessons = [] if names else find_all_lessons(root)
    for name in names:
        language, _, rest = name.partition("/")
        folder = root / "i18n" / language / "notebooks"
        if folder.is_dir() and not Path(name).is_file():
            lessons += find_notebooks([rest] if rest else [], folder)
        else:
            lessons += find_notebooks([name], root / "notebooks")
    return lessons


def _store(lesson: Path, timeout: int) -> int:
    start = time.monotonic()
    folders = lesson.resolve().parts[:-1]
    name = f"{folders[-2]}/{lesson.stem}" if folders[-3:-2] == ("i18n",) else lesson.stem
    try:
        write(execute(lesson, timeout=timeout), lesson)
    except (ExecutionError, OSError, ValueError, RuntimeError) as error:
        print(f"{name:<24} not stored:\n{error}", flush=True)
        return 1
    print(f"{name:<24} stored {time.monotonic() - start:>7.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
