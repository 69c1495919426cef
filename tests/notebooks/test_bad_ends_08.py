"""Lesson 8: each row of its table "If it fails" says what really happens."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from course_kit.notebooks.pages import read_as_stored
from local_pipelines import export_openvino, model_path, read_export
from local_pipelines.errors import ExportError, ParameterError
from local_pipelines.openvino import need
from local_pipelines.openvino.manifest import write_manifest

LESSON = Path(__file__).parents[2] / "notebooks" / "08_local_ir.ipynb"


def table() -> dict[str, str]:
    """Read the table: what one sees, and what to do."""
    text = next(c.source for c in read_as_stored(LESSON).cells if "## If it fails" in c.source)
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return dict(rows[1:])


def row(word: str) -> tuple[str, str]:
    """Find the one row whose first column has the word."""
    [found] = [(seen, todo) for seen, todo in table().items() if word in seen]
    return found


def says(seen: str, error: BaseException | str) -> bool:
    """Whether an error reads as the code in a first column, where … stands for anything."""
    quoted = re.search("`(.+?)`", seen)
    assert quoted
    pattern = ".*".join(map(re.escape, quoted[1].split("…")))
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return bool(re.search(pattern, text, re.DOTALL))


def test_every_row_is_here() -> None:
    """The tests of this file are about all rows."""
    assert len(table()) == 7


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_the_command_is_not_on_the_path(tmp_path: Path) -> None:
    """The row quotes the shell, and the module that it names is there."""
    seen, todo = row("command not found")
    done = subprocess.run(
        [str(shutil.which("bash")), "-c", "optimum-cli"],
        env={"PATH": str(tmp_path), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert says(seen, done.stderr)
    module = re.search(r"`python -m (.+?)`", todo)
    assert module
    assert importlib.util.find_spec(module[1])


def test_the_task_of_a_folder(tmp_path: Path) -> None:
    """The row about the task quotes the tool, which cannot ask the Hub about a folder."""
    from optimum.exporters.openvino import main_export

    seen, todo = row("Cannot infer")
    assert "--task text-generation-with-past" in todo
    with pytest.raises(Exception, match="task") as caught:
        main_export(model_path("pocket"), output=tmp_path / "ir", task="auto")
    assert says(seen, caught.value)


def test_groups_that_do_not_divide_a_row(tmp_path: Path) -> None:
    """The row about the group size quotes the error."""
    with pytest.raises(ParameterError) as caught:
        export_openvino("pocket", tmp_path / "ir", weight_format="int4", group_size=100)
    assert says(row("does not divide")[0], caught.value)


def test_a_folder_of_another_format(tmp_path: Path) -> None:
    """The row about folders quotes the error, before any work begins."""
    write_manifest(
        tmp_path,
        Path(model_path("pocket")),
        model="pocket",
        revision="",
        weight_format="fp32",
        group_size=None,
        group_size_chosen=True,
    )
    with pytest.raises(ExportError) as caught:
        export_openvino("pocket", tmp_path, weight_format="int8")
    assert says(row("another export")[0], caught.value)


def test_too_little_memory(tmp_path: Path, monkeypatch: Any) -> None:
    """The row about memory quotes the error."""
    monkeypatch.setattr(need, "ram", lambda: (1000, 1000))
    with pytest.raises(ExportError) as caught:
        export_openvino("pocket", tmp_path / "ir", weight_format="fp32")
    assert says(row("of memory")[0], caught.value)


def test_a_folder_that_was_copied_in_part(tmp_path: Path) -> None:
    """The row about files quotes the error."""
    (tmp_path / "openvino_model.xml").write_text("<net/>", encoding="utf-8")
    with pytest.raises(ExportError) as caught:
        read_export(tmp_path)
    assert says(row("lacks the file")[0], caught.value)


def test_a_checkpoint_of_torch_is_no_export() -> None:
    """The row about openvino_model.xml quotes the error."""
    from langchain_huggingface import HuggingFacePipeline

    with pytest.raises(Exception, match="openvino_model") as caught:
        HuggingFacePipeline.from_model_id(
            model_path("pocket"), task="text-generation", backend="openvino"
        )
    assert says(row("openvino_model.xml")[0], caught.value)
