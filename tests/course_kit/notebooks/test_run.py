"""`course_kit run` runs every notebook, tells how it went, and never stops at the first failure."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

import course_kit
from course_kit import __main__ as front
from course_kit.notebooks import kernels
from course_kit.notebooks import run as command
from course_kit.notebooks.executor import Outcome, Watch, run_notebook
from course_kit.notebooks.pages import find_notebooks
from course_kit.notebooks.run import format_table, main, parse_value

SETTINGS = 'MODEL_ID = "pocket"\nMAX_NEW_TOKENS = 16'
REPORT = """\
import os, sys
print(MAX_NEW_TOKENS, os.environ.get("HF_HUB_OFFLINE"), os.getcwd(), sys.executable, sep="|")"""


def write(path: Path, *sources: str, lesson: str = "") -> Path:
    """Write a notebook: the parameters, the sources, and a cell that may raise."""
    cells = [v4.new_code_cell(source) for source in (SETTINGS, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    if lesson:
        cells.append(v4.new_code_cell(lesson, metadata={"tags": ["raises-exception"]}))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def environment() -> dict[str, str]:
    """Return this process's environment for another folder, with no word about being offline."""
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return kept | {"PYTHONPATH": str(Path(course_kit.__file__).parents[1])}


def printed(path: Path) -> list[str]:
    """Return what the cells of an executed notebook printed."""
    nb = nbformat.read(path, as_version=4)
    outputs = [out for cell in nb.cells for out in cell.get("outputs", [])]
    return [out.text.strip() for out in outputs if out.output_type == "stream"]


@dataclass
class Run:
    """A finished call of the command."""

    folder: Path
    status: int
    lines: list[str]

    def row(self, name: str) -> str:
        """Return a notebook's row in the table."""
        table = self.lines[self.lines.index("") :]
        return next(line for line in table if line.startswith(name))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run good and bad notebooks in one call, as `make run` does."""
    folder = tmp_path_factory.mktemp("course")
    lessons = folder / "notebooks"
    write(lessons / "00_good.ipynb", REPORT, lesson="1 / 0")
    write(lessons / "01_fails.ipynb", "print('before')", 'int("two\\nlines")', "print('never')")
    write(lessons / "02_dies.ipynb", "import os; os.write(2, b'last words'); os._exit(1)")
    write(lessons / "03_hangs.ipynb", "print('so far')", "import time; time.sleep(60)")
    write(lessons / "04_last.ipynb", "print('still run')")
    (lessons / "05_broken.ipynb").write_text("no notebook")
    (lessons / "draft.ipynb").write_text("not numbered, so not run")
    words = [
        sys.executable,
        "-m",
        "course_kit",
        "run",
        "--timeout",
        "3",
        "-p",
        "MAX_NEW_TOKENS",
        "8",
    ]
    done = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return Run(folder, done.returncode, done.stdout.splitlines())


def test_one_progress_line_for_each_notebook(run: Run) -> None:
    """Where the output is no terminal, each notebook has one final line with cells and seconds."""
    progress = run.lines[: run.lines.index("")]
    assert [line.split()[0] for line in progress] == [
        "00_good", "01_fails", "02_dies", "03_hangs", "04_last", "05_broken",
    ]  # fmt: skip
    assert progress[0].split()[1:3] == ["4/4", "cells"]
    assert progress[0].endswith(" s")


def test_status_is_failure_and_others_still_run(run: Run) -> None:
    """One failed notebook makes the status 1 and keeps no other from running."""
    assert run.status == 1
    assert run.row("04_last").endswith("ok")
    assert run.row("all").endswith("4 failed")
    assert printed(run.folder / "build/run/04_last.ipynb") == ["still run"]


def test_failing_cell_and_error_are_named_in_one_line(run: Run) -> None:
    """The table says which cell failed, by the number that the notebook shows, and why."""
    assert "failed in cell [4]: ValueError: invalid literal for int()" in run.row("01_fails")
    assert "3/5" in run.row("01_fails")
    assert printed(run.folder / "build/run/01_fails.ipynb") == ["before"]


def test_dead_kernel_is_told_with_its_last_words(run: Run) -> None:
    """A kernel that dies gets one line, and what its process said is kept beside the notebook."""
    row = run.row("02_dies")
    assert "failed in cell [3]: the kernel died" in row
    assert row.endswith("build/run/02_dies.log)")
    assert "last words" in (run.folder / "build/run/02_dies.log").read_text()
    assert not (run.folder / "build/run/00_good.log").exists()


def test_time_limit_is_told_and_results_so_far_are_kept(run: Run) -> None:
    """A cell that takes too long ends its notebook only."""
    assert "failed in cell [4]: TimeoutError: the cell took longer than 3 s" in run.row("03_hangs")
    assert printed(run.folder / "build/run/03_hangs.ipynb") == ["so far"]


def test_file_that_is_no_notebook_is_told(run: Run) -> None:
    """A broken file is one failure among the others."""
    assert "05_broken.ipynb is not a notebook" in run.row("05_broken")


def test_where_to_open_the_results_is_told(run: Run) -> None:
    """The end says which result to look at and how to work with the lessons."""
    assert "open build/run/01_fails.ipynb" in run.lines[-2]
    assert "make lab" in run.lines[-1]


def test_lesson_about_an_error_is_no_failure(run: Run) -> None:
    """A cell tagged raises-exception may fail, and papermill's error marks are taken out again."""
    assert run.row("00_good").endswith("ok")
    assert "papermill-error" not in (run.folder / "build/run/00_good.ipynb").read_text()


