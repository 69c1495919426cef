"""Lesson 7: each row of its table "If it fails" says what really happens."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from course_kit.notebooks.pages import read_as_stored
from local_pipelines import check_ov_config, model_path
from local_pipelines.errors import DeviceError, MissingPackageError, ParameterError

LESSON = Path(__file__).parents[2] / "notebooks" / "07_openvino.ipynb"


def table() -> dict[str, str]:
    """Read the table: what one sees, and what to do."""
    text = next(c.source for c in read_as_stored(LESSON).cells if "## If it fails" in c.source)
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return dict(rows[1:])


def row(word: str) -> tuple[str, str]:
    """Find the one row whose first column has the word."""
    [found] = [(seen, todo) for seen, todo in table().items() if word in seen]
    return found


def says(seen: str, error: BaseException) -> bool:
    """Whether an error reads as the code in a first column, where … stands for anything."""
    quoted = re.search("`(.+?)`", seen)
    assert quoted
    pattern = ".*".join(map(re.escape, quoted[1].split("…")))
    return bool(re.search(pattern, f"{type(error).__name__}: {error}", re.DOTALL))


def test_every_row_is_here() -> None:
    """The tests of this file are about all rows."""
    assert len(table()) == 6


def test_a_checkpoint_of_torch_is_no_export() -> None:
    """The row about openvino_model.xml quotes the error."""
    from langchain_huggingface import HuggingFacePipeline

    with pytest.raises(Exception, match="openvino_model") as caught:
        HuggingFacePipeline.from_model_id(
            model_path("pocket"), task="text-generation", backend="openvino"
        )
    assert says(row("openvino_model.xml")[0], caught.value)


def test_a_device_that_is_not_here() -> None:
    """The row about devices quotes the error."""
    with pytest.raises(DeviceError) as caught:
        check_ov_config({}, device="GPU.7")
    assert says(row("DeviceError")[0], caught.value)


def test_an_option_with_a_wrong_name() -> None:
    """The row about options quotes the error, which names the nearest one."""
    with pytest.raises(ParameterError, match='"KV_CACHE_PRECISION"') as caught:
        check_ov_config({"KV_CACHE_PRECISON": "f16"})
    assert says(row("ParameterError")[0], caught.value)


def test_openvino_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row about packages names the error, whose next step is the row's."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError) as caught:
        check_ov_config({})
    seen, todo = row("MissingPackageError")
    remedy = re.search("`(.+?)`", todo)
    assert says(seen, caught.value)
    assert remedy
    assert remedy[1] in caught.value.next_step


def test_options_for_answers_as_torch_gives_them() -> None:
    """The options in `exact`, which the row names, are such that the processor takes them."""
    assert "`exact`" in row("differ from torch")[1]
    line = next(
        line
        for cell in read_as_stored(LESSON).cells
        for line in cell.source.splitlines()
        if line.startswith("exact = ")
    )
    exact = ast.literal_eval(line.removeprefix("exact = "))
    assert set(exact.values()) == {"f32"}
    check_ov_config(exact)


def test_genai_takes_a_folder() -> None:
    """The library fails on a model's name, as the row says."""
    import openvino_genai

    assert "takes no model's name" in row("openvino_genai")[0]
    with pytest.raises(RuntimeError):
        openvino_genai.LLMPipeline("pocket", "CPU")
