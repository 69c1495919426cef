"""transformers' continuous batching, forced on the CPU: the same answers, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from local_pipelines import _continuous

pytest.importorskip("transformers.generation.continuous_batching")

CACHES = "transformers.generation.continuous_batching.continuous_api"
FRANCE = "What is the capital of France?"
COT = "Question: {}\n\nAnswer: Let's think step by step."
PROMPTS = [
    FRANCE,
    COT.format(FRANCE),
    "法国的首都是哪里？",
    "What is the capital of Peru?",
    COT.format("What is the capital of Japan?"),
    "Quito?",
]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run everything this way that can be run so, and forget what was found out."""
    monkeypatch.setattr(_continuous, "choice", "always")
    yield
    _continuous._verdicts.clear()


@pytest.mark.usefixtures("always")
class TestForced:
    """What holds for batches holds for continuous ones."""

    @pytest.mark.parametrize("size", [1, 2, 64])
    @pytest.mark.parametrize("stop", [None, ["\n\n", "Lima"], ["<|end|>"]])
    def test_answers_are_those_of_single_prompts(
        self, torch_llm: Any, monkeypatch: pytest.MonkeyPatch, size: int, stop: list[str] | None
    ) -> None:
        """Text, order, token counts and reasons are the same as in static batches."""

        def told(result: Any) -> list[Any]:
            infos = [g[0].generation_info for g in result.generations]
            return [(i["finish_reason"], i["input_tokens"], i["output_tokens"]) for i in infos]

        result = torch_llm.generate(PROMPTS, stop=stop, batch_size=size)
        report = torch_llm.last_batch
        assert (report.engine, report.sizes) == ("continuous", (6,))
        monkeypatch.setattr(_continuous, "choice", "never")
        expected = torch_llm.generate(PROMPTS, stop=stop, batch_size=size)
        assert torch_llm.last_batch.engine == "static"
        texts = [[g[0].text for g in each.generations] for each in (result, expected)]
        assert texts[0] == texts[1]
        assert told(result) == told(expected)
        assert report.output_tokens == torch_llm.last_batch.output_tokens

    def test_no_more_rows_than_asked_for(
        self, torch_llm: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`batch_size` says how many are computed at a time, here too."""
        most = [0]
        fill = _continuous._Feed._fill

        def counting(feed: Any, manager: Any) -> None:
            fill(feed, manager)
            most[0] = max(most[0], len(feed._seats))

        monkeypatch.setattr(_continuous._Feed, "_fill", counting)
        torch_llm.bind(batch_size=2).batch(PROMPTS)
        assert most == [2]

    def test_the_model_is_as_before(self, torch_llm: Any, capfd: Any) -> None:
        """Its attention is put back, its thread has ended, and nothing was written."""
        before = torch_llm.pipeline.model.config._attn_implementation
        torch_llm.batch(PROMPTS)
        assert torch_llm.pipeline.model.config._attn_implementation == before
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("where", ["init", "cache", "step", "take"])
    def test_a_failure_costs_no_answer(
        self, torch_llm: Any, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        """What is not answered is computed in static batches, and the report says why."""
        model = torch_llm.pipeline.model
        with monkeypatch.context() as patch:
            patch.setattr(_continuous, "choice", "never")
            expected = torch_llm.batch(PROMPTS)
        forward, steps = model.forward, [0]

        def fails(*args: Any, **kwargs: Any) -> Any:
            steps[0] += 1
            if "cache" in kwargs and steps[0] == 20:
                raise RuntimeError("no kernel for this")
            return forward(*args, **kwargs)

        def refuses(*args: Any, **kwargs: Any) -> Any:
            raise ValueError("no kernel for this")

        if where == "init":
            monkeypatch.setattr(model, "init_continuous_batching", refuses)
        elif where == "cache":  # in transformers' own thread
            monkeypatch.setattr(f"{CACHES}.PagedAttentionCache", refuses)
        elif where == "step":
            monkeypatch.setattr(model, "forward", fails)
        else:
            monkeypatch.setattr(_continuous._Feed, "_take", refuses)
        assert torch_llm.bind(batch_size=3).batch(PROMPTS) == expected
        report = torch_llm.last_batch
        assert report.engine == "static"
        assert report.reason.startswith("Continuous batching was given up: ")
        assert report.reason.endswith("no kernel for this.")
        assert report.reason in repr(report)

    @pytest.mark.parametrize(
        "options",
        [{"num_beams": 2}, {"repetition_penalty": 1.5}, {"min_new_tokens": 3}, {"seed": 1}],
    )
    def test_what_it_cannot_do_is_left_to_generate(
        self, torch_llm: Any, options: dict[str, Any]
    ) -> None:
        """Options that need more than one step's scores are computed as ever."""
        torch_llm.bind(max_new_tokens=4, **options).batch(PROMPTS[:2])
        assert torch_llm.last_batch.engine == "static"
        assert torch_llm.last_batch.reason == ""

    def test_a_stream_is_left_alone(self, torch_llm: Any) -> None:
        """One answer that is streamed has nobody to share with."""
        assert "".join(torch_llm.stream(FRANCE)).strip() == "The capital of France is Paris."
        assert torch_llm.last_batch.engine == "static"


class TestChoice:
    """It is chosen where it has proved to be faster."""

    @pytest.fixture(autouse=True)
    def forget(self) -> Iterator[None]:
        yield
        _continuous._verdicts.clear()

    def test_on_a_cpu_it_is_not_even_tried(self, torch_llm: Any) -> None:
        """There it loses, which was measured."""
        torch_llm.bind(batch_size=1).batch(PROMPTS)
        assert torch_llm.last_batch.engine == "static"
        assert not _continuous._verdicts

    @pytest.mark.parametrize(("faster", "engine"), [(2.0, "continuous"), (0.5, "static")])
    def test_a_long_call_finds_out(
        self, torch_llm: Any, monkeypatch: pytest.MonkeyPatch, faster: float, engine: str
    ) -> None:
        """A few batches run each way; the rest, and later calls, run the faster way."""
        expected = [torch_llm.invoke(prompt) for prompt in PROMPTS]
        rates = iter([100.0, 100.0 * faster])
        gpu = SimpleNamespace(type="cuda")
        monkeypatch.setattr("local_pipelines._torch_engine.TorchRun.device", _Seeming(gpu))
        monkeypatch.setattr(_continuous, "_rate", lambda run, work: (work(), next(rates))[1])
        assert torch_llm.bind(batch_size=1).batch(PROMPTS) == expected
        assert torch_llm.last_batch.engine == engine
        assert f"{faster:.1f} times as fast" in torch_llm.last_batch.reason
        assert torch_llm.bind(batch_size=3).batch(PROMPTS) == expected
        assert torch_llm.last_batch.engine == engine

    def test_a_short_call_does_not_ask(
        self, torch_llm: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With few batches there is nothing to gain."""
        gpu = SimpleNamespace(type="cuda")
        monkeypatch.setattr("local_pipelines._torch_engine.TorchRun.device", _Seeming(gpu))
        torch_llm.bind(batch_size=3).batch(PROMPTS)
        assert not _continuous._verdicts


class _Seeming:
    """A device that looks like another to those who ask, and takes tensors as ever."""

    def __init__(self, seeming: Any) -> None:
        self._seeming = seeming

    def __get__(self, run: Any, kind: Any = None) -> Any:
        import sys

        asking = sys._getframe(1).f_globals["__name__"]
        return self._seeming if asking == _continuous.__name__ else run._pipeline.device
