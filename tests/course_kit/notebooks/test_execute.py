"""`course_kit execute` stores outputs that look the same on any machine, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from nbformat import v4

from course_kit.notebooks import execute as command
from course_kit.notebooks import kernels
from course_kit.notebooks.execute import ExecutionError, execute, merge_streams, normalise
from course_kit.notebooks.kernels import clean_environment

SECRET = "a maintainer's own setting"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository whose maintainer has settings and a token of his own."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".env").write_text(f"HF_TOKEN={SECRET}\n")
    (tmp_path / ".env.example").write_text("HF_TOKEN=\n")
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HF_HOME", "HUGGINGFACEHUB_API_TOKEN", "LANGSMITH_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    return tmp_path


def write(root: Path, *sources: str, tag: str = "") -> Path:
    """Write a notebook with an earlier run's traces; the tag goes to its last cell."""
    cells = [v4.new_code_cell(source, execution_count=9) for source in sources]
    cells[0].metadata = {"execution": {"iopub.status.busy": "now"}, "collapsed": True}
    cells[-1].metadata["jupyter"] = {"source_hidden": True}
    cells[-1].metadata["tags"] = [tag] if tag else []
    nb = v4.new_notebook(
        cells=cells,
        metadata={"kernelspec": {"name": "anna", "display_name": "Anna"}, "widgets": {}},
    )
    path = root / "notebooks/00_a.ipynb"
    path.write_text(json.dumps(nb), encoding="utf-8")
    return path


LOOK = """\
import os, pathlib
from dotenv import find_dotenv
here = pathlib.Path.cwd()
print(here.name, (here.parent / ".env.example").is_file(), find_dotenv(usecwd=True))
print([name for name, value in os.environ.items() if "maintainer" in value])
print(os.path.exists(os.path.expanduser("~/.cache/huggingface")), os.environ["HF_HUB_OFFLINE"])"""


def test_run_sees_nothing_of_the_maintainer(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook runs offline beside its own files, away from tokens, `.env`, caches, settings."""
    monkeypatch.setattr(kernels, "lender", tmp_path / "no models")
    nb = execute(write(root, LOOK))
    assert nb.cells[0].outputs[0].text.splitlines() == ["notebooks True ", "[]", "False 1"]


def test_a_run_borrows_models_out_of_packages(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What set-up has fetched once is found in the clean room, and nothing else of that cache."""
    kept = tmp_path / "local_pipelines/models/smollm2"
    kept.mkdir(parents=True)
    (tmp_path / "hub").mkdir()
    monkeypatch.setattr(kernels, "lender", tmp_path)
    look = "import os, pathlib\nhome = pathlib.Path.home() / '.cache/huggingface'\n"
    look += "print(*sorted(os.listdir(home)), *sorted(os.listdir(home / 'local_pipelines/models')))"
    nb = execute(write(root, look))
    assert nb.cells[0].outputs[0].text == "local_pipelines smollm2\n"


def test_stored_notebook_is_normalised(root: Path) -> None:
    """Counts, kernel and metadata are made alike; ids, tags and what is hidden stay."""
    path = write(root, "print('a', end='')\nprint('b')", "print('\\x1b[31m中\\x1b[0m')", "1 / 0",
                 tag="raises-exception")  # fmt: skip
    ids = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert command.main(["00"]) == 0
    text = path.read_text(encoding="utf-8")
    nb = json.loads(text)
    assert text.endswith("}\n")
    assert text.startswith('{\n "cells"')
    assert "中" in text
    assert [cell["execution_count"] for cell in nb["cells"]] == [1, 2, 3]
    assert [cell["id"] for cell in nb["cells"]] == ids
    assert nb["metadata"]["kernelspec"]["name"] == "python3"
    assert set(nb["metadata"]) == {"kernelspec", "language_info"}
    assert "version" not in nb["metadata"]["language_info"]
    assert nb["cells"][0]["metadata"] == {"collapsed": True}
    assert nb["cells"][2]["metadata"] == {
        "jupyter": {"source_hidden": True},
        "tags": ["raises-exception"],
    }
    assert [out["text"] for out in nb["cells"][0]["outputs"]] == [["ab\n"]]
    assert nb["cells"][1]["outputs"][0]["text"] == ["中\n"]
    assert "\\u001b" not in text


def test_second_run_changes_nothing(root: Path) -> None:
    """A notebook whose outputs do not vary is stored byte for byte as before."""
    path = write(root, "{'x': 1}", "import json; json.loads('no')", tag="raises-exception")
    assert command.main([]) == 0
    before = path.read_bytes()
    assert command.main([]) == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import sys; print('old', file=sys.stderr)", "cell 2: There is stderr output: old"),
        ("import os; print(os.getcwd())", "cell 2: The output holds a path of this machine"),
        ("import sys; print(sys.prefix)\nprint(ROOT)", "cell 2: The output holds a path"),
        ("int('x')", "cell [2]: ValueError: invalid literal"),
        ("print('x\\n' * 60)", "cell 2: The outputs have 61 lines"),
        ("import os; os._exit(1)", "cell [2]: the kernel died"),
        ("import time; time.sleep(9)", "cell [2]: TimeoutError: the cell took longer than 2 s"),
    ],
)
def test_bad_output_is_refused_and_file_left_alone(
    root: Path, capsys: pytest.CaptureFixture[str], source: str, sentence: str
) -> None:
    """An output that must not be stored is told with its cell, and nothing is written."""
    path = write(root, f"ROOT = {str(root)!r}", source)
    before = path.read_bytes()
    assert command.main(["--timeout", "2"]) == 1
    assert sentence in capsys.readouterr().out
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["00_a.ipynb"]


def test_error_names_every_bad_cell(root: Path) -> None:
    """All findings of a run are told at once."""
    warn = "import sys; print('old', file=sys.stderr)"
    with pytest.raises(ExecutionError, match=r"(?s)cell 1: .*cell 2: "):
        execute(write(root, warn, warn))


def test_library_frames_leave_the_traceback() -> None:
    """A stored traceback shows the learner's cell and the error, no folder of a machine."""
    parts = [
        "Error\x1b[0m",
        "Cell In[1], line 1",
        "\x1b[36mFile /opt/lib/x.py:3\x1b[0m",
        "Error: no",
    ]
    cell = v4.new_code_cell("f()", outputs=[
        v4.new_output("error", ename="Error", evalue="no", traceback=parts)
    ])  # fmt: skip
    normalise(v4.new_notebook(cells=[cell]))
    assert cell.outputs[0].traceback == ["Error", "Cell In[1], line 1", "Error: no"]


def test_only_neighbouring_streams_are_joined() -> None:
    """The order of text and pictures stays, and a progress bar leaves its last state only."""
    outputs = [
        v4.new_output("stream", name="stdout", text="a\n"),
        v4.new_output("display_data", {"text/plain": "picture"}),
        v4.new_output("stream", name="stdout", text="10 %\r"),
        v4.new_output("stream", name="stdout", text="20 %\n"),
    ]
    merged = merge_streams(outputs)
    assert [output.get("text") for output in merged] == ["a\n", None, "20 %\n"]


def test_clean_environment_keeps_the_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative import path still leads to the same folder from where the kernels start."""
    monkeypatch.setenv("PYTHONPATH", "src")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    environment = clean_environment(Path("home"))
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["PYTHONPATH"] == str(Path("src").resolve())
    assert environment["HOME"] == "home"
    assert "PYTHONHASHSEED" not in environment
