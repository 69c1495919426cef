"""`explain` knows the errors that learners meet, by the messages that libraries really give."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import errors, explain, model_path
from local_pipelines.engines.report import Interrupted
from local_pipelines.errors import ParameterError
from local_pipelines.lessons.explaining import Explanation

SECRET = "hf_" + "A" * 34


def _error(raising: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - any error is the point
        raising()
    return caught.value


class TestRealErrors:
    """Errors that the libraries raise here and now, so that a new wording is noticed."""

    @pytest.fixture(scope="class")
    def upstream(self) -> Any:
        from langchain_huggingface import HuggingFacePipeline

        return HuggingFacePipeline.from_model_id(
            model_path("pocket"), task="text-generation", pipeline_kwargs={"max_new_tokens": 3}
        )

    def _load(self, **options: Any) -> Callable[[], object]:
        from langchain_huggingface import HuggingFacePipeline

        return lambda: HuggingFacePipeline.from_model_id(
            model_path("pocket"), task="text-generation", **options
        )

    def test_generation_options_in_model_kwargs(self) -> None:
        """The option and its right place are named."""
        explanation = explain(_error(self._load(model_kwargs={"temperature": 0})))
        assert "Move temperature from model_kwargs to pipeline_kwargs" in explanation.next_step

    def test_device_and_device_map(self) -> None:
        """One of them is too much."""
        explanation = explain(_error(self._load(device=0, device_map="auto")))
        assert explanation.next_step == "Leave one of them out."

    def test_a_device_that_is_not_there(self) -> None:
        """The number that the machine has instead is one call away."""
        explanation = explain(_error(self._load(device=77)))
        assert "select_device()" in explanation.next_step

    def test_temperature_zero(self, upstream: Any) -> None:
        """Greedy decoding is what was meant."""
        options = {"temperature": 0.0, "do_sample": True}
        explanation = explain(_error(lambda: upstream.invoke("a", pipeline_kwargs=options)))
        assert "do_sample=False" in explanation.next_step

    def test_a_misspelt_option(self, upstream: Any) -> None:
        """The usual names are listed."""
        error = _error(lambda: upstream.invoke("a", pipeline_kwargs={"max_new_token": 2}))
        assert "max_new_token" in explain(error).cause

    async def test_async_chat(self, upstream: Any) -> None:
        """LocalChat is the way."""
        from langchain_huggingface import ChatHuggingFace

        chat = ChatHuggingFace(llm=upstream)
        with pytest.raises(NotImplementedError) as caught:
            await chat.ainvoke("hello")
        assert "LocalChat" in explain(caught.value).next_step
        with pytest.raises(AttributeError) as attribute:
            [chunk async for chunk in chat.astream("hello")]
        assert "LocalChat" in explain(attribute.value).next_step

    def test_a_model_without_a_chat_template(self, upstream: Any) -> None:
        """It is no chat model."""
        template, upstream.pipeline.tokenizer.chat_template = (
            upstream.pipeline.tokenizer.chat_template,
            None,
        )
        try:
            error = _error(
                lambda: upstream.pipeline.tokenizer.apply_chat_template(
                    [{"role": "user", "content": "x"}]
                )
            )
        finally:
            upstream.pipeline.tokenizer.chat_template = template
        assert "conversations" in explain(error).cause

    def test_a_lost_error_in_a_stream(self) -> None:
        """`queue.Empty` says nothing at all."""
        assert "60 seconds" in explain(_error(queue.Queue().get_nowait)).cause

    def test_a_model_that_does_not_exist(self, tmp_path: Path) -> None:
        """Offline, the cache is named."""
        from transformers import AutoTokenizer

        error = _error(lambda: AutoTokenizer.from_pretrained("nobody/no-such-model"))
        assert explain(error).known

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        """Same length, other bytes: nothing but loading finds it."""
        from safetensors import safe_open

        damaged = tmp_path / "model.safetensors"
        damaged.write_bytes(b"\xff" * 100)
        error = _error(lambda: safe_open(str(damaged), "pt"))
        assert "hf cache verify" in explain(error).next_step

    def test_out_of_memory(self) -> None:
        """On the CPU torch says so in its own words."""
        import torch

        error = _error(lambda: torch.empty(1 << 62, dtype=torch.uint8))
        assert "batch_size" in explain(error).next_step

    def test_a_token_with_a_line_break_is_not_repeated(self) -> None:
        """The library's message shows the token; the explanation does not."""
        import httpx

        error = _error(
            lambda: httpx.get("http://127.0.0.1:9", headers={"authorization": f"{SECRET}\n"})
        )
        for text in (repr(explain(error)), explain(error)._repr_html_()):
            assert SECRET not in text

    def test_import_paths_that_moved(self) -> None:
        """Old tutorials import from places that are gone."""
        error = _error(lambda: __import__("langchain.llms", fromlist=["HuggingFacePipeline"]))
        assert "langchain_huggingface" in explain(error).next_step or not explain(error).known


