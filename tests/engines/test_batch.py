"""A batch is as large as was asked for, or as memory allows; and it tells how it was computed."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local_pipelines import LocalPipeline, answer_file
from local_pipelines.engines.memory import free_memory, is_shortage
from local_pipelines.errors import DeviceError, MemoryShortageError, ParameterError

FRANCE = "What is the capital of France?"
PERU = "What is the capital of Peru?"
JAPAN = "What is the capital of Japan?"
COT = "Question: {}\n\nAnswer: Let's think step by step."
PROMPTS = [FRANCE, COT.format(FRANCE), PERU, COT.format(PERU), JAPAN, "Quito?", COT.format(JAPAN)]


@contextmanager
def small_memory(llm: Any, rows: int, error: Callable[[], Exception]) -> Iterator[list[int]]:
    """Let the model run out of memory with more than so many rows; give the rows it computed."""
    model = llm.pipeline.model
    forward, seen = model.forward, []

    @functools.wraps(forward)
    def limited(*args: Any, **kwargs: Any) -> Any:
        count = len(kwargs["input_ids"])
        seen.append(count)
        if count > rows:
            raise error()
        return forward(*args, **kwargs)

    model.forward = limited
    try:
        yield seen
    finally:
        del model.forward


def cuda_shortage() -> Exception:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


SHORTAGES: dict[str, Callable[[], Exception]] = {
    "cuda": cuda_shortage,
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"),
    "python": MemoryError,
}


class TestShortage:
    """Memory runs out and the batch goes on with half of it."""

    @pytest.mark.parametrize("kind", SHORTAGES)
    @pytest.mark.parametrize("stop", [None, ["\n\n"]])
    def test_answers_stay_complete_and_in_order(
        self, torch_llm: Any, kind: str, stop: list[str] | None
    ) -> None:
        """The batch is halved until it fits; the answers are those of single prompts."""
        single = [torch_llm.invoke(prompt, stop=stop) for prompt in PROMPTS]
        with small_memory(torch_llm, 2, SHORTAGES[kind]):
            answers = torch_llm.bind(batch_size=7).batch(PROMPTS, stop=stop)
        assert answers == single
        report = torch_llm.last_batch
        assert (report.requested, report.sizes, report.halvings) == (7, (2, 2, 2, 1), 2)
        assert "halved 2 times" in repr(report)

    def test_nothing_is_answered_twice(self, torch_llm: Any) -> None:
        """Batches before the shortage keep their answers, and later ones begin small."""
        model, calls = torch_llm.pipeline.model, []
        forward = model.forward

        @functools.wraps(forward)
        def fails_once(*args: Any, **kwargs: Any) -> Any:
            count, length = kwargs["input_ids"].shape
            if length > 1:
                calls.append(count)
                if len(calls) == 2:
                    raise cuda_shortage()
            return forward(*args, **kwargs)

        model.forward = fails_once
        done: list[int] = []
        try:
            from local_pipelines.engines.request import GenerationRequest
            from local_pipelines.engines.torch_engine import answer_request
            from local_pipelines.engines.torch_run import TorchRun

            request = GenerationRequest(prompts=PROMPTS, batch_size=3, advance=done.append)
            answer_request(TorchRun(torch_llm.pipeline, request))
        finally:
            del model.forward
        assert calls == [3, 3, 2, 1, 1]  # the second of these failed
        assert done == [3, 2, 1, 1]

    def test_rows_that_had_ended_are_kept(self, torch_llm: Any) -> None:
        """Memory that runs out late costs only the rows that were still growing."""
        steps: list[int] = []
        model, forward = torch_llm.pipeline.model, torch_llm.pipeline.model.forward
        single = [torch_llm.invoke(prompt, stop=["capital"]) for prompt in (FRANCE, COT)]

        @functools.wraps(forward)
        def fails_late(*args: Any, **kwargs: Any) -> Any:
            steps.append(len(kwargs["input_ids"]))
            if len(steps) == 6:
                raise cuda_shortage()
            return forward(*args, **kwargs)

        model.forward = fails_late
        try:
            answers = torch_llm.bind(batch_size=2).batch([FRANCE, COT], stop=["capital"])
        finally:
            del model.forward
        assert answers == single
        assert set(steps[6:]) == {1}
        assert torch_llm.last_batch.sizes == (1,)

    def test_one_prompt_that_does_not_fit(self, torch_llm: Any) -> None:
        """The error has a fact, a cause and a next step; afterwards the model still works."""
        with small_memory(torch_llm, 0, cuda_shortage), pytest.raises(MemoryShortageError) as error:
            torch_llm.bind(batch_size=4).batch([FRANCE, PERU])
        assert "a single prompt of" in error.value.fact
        assert "cpu" in error.value.cause
        assert "max_new_tokens" in error.value.next_step
        assert error.value.__cause__ is None  # it would hold the memory
        assert torch_llm.last_batch.halvings == 1
        assert torch_llm.invoke(FRANCE).strip() == "The capital of France is Paris."

    def test_other_errors_are_no_shortage(self, torch_llm: Any) -> None:
        """A mistake in the model is raised at once, as it is."""

        def broken() -> Exception:
            return RuntimeError("shape mismatch")

        with (
            small_memory(torch_llm, 0, broken) as seen,
            pytest.raises(RuntimeError, match="shape mismatch"),
        ):
            torch_llm.batch([FRANCE, PERU])
        assert len(seen) == 1

    def test_a_stream_that_does_not_fit(self, torch_llm: Any) -> None:
        """A single answer that is streamed gets the same error."""
        with small_memory(torch_llm, 0, cuda_shortage), pytest.raises(MemoryShortageError):
            list(torch_llm.stream(FRANCE))

    def test_a_prompt_too_large_costs_a_file_one_answer(
        self, torch_llm: Any, tmp_path: Any
    ) -> None:
        """In a file of prompts the one that memory is too small for has an error, no other."""
        model, forward = torch_llm.pipeline.model, torch_llm.pipeline.model.forward

        @functools.wraps(forward)
        def limited(*args: Any, **kwargs: Any) -> Any:
            if kwargs["input_ids"].shape[1] > 40:
                raise cuda_shortage()
            return forward(*args, **kwargs)

        (tmp_path / "p.txt").write_text(f"{FRANCE}\n{'Peru ' * 50}\n{PERU}\n{JAPAN}\n")
        model.forward = limited
        try:
            report = answer_file(torch_llm, tmp_path / "p.txt", tmp_path / "a.jsonl")
        finally:
            del model.forward
        assert (report.answered, report.failed) == (3, 1)

    def test_freeing_memory_needs_no_accelerator(self) -> None:
        """What is not there is not asked."""
        free_memory()

    @pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("out of range")])
    def test_what_is_no_shortage(self, error: Exception) -> None:
        """The words alone do not make one, nor does the type."""
        assert not is_shortage(error)


@pytest.mark.parametrize("option", [{"repetition_penalty": 2.0}, {"no_repeat_ngram_size": 2}])
def test_padding_is_not_penalised(torch_llm: Any, option: dict[str, Any]) -> None:
    """Options that look at all earlier tokens see no padding: a batch answers as one by one."""
    prompts = [*PROMPTS, *(f"Question: {prompt}" for prompt in PROMPTS)]
    alone = [torch_llm.invoke(prompt, **option) for prompt in prompts]
    assert torch_llm.batch(prompts, **option, batch_size=8) == alone


class TestReport:
    """`last_batch` tells how the last call was computed."""

    def test_it_counts(self, torch_llm: Any) -> None:
        """Prompts, sizes, seconds and tokens of the whole call are there, also through a chain."""
        result = torch_llm.generate(PROMPTS, batch_size=3)
        report = torch_llm.last_batch
        usage = result.llm_output["token_usage"]
        assert (report.prompts, report.requested, report.halvings) == (7, 3, 0)
        assert (report.engine, report.reason) == ("static", "")
        assert report.sizes == (3, 3, 1)
        assert (report.input_tokens, report.output_tokens) == (
            usage["input_tokens"],
            usage["output_tokens"],
        )
        assert report.tokens_per_second == report.output_tokens / report.seconds
        line = "7 prompts with batch_size=3, computed in batches of 2 × 3, 1."
        assert repr(report) == line
        with pytest.raises(dataclasses.FrozenInstanceError):
            report.prompts = 1

    def test_before_the_first_call_there_is_none(self, torch_llm: Any) -> None:
        """A model that has answered nothing has nothing to tell."""
        assert LocalPipeline(pipeline=torch_llm.pipeline).last_batch is None


class TestBadInput:
    """One sentence each, or the right result."""

    @pytest.mark.parametrize("size", [0, -1, "2", True, 2.5])
    def test_a_batch_size_that_cannot_work(self, torch_llm: Any, size: Any) -> None:
        """It is refused before a model is loaded, when one is made, and in a call."""
        for make in (
            lambda: LocalPipeline.from_model_id("no/such-model", batch_size=size),
            lambda: LocalPipeline(pipeline=torch_llm.pipeline, batch_size=size),
            lambda: torch_llm.bind(batch_size=size).batch([FRANCE]),
        ):
            with pytest.raises(ParameterError, match="a whole number from 1 upward"):
                make()

    def test_a_batch_size_larger_than_any_batch(self, torch_llm: Any) -> None:
        """A million is as many as there are prompts."""
        single = [torch_llm.invoke(prompt) for prompt in PROMPTS[:3]]
        assert torch_llm.bind(batch_size=10**6).batch(PROMPTS[:3]) == single
        assert torch_llm.last_batch.sizes == (3,)

    def test_a_device_that_is_not_there(self) -> None:
        """`DEVICE=7` is refused before a model is loaded."""
        with pytest.raises(DeviceError):
            LocalPipeline.from_model_id("pocket", device=7)

    def test_cuda_without_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So is "cuda" where torch cannot reach one."""
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(DeviceError):
            LocalPipeline.from_model_id("pocket", device="cuda")

    def test_device_and_device_map_together(self) -> None:
        """They contradict each other, and the sentence says what each does."""
        with pytest.raises(ParameterError, match="Leave one of them out"):
            LocalPipeline.from_model_id("pocket", device=-1, device_map="auto")

    def test_a_model_without_a_pad_token(self, torch_llm: Any) -> None:
        """GPT-2 has none; a batch is padded all the same, on the left, and answers are the same."""
        from transformers import AutoTokenizer, pipeline

        from local_pipelines import model_path

        tokenizer = AutoTokenizer.from_pretrained(model_path("pocket"))
        tokenizer.pad_token = None
        pipe = pipeline(
            "text-generation",
            model=torch_llm.pipeline.model,
            tokenizer=tokenizer,
            max_new_tokens=48,
            do_sample=False,
        )
        llm = LocalPipeline(pipeline=pipe)
        assert pipe.tokenizer.pad_token_id is None
        llm.pipeline.generation_config.pad_token_id = None
        single = [torch_llm.invoke(prompt) for prompt in PROMPTS]
        assert llm.bind(batch_size=7).batch(PROMPTS) == single