def test_kernel_gets_parameters_folder_interpreter_and_no_network(run: Run) -> None:
    """A notebook runs beside its own file, in this interpreter, offline with the pocket model."""
    (report,) = printed(run.folder / "build/run/00_good.ipynb")
    tokens, offline, folder, executable = report.split("|")
    assert (tokens, offline) == ("8", "1")
    assert Path(folder) == (run.folder / "notebooks").resolve()
    assert Path(executable) == Path(sys.executable)


def test_interpreter_is_ours_whatever_kernelspecs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel named python3 elsewhere, even first on Jupyter's path, is not taken."""
    spec = {"argv": ["false"], "display_name": "Other", "language": "python"}
    (tmp_path / "jupyter/kernels/python3").mkdir(parents=True)
    (tmp_path / "jupyter/kernels/python3/kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    outcome = run_notebook(
        write(tmp_path / "00_a.ipynb", REPORT), tmp_path / "out/00_a.ipynb", stream=StringIO()
    )
    assert outcome.result == "ok"
    assert printed(outcome.output)[0].endswith(sys.executable)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
def test_ctrl_c_keeps_results_and_stops(tmp_path: Path) -> None:
    """Ctrl-C ends the run with the table, status 130 and no traceback; the kernel ends too."""
    started = tmp_path / "started"
    hang = f"import os, pathlib, time\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))"
    write(tmp_path / "notebooks/00_a.ipynb", "print('so far')", f"{hang}\ntime.sleep(60)")
    write(tmp_path / "notebooks/01_b.ipynb")
    process = subprocess.Popen(
        [sys.executable, "-m", "course_kit", "run"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (started.exists() and started.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert "failed in cell [3]: stopped by Ctrl-C" in out
    assert "01_b" not in out
    assert printed(tmp_path / "build/run/00_a.ipynb") == ["so far"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_line_is_updated_in_place_on_a_terminal() -> None:
    """On a terminal each step overwrites the line, which ends with one line break."""
    stream = Terminal()
    watch = Watch(Outcome(Path("00_a.ipynb"), Path("out.ipynb")), stream)
    cell = v4.new_code_cell("1")
    watch.on_notebook_start(v4.new_notebook(cells=[cell]))
    watch.on_cell_execute(cell, 0)
    watch.on_cell_executed(cell, 0, {"content": {"status": "ok"}})
    watch.finish()
    states = stream.getvalue().split("\r")
    assert len(states) == 6
    assert "0/1" in states[2]
    assert "1/1" in states[-1]
    assert stream.getvalue().count("\n") == 1


def test_table_lines_up_and_sums(tmp_path: Path) -> None:
    """The table's columns are aligned and its last row counts all notebooks."""
    outcomes = [
        Outcome(Path("00_a.ipynb"), tmp_path, 3, 3, 1.25),
        Outcome(Path("01_longer.ipynb"), tmp_path, 1, 12, 100.0, 2, "KeyError: 'x'"),
    ]
    assert format_table(outcomes).splitlines() == [
        "notebook   cells  seconds  result",
        "---------------------------------",
        "00_a         3/3      1.2  ok",
        "01_longer   1/12    100.0  failed in cell [2]: KeyError: 'x'",
        "all         4/15    101.2  1 failed",
    ]


@pytest.mark.parametrize(
    "text", ["8", "-1", "0.5", "1e3", "many", "True", "False", "None", "", "nan", "1_000", "pocket"]
)
def test_values_are_read_as_papermill_reads_them(text: str) -> None:
    """`-p` means the same here as on papermill's own command line."""
    from papermill.cli import _resolve_type

    expected, value = _resolve_type(text), parse_value(text)
    assert (type(value), repr(value)) == (type(expected), repr(expected))


@pytest.mark.parametrize("name", ["01", "01_b", "01_b.ipynb", "notebooks/01_b.ipynb"])
def test_notebooks_can_be_named_in_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A number, a name or a path picks one notebook."""
    monkeypatch.chdir(tmp_path)
    for stem in ("00_a", "01_b"):
        write(tmp_path / f"notebooks/{stem}.ipynb")
    (found,) = find_notebooks([name], Path("notebooks"))
    assert found.resolve() == tmp_path / "notebooks/01_b.ipynb"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["07"], "There is no notebook 07; there are: 00_a."),
        (["-p", "MAX_TOKENS", "3"], "No notebook has a parameter MAX_TOKENS; there are: MAX_NEW"),
        (["--notebooks", "nowhere"], "There is no notebook named like 00_setup.ipynb in nowhere."),
    ],
)
def test_wrong_call_gets_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    """A wrong name is told before anything runs, with the names that exist."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notebooks/00_a.ipynb")
    assert main(words) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.out == ""


def test_every_engine_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--backends` runs the notebooks with each value of BACKEND, into a folder each."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notebooks/00_a.ipynb", 'BACKEND = "auto"', lesson="1 / 0")
    nb = nbformat.read(tmp_path / "notebooks/00_a.ipynb", as_version=4)
    nb.cells[0].source += '\nBACKEND = "auto"'
    nb.cells[1].source = "print(BACKEND)"
    nbformat.write(nb, tmp_path / "notebooks/00_a.ipynb")
    assert main(["--backends"]) == 0
    table = capsys.readouterr().out
    for backend in ("torch", "openvino", "genai"):
        assert printed(tmp_path / f"build/run/{backend}/00_a.ipynb") == [backend]
        assert f"\n{backend}/00_a" in table


def test_without_the_real_model_pocket_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says so; a value that somebody gave is kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernels, "lender", tmp_path)
    path = write(tmp_path / "notebooks/00_a.ipynb", "print(REAL_MODEL_ID)")
    nb = nbformat.read(path, as_version=4)
    nb.cells[0].source += '\nREAL_MODEL_ID = "smollm2"'
    nbformat.write(nb, path)
    assert main([]) == 0
    assert "smollm2 is not here" in capsys.readouterr().out
    assert printed(tmp_path / "build/run/00_a.ipynb") == ["pocket"]
    assert main(["-p", "REAL_MODEL_ID", "other"]) == 0
    assert "smollm2 is not here" not in capsys.readouterr().out
    assert printed(tmp_path / "build/run/00_a.ipynb") == ["other"]


def test_without_a_gpu_nothing_is_run_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--gpu` says why there is none and is no failure; with one, DEVICE is 0."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notebooks/00_a.ipynb")
    monkeypatch.setattr(command, "_no_gpu", lambda: "torch finds none.")
    assert main(["--gpu"]) == 0
    assert (
        capsys.readouterr().out == "No notebook was run: there is no GPU here. torch finds none.\n"
    )
    monkeypatch.setattr(command, "_no_gpu", lambda: "")
    seen: list[Any] = []
    monkeypatch.setattr(command, "check_names", lambda values, _: seen.append(values) or set())
    monkeypatch.setattr(command, "run_notebook", lambda path, out, **_: Outcome(path, out))
    assert main(["--gpu"]) == 0
    assert seen == [{"DEVICE": 0}]


@pytest.mark.parametrize(
    ("values", "online", "own", "expected"),
    [
        ({}, False, None, "1"),
        ({"MODEL_ID": "pocket"}, False, None, "1"),
        ({"MODEL_ID": "pocket"}, False, "0", "0"),
        ({"MODEL_ID": "pocket"}, True, None, None),
        ({"MODEL_ID": "openai-community/gpt2"}, False, None, None),
    ],
)
def test_offline_unless_another_model_or_the_learner_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    online: bool,
    own: str | None,
    expected: str | None,
) -> None:
    """The pocket model needs no network, so its run has none unless it is asked for."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if own is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", own)
    environment = command.kernel_environment(values, online=online)
    assert environment.get("HF_HUB_OFFLINE") == expected


def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file where the results' folder should be is one line, not a traceback."""
    (tmp_path / "build").touch()
    outcome = run_notebook(
        write(tmp_path / "00_a.ipynb"), tmp_path / "build/run/00_a.ipynb", stream=StringIO()
    )
    assert "build" in outcome.error
    assert "\n" not in outcome.error


def test_help_lists_every_command_in_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """`course_kit -h` is enough to find the command one needs."""
    with pytest.raises(SystemExit):
        front.main(["-h"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in ("run", "execute", "check", "train", "table", "translations"):
        assert sum(words[:1] == [name] and len(words) > 3 for words in lines) == 1


@pytest.mark.parametrize("name", front.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command is there and explains itself."""
    with pytest.raises(SystemExit) as stop:
        front.main([name, "-h"])
    assert stop.value.code == 0
    assert f"course_kit {name}" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["README.md", "src/course_kit/bootstrap.py", ".github/**/*.yml"])
def test_only_commands_that_exist_are_named(place: str) -> None:
    """What a reader or a workflow is told to run is in the one table of commands."""
    root = Path(__file__).resolve().parents[3]
    texts = [path.read_text(encoding="utf-8") for path in root.glob(place)]
    named = re.findall(r"""course_kit"?,? "?([a-z-]+)\b""", "\n".join(texts))
    assert named
    assert set(named) <= front.COMMANDS.keys()


def test_a_missing_package_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the extra that holds the tools a command says what to install, and no traceback."""
    monkeypatch.setitem(sys.modules, "nbformat", None)
    for name in [name for name in sys.modules if name.startswith("course_kit.notebooks")]:
        monkeypatch.delitem(sys.modules, name)
    assert front.main(["check"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("`course_kit check` needs the package nbformat")
    assert said.count("\n") == 1