HUB = [
    (401, "GatedRepo", "Access to model x/y is restricted. You must have access to it and be"
     " authenticated to access it. Please log in.", "run login()"),
    (403, "GatedRepo", "Access to model x/y is restricted and you are not in the authorized list."
     " Visit the page to ask for access.", "accept the licence"),
    (403, "GatedRepo", "Your request to access model x/y is awaiting a review from the repo"
     " authors.", "Wait"),
    (403, "GatedRepo", "Your request to access model x/y has been rejected by the repo's authors.",
     "another model"),
    (401, None, "Invalid credentials in Authorization header", "Make a new one"),
    (401, "RepoNotFound", "Repository not found", "catalogue()"),
    (403, None, "Forbidden", "Read"),
    (429, None, "Too many requests", "Wait"),
    (503, None, "Service Unavailable", "again"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "message", "words"), HUB)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_hubs_answers(
    status: int, code: str | None, message: str, words: str, wrapped: bool
) -> None:
    """The Hub's answers as its client raises them, alone and inside transformers' OSError."""
    import httpx
    from huggingface_hub.utils import hf_raise_for_status

    headers = {"x-error-message": message} | ({"x-error-code": code} if code else {})
    response = httpx.Response(
        status,
        headers=headers,
        request=httpx.Request("GET", "https://hub.invalid/x/y/resolve/main/config.json"),
    )
    error = _error(lambda: hf_raise_for_status(response))
    if wrapped:
        outer = OSError("There was a specific connection error when trying to load x/y")
        outer.__cause__ = error
        error = outer
    assert words in explain(error).next_step


WORDINGS = [
    (RuntimeError("Cannot send a request, as the client has been closed."), "pocket"),
    (OSError("We couldn't connect to 'the Hub' to load the files"), "pocket"),
    (OSError(28, "No space left on device"), "HF_HOME"),
    (RuntimeError("operator torchvision::nms does not exist"), "uninstall"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "batch_size"),
    (IndexError("index out of range in self"), "max_new_tokens"),
    (
        ValueError("`.to` is not supported for `4-bit` or `8-bit` bitsandbytes models."),
        "device_map",
    ),
    (AssertionError("Torch not compiled with CUDA enabled"), "DEVICE = -1"),
    (RuntimeError("CUDA error: no kernel image is available for execution"), "DEVICE = -1"),
    (ValueError("Asking to pad but the tokenizer does not have a padding token"), "pad_token"),
    (ImportError("Using `low_cpu_mem_usage=True` or a `device_map` requires Accelerate"), "accel"),
    (ImportError("FlashAttention2 has been toggled on, but it cannot be used"), "sdpa"),
    (ModuleNotFoundError("No module named 'langchain.llms'"), "langchain_huggingface"),
    (ModuleNotFoundError("No module named 'openvino'"), "install_packages"),
    (ValueError("The checkpoint contains custom code which must be executed"), "Read that code"),
    (ValueError("Transformers does not recognize this architecture"), "newer transformers"),
    (RuntimeError("Channel size 64 should be divisible by group size 128"), "32"),
]


@pytest.mark.parametrize(("error", "words"), WORDINGS, ids=lambda value: str(value)[:40])
def test_wordings_that_were_met(error: BaseException, words: str) -> None:
    """Messages that need hardware, a network or a fault, word for word as they were seen."""
    assert words in explain(error).next_step


def test_an_error_of_this_package_explains_itself() -> None:
    """Also as the cause of another error."""
    own = ParameterError("The fact.", "The cause.", "The next step.")
    outer = RuntimeError("something around it")
    outer.__cause__ = own
    for error in (own, outer):
        assert explain(error) == Explanation("The fact.", "The cause.", "The next step.")


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_of_this_package_is_known(name: str) -> None:
    """Each keeps its own fact, cause and next step, also where it led to a stranger's error."""
    own = getattr(errors, name)("A fact.", "A cause.", "A step.")
    stranger = RuntimeError("in a thread")
    stranger.__cause__ = own
    assert explain(stranger) == Explanation("A fact.", "A cause.", "A step.")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("Stopped: 3 of 9.")])
def test_a_stopped_cell_is_no_riddle(error: BaseException) -> None:
    """Whoever stops a cell learns that nothing is broken."""
    explanation = explain(error)
    assert explanation.known
    assert "Run the cell again" in explanation.next_step


def test_an_unknown_error_says_so() -> None:
    """With the package it comes from, and nothing invented."""
    import json

    explanation = explain(_error(lambda: json.loads("{")))
    assert not explanation.known
    assert "raised in json" in explanation.cause


def test_it_takes_the_last_error_of_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """`explain()` in the next cell is enough."""
    import sys

    monkeypatch.setattr(sys, "last_exc", queue.Empty(), raising=False)
    assert "LocalPipeline" in explain().next_step
    monkeypatch.setattr(sys, "last_exc", None)
    monkeypatch.setattr(sys, "last_value", None, raising=False)
    with pytest.raises(ParameterError, match="no error to explain"):
        explain()


def test_it_reads_well() -> None:
    """Three short lines as text, three paragraphs as HTML, nothing unescaped."""
    explanation = explain(ParameterError("A < B.", "C.", "D."))
    assert repr(explanation) == "A < B.\n  C.\n  D."
    assert explanation._repr_html_() == "<p><b>A &lt; B.</b></p><p>C.</p><p>D.</p>"


def test_a_circle_of_errors_ends() -> None:
    """Errors that name each other as their cause are looked at once."""
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert not explain(one).known
