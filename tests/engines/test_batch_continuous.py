"""transformers' continuous batching, let through on the CPU: the same answers, whatever happens."""

from __future__ import annotations

from typing import Any

import pytest

from local_pipelines import LocalPipeline
from local_pipelines.engines import torch_engine
from local_pipelines.engines.torch_run import TorchRun
from local_pipelines.errors import ParameterError

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
def continuous(torch_llm: Any, monkeypatch: pytest.MonkeyPatch) -> LocalPipeline:
    """The embedded model in continuous batching, as on a GPU."""
    monkeypatch.setattr(torch_engine, "kind_of_device", lambda _: "cuda")
    return LocalPipeline(
        pipeline=torch_llm.pipeline,
        pipeline_kwargs=torch_llm.pipeline_kwargs,
        batching="continuous",
    )


@pytest.mark.parametrize("size", [2, 64])
@pytest.mark.parametrize("stop", [None, ["\n\n", "Lima"], ["<|end|>"]])
def test_answers_are_those_of_static_batches(
    torch_llm: Any, continuous: Any, size: int, stop: list[str] | None
) -> None:
    """Text, order, token counts and reasons are the same as in static batches."""

    def told(result: Any) -> list[Any]:
        infos = [g[0].generation_info for g in result.generations]
        return [(i["finish_reason"], i["input_tokens"], i["output_tokens"]) for i in infos]

    result = continuous.generate(PROMPTS, stop=stop, batch_size=size)
    report = continuous.last_batch
    assert (report.engine, report.sizes, report.reason) == ("continuous", (), "")
    assert "the next took its place" in repr(report)
    expected = torch_llm.generate(PROMPTS, stop=stop, batch_size=size)
    assert torch_llm.last_batch.engine == "static"
    texts = [[g[0].text for g in each.generations] for each in (result, expected)]
    assert texts[0] == texts[1] == list(report.answers)
    assert told(result) == told(expected)
    assert report.output_tokens == torch_llm.last_batch.output_tokens


def test_no_more_rows_than_asked_for(continuous: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`batch_size` says how many are computed at a time, here too."""
    model, at_work, most = continuous.pipeline.model, set[str](), [0]
    init = model.init_continuous_batching

    def counting(**kwargs: Any) -> Any:
        manager = init(**kwargs)
        add, get = manager.add_request, manager.get_result

        def counted_add(ids: list[int], name: str, **options: Any) -> Any:
            at_work.add(name)
            most[0] = max(most[0], len(at_work))
            return add(ids, name, **options)

        def counted_get(**options: Any) -> Any:
            output = get(**options)
            if output is not None and output.is_finished():
                at_work.discard(output.request_id)
            return output

        manager.add_request, manager.get_result = counted_add, counted_get
        return manager

    monkeypatch.setattr(model, "init_continuous_batching", counting)
    continuous.bind(batch_size=2).batch(PROMPTS)
    assert most == [2]


def test_the_model_is_as_before(continuous: Any, capfd: Any) -> None:
    """Its attention is put back, its thread has ended, and nothing was written."""
    before = continuous.pipeline.model.config._attn_implementation
    continuous.batch(PROMPTS)
    assert continuous.pipeline.model.config._attn_implementation == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["init", "cache", "step", "decode"])
def test_a_failure_costs_no_answer(
    torch_llm: Any, continuous: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What is not answered is computed in static batches, and the report says why."""
    model = continuous.pipeline.model
    expected = torch_llm.batch(PROMPTS)
    forward, steps = model.forward, [0]

    def fails(*args: Any, **kwargs: Any) -> Any:
        steps[0] += 1
        if "cache" in kwargs and steps[0] == 20:
            raise RuntimeError("no kernel for this")
        return forward(*args, **kwargs)

    def refuses(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("no kernel for this")

    decode = TorchRun.decode

    def refuses_once(run: Any, rows: list[list[int]]) -> list[str]:
        steps[0] += 1
        return refuses() if steps[0] == 8 else decode(run, rows)

    if where == "init":
        monkeypatch.setattr(model, "init_continuous_batching", refuses)
    elif where == "cache":  # in transformers' own thread
        monkeypatch.setattr(f"{CACHES}.PagedAttentionCache", refuses)
    elif where == "step":
        monkeypatch.setattr(model, "forward", fails)
    else:
        monkeypatch.setattr(TorchRun, "decode", refuses_once)
    assert continuous.bind(batch_size=3).batch(PROMPTS) == expected
    report = continuous.last_batch
    assert report.engine == "static"
    assert report.reason.startswith("Continuous batching was given up: ")
    assert report.reason.endswith("no kernel for this.")
    assert report.reason in repr(report)


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 2}, {"repetition_penalty": 1.5}, {"min_new_tokens": 3}, {"seed": 1}],
)
def test_what_it_cannot_do_is_left_to_generate(continuous: Any, options: dict[str, Any]) -> None:
    """Options that need more than one step's scores are computed as ever, and it is said so."""
    continuous.bind(max_new_tokens=4, **options).batch(PROMPTS[:2])
    assert continuous.last_batch.engine == "static"
    assert "cannot do what these options ask for" in continuous.last_batch.reason


def test_a_single_prompt_is_left_alone(continuous: Any) -> None:
    """One answer, streamed or not, has nobody to share with."""
    assert "".join(continuous.stream(FRANCE)).strip() == "The capital of France is Paris."
    assert (continuous.last_batch.engine, continuous.last_batch.reason) == ("static", "")


class TestChoice:
    """It is chosen by hand, where it can help."""

    def test_it_is_not_chosen_unless_asked_for(self, torch_llm: Any) -> None:
        """A batch of any size is computed in static batches."""
        torch_llm.bind(batch_size=1).batch(PROMPTS)
        assert torch_llm.last_batch.engine == "static"

    def test_on_a_cpu_it_is_refused(self, torch_llm: Any) -> None:
        """Wrapped around a pipeline, or before a model is loaded."""
        for make in (
            lambda: LocalPipeline(pipeline=torch_llm.pipeline, batching="continuous"),
            lambda: LocalPipeline.from_model_id("no/such", device=-1, batching="continuous"),
            lambda: LocalPipeline.from_model_id(
                "no/such", backend="openvino", batching="continuous"
            ),
        ):
            with pytest.raises(ParameterError, match="one CUDA GPU"):
                make()

    def test_a_model_spread_over_devices_is_refused(
        self, torch_llm: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What lies on two devices cannot be batched so."""
        monkeypatch.setattr(torch_engine, "kind_of_device", lambda _: "cuda")
        places = {"model.embed_tokens": 0, "lm_head": "cpu"}
        monkeypatch.setattr(torch_llm.pipeline.model, "hf_device_map", places, raising=False)
        with pytest.raises(ParameterError, match="one CUDA GPU"):
            LocalPipeline(pipeline=torch_llm.pipeline, batching="continuous")

    def test_another_word_is_refused(self) -> None:
        """The words that there are are named."""
        with pytest.raises(ParameterError, match='batching="continuous"'):
            LocalPipeline.from_model_id("pocket", batching="auto")
