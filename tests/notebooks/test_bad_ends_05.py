"""Each row of lesson 5's table "If it fails" is what really happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from langchain_huggingface import HuggingFacePipeline

from course_kit.notebooks.pages import read_as_stored
from local_pipelines import model_path
from local_pipelines.workbench.devices import select_device

LESSON = Path(__file__).parents[2] / "notebooks" / "05_gpu.ipynb"


def read_cell(name: str) -> str:
    """Read the source of one cell of the lesson."""
    (source,) = (cell.source for cell in read_as_stored(LESSON).cells if cell.id == name)
    return str(source)


def read_rows() -> dict[str, str]:
    """Read the table: what you see, and what to do."""
    lines = read_cell("fails").partition("## Exercises")[0].splitlines()
    rows = (line.strip("| ").split(" | ") for line in lines if line.startswith("| "))
    return {seen: cure for seen, cure in rows if seen != "what you see"}


ROWS = read_rows()
# Words of each row, in the table's order.
PROVOKED = (
    "Got device==0",
    "device_map are specified",
    "It is slow",
    "Expected all tensors",
    "OutOfMemoryError",
    "requires accelerate",
    "bitsandbytes",
)


def row_of(error: BaseException) -> str:
    """Give what to do for the one row whose code span is what an error says."""
    said = f"{type(error).__name__}: {error}".replace("`", "")
    spans = {seen: found[1] for seen in ROWS if (found := re.search(r"`([^`]+)`", seen))}
    patterns = {seen: ".*".join(map(re.escape, span.split("…"))) for seen, span in spans.items()}
    (seen,) = (seen for seen, text in patterns.items() if re.match(text, said, re.DOTALL))
    return ROWS[seen]


def test_every_row_is_provoked() -> None:
    """A new row needs a test here."""
    assert len(ROWS) == len(PROVOKED)
    assert all(words in seen for words, seen in zip(PROVOKED, ROWS, strict=True))


def load(**where: Any) -> HuggingFacePipeline:
    """Load the lesson's model as the lesson does."""
    return HuggingFacePipeline.from_model_id(
        model_path("pocket"), task="text-generation", pipeline_kwargs={"max_new_tokens": 8}, **where
    )


def has_gpu() -> bool:
    """Whether torch finds a GPU here."""
    return select_device("auto").name != "cpu"


@pytest.mark.skipif("has_gpu()")
def test_a_gpu_that_is_not_there_is_named() -> None:
    """LangChain counts the GPUs, and `select_device` says why there is none."""
    with pytest.raises(ValueError, match="device==0") as caught:
        load(device=0)
    assert "select_device()" in row_of(caught.value)
    assert select_device("auto").reason


@pytest.mark.skipif("has_gpu()")
def test_a_gpu_that_is_not_there_costs_the_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain counts the GPUs after it has loaded the weights, as the lesson says."""
    from transformers import AutoModelForCausalLM

    loaded = []
    really_load = AutoModelForCausalLM.from_pretrained

    def note(*args: Any, **options: Any) -> Any:
        loaded.append(args)
        return really_load(*args, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", note)
    with pytest.raises(ValueError, match="device==0"):
        load(device=0)
    assert len(loaded) == 1


def test_device_and_device_map_exclude_each_other() -> None:
    """Both together are refused."""
    with pytest.raises(ValueError, match="Both") as caught:
        load(device=0, device_map="auto")
    assert "Leave one of them out" in row_of(caught.value)


def test_the_check_of_the_lesson_finds_a_model_that_is_elsewhere() -> None:
    """A model on another processor than expected, or partly on a disk, does not pass."""
    from transformers import AutoModelForCausalLM

    (cure,) = (cure for seen, cure in ROWS.items() if "It is slow" in seen)
    names: dict[str, Any] = {}
    exec(read_cell("check-code").partition("\n\n\ngpu_llm = ")[0], names)  # noqa: S102
    check = names[cure.strip("`")]
    model = AutoModelForCausalLM.from_pretrained(model_path("pocket"))
    assert check(model, "cpu").endswith("on cpu")
    with pytest.raises(RuntimeError, match="not all weights are on cuda"):
        check(model, "cuda:0")
    model.model.norm.to("meta")
    with pytest.raises(RuntimeError, match="meta"):
        check(model, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif("not has_gpu()")
def test_a_prompt_on_another_device_is_refused() -> None:
    """The model on the GPU cannot read a prompt in the main memory."""
    import torch

    model = load(device=0).pipeline.model
    prompt = torch.ones((1, 8), dtype=torch.long)
    with pytest.raises(RuntimeError, match="same device") as caught:
        model(prompt)
    assert "inputs.to(model.device)" in row_of(caught.value)
    model(prompt.to(model.device))


def test_too_little_memory_has_the_two_names_of_the_table() -> None:
    """A GPU's error is a class of torch's; on the CPU the message says it."""
    import torch

    (seen,) = (seen for seen in ROWS if "OutOfMemoryError" in seen)
    gpu, cpu = re.findall(r"`([^`]+)`", seen)
    assert torch.OutOfMemoryError.__name__ == gpu
    with pytest.raises(RuntimeError, match=cpu):
        torch.empty(2**60, dtype=torch.uint8)


def test_a_device_map_needs_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package that is missing."""
    from transformers.integrations import accelerate

    monkeypatch.setattr(accelerate, "is_accelerate_available", lambda *_: False)
    with pytest.raises(ValueError, match="accelerate") as caught:
        load(device_map="auto")
    assert "%pip install accelerate" in row_of(caught.value)


def test_a_model_of_few_bits_keeps_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bitsandbytes has loaded cannot be cast; the package itself is not needed here."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.quantization_config import QuantizationMethod

    model = AutoModelForCausalLM.from_pretrained(model_path("pocket"))
    monkeypatch.setattr(
        model, "quantization_method", QuantizationMethod.BITS_AND_BYTES, raising=False
    )
    with pytest.raises(ValueError, match="cannot cast") as caught:
        model.to(torch.float16)
    assert "while it loads" in row_of(caught.value)
