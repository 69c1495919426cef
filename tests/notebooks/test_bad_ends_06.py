"""Lesson 6: each row of its table "If it fails" says what really happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from course_kit.notebooks.pages import read_as_stored
from local_pipelines import LocalPipeline, model_path
from local_pipelines.errors import ParameterError

LESSON = Path(__file__).parents[2] / "notebooks" / "06_batch.ipynb"
OPTIONS = {"max_new_tokens": 12, "do_sample": False}


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


@pytest.fixture(scope="module")
def llm() -> Any:
    """Load pocket with LangChain's class."""
    from langchain_huggingface import HuggingFacePipeline

    return HuggingFacePipeline.from_model_id(
        model_path("pocket"),
        task="text-generation",
        device=-1,
        batch_size=4,
        pipeline_kwargs=OPTIONS,
    )


def test_every_row_is_here() -> None:
    """The tests of this file are about all rows."""
    assert len(table()) == 6


def test_an_option_for_writing_is_no_option_for_loading() -> None:
    """The row about temperature quotes the error."""
    from langchain_huggingface import HuggingFacePipeline

    with pytest.raises(TypeError) as caught:
        HuggingFacePipeline.from_model_id(
            model_path("pocket"), task="text-generation", model_kwargs={"temperature": 0}
        )
    assert says(row("temperature")[0], caught.value)


def test_the_filling_belongs_on_the_left(llm: Any) -> None:
    """The row's remedy gives a batch the answers of single questions."""
    tokenizer = llm.pipeline.tokenizer
    texts = ["What is the capital of Saint Vincent and the Grenadines?", "What is a GPU?"]
    alone = [llm.invoke(text, skip_prompt=True) for text in texts]
    tokenizer.padding_side = "right"
    assert tokenizer(texts, padding=True)["input_ids"][1][-1] == tokenizer.pad_token_id
    remedy = re.search("`(.+?)`", row("in batches only")[1])
    assert remedy
    exec(remedy[1], {"tokenizer": tokenizer})  # noqa: S102 - the lesson's own line
    assert llm.batch(texts, skip_prompt=True) == alone


def test_a_tokenizer_without_padding(llm: Any) -> None:
    """The row about padding tokens quotes the error, and its remedy helps."""
    from transformers import pipeline

    tokenizer, before = llm.pipeline.tokenizer, llm.pipeline.tokenizer.pad_token
    seen, todo = row("pad_token")
    tokenizer.pad_token = None
    try:
        bare = pipeline("text-generation", llm.pipeline.model, tokenizer=tokenizer, batch_size=2)
        bare.tokenizer.pad_token = None
        with pytest.raises(ValueError, match="pad") as caught:
            bare(["What is a GPU?", "Hello"], **OPTIONS)
        assert says(seen, caught.value)
        remedy = re.search("`(.+?)`", todo)
        assert remedy
        exec(remedy[1], {"tokenizer": tokenizer})  # noqa: S102 - the lesson's own line
        assert len(bare(["What is a GPU?", "Hello"], **OPTIONS)) == 2
    finally:
        tokenizer.pad_token = before


def test_a_pipeline_of_your_own_needs_the_size_too(llm: Any, monkeypatch: Any) -> None:
    """Without `batch_size`, a wrapped pipeline computes one row at a time, as the row says."""
    from langchain_huggingface import HuggingFacePipeline
    from transformers import pipeline

    assert "`batch_size`" in row("as slow as single")[1]
    model, rows = llm.pipeline.model, []
    forward = model.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counting)
    most = {}
    for size in ({}, {"batch_size": 2}):
        own = pipeline("text-generation", model, tokenizer=llm.pipeline.tokenizer, **size)
        rows.clear()
        HuggingFacePipeline(pipeline=own, batch_size=2, pipeline_kwargs=OPTIONS).batch(
            ["What is a GPU?", "What is a token?"]
        )
        most[bool(size)] = max(rows)
    assert most == {False: 1, True: 2}


def test_local_pipeline_halves_a_batch(llm: Any, monkeypatch: Any) -> None:
    """The row about memory names the error, and LocalPipeline goes on with smaller batches."""
    import torch

    assert says(row("OutOfMemoryError")[0], torch.OutOfMemoryError("out of memory"))
    model = llm.pipeline.model
    forward = model.forward

    def refusing(*args: Any, **kwargs: Any) -> Any:
        if len(kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", refusing)
    local = LocalPipeline(pipeline=llm.pipeline, pipeline_kwargs=OPTIONS)
    assert all(local.batch([f"What is the number {i} in French?" for i in range(4)], batch_size=4))


def test_a_batch_has_rows(llm: Any) -> None:
    """The row about size 0 quotes the error."""
    local = LocalPipeline(pipeline=llm.pipeline, pipeline_kwargs=OPTIONS)
    with pytest.raises(ParameterError) as caught:
        local.batch(["What is a GPU?"], batch_size=0)
    assert says(row("batch_size=0")[0], caught.value)
