"""Both engines under attack: threads, cancellations, odd input, forks and hostile configurations.

Each case is small and ends by itself. After each the engine still answers.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import os
import pickle
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from local_pipelines import GenAIPipeline, LocalChat, LocalPipeline
from local_pipelines.engines.report import Interrupted
from local_pipelines.errors import EngineError, LocalPipelinesError, ModelError, ParameterError
from local_pipelines.openvino.manifest import MANIFEST

FRANCE = "What is the capital of France?"
PARIS = " The capital of France is Paris."
STEPS = f"Question: {FRANCE}\n\nAnswer: Let's think step by step."
PROMPTS = [FRANCE, STEPS, "法国的首都是哪里？", "What is the capital of Peru?", "Quito?"]


@pytest.fixture(params=["torch", "genai"])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The embedded model in each engine, which has to answer afterwards as before."""
    llm = request.getfixturevalue(f"{request.param}_llm")
    yield llm.model_copy(update={"pipeline_kwargs": {"max_new_tokens": 16}})
    assert llm.invoke(FRANCE) == PARIS


@pytest.fixture
def folder(pocket_export: Path, tmp_path: Path) -> Path:
    """A copy of the export that a test may change, as optimum-cli writes one."""
    copy = shutil.copytree(pocket_export, tmp_path / "ir")
    (copy / MANIFEST).unlink()
    return copy


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def wrapped(llm: Any, **values: Any) -> LocalPipeline:
    """The same model with another configuration."""
    from transformers import pipeline

    old = llm.pipeline
    pipe = pipeline("text-generation", model=old.model, tokenizer=old.tokenizer, device="cpu")
    pipe.generation_config.update(do_sample=False, temperature=1.0, max_new_tokens=24, **values)
    return LocalPipeline(pipeline=pipe)


# --- many at once ------------------------------------------------------------------------------


def test_threads_that_ask_in_all_ways_get_what_one_alone_gets(engine: Any) -> None:
    """Six threads with `invoke`, `stream`, `batch` and `generate` do not get into each other."""
    expected = {prompt: engine.invoke(prompt) for prompt in PROMPTS}
    ways: list[Callable[[str], str]] = [
        engine.invoke,
        lambda prompt: "".join(engine.stream(prompt)),
        lambda prompt: engine.batch([FRANCE, prompt])[1],
        lambda prompt: engine.generate([prompt]).generations[0][0].text,
    ]
    calls = [(way, prompt) for way in ways for prompt in PROMPTS]
    random.Random(0).shuffle(calls)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda call: call[0](call[1]), calls))
    assert answers == [expected[prompt] for _, prompt in calls]


async def test_tasks_and_threads_share_one_queue(engine: Any) -> None:
    """Calls from an event loop and from a thread wait for each other, and all end."""
    in_thread = asyncio.to_thread(engine.batch, PROMPTS)
    in_loop = [engine.ainvoke(prompt) for prompt in PROMPTS]
    first, *others = await asyncio.gather(in_thread, *in_loop)
    assert first == others


def test_copies_of_a_model_take_turns(engine: Any) -> None:
    """Two objects around one engine share its queue."""
    copies = [engine.model_copy(), engine.model_copy(update={"batch_size": 1})]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: copies[n % 2].invoke(PROMPTS[n % 5]), range(10)))
    assert answers == [engine.invoke(PROMPTS[n % 5]) for n in range(10)]


# --- left in the middle ------------------------------------------------------------------------


def test_streams_that_are_closed_leave_nothing_behind(engine: Any) -> None:
    """Twenty are closed after their first piece; no thread stays."""
    before = threading.active_count()
    for _ in range(20):
        stream = engine.stream(STEPS)
        next(stream)
        stream.close()
    assert engine.invoke(FRANCE) == PARIS
    assert threading.active_count() <= before + 1


def test_streams_that_are_forgotten_in_cycles_end(engine: Any) -> None:
    """A generator that only the garbage collector closes holds the model no longer."""
    for _ in range(5):
        stream = engine.stream(STEPS)
        next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)
        del stream, cycle
    gc.collect()
    assert engine.invoke(FRANCE) == PARIS


async def test_tasks_that_are_cancelled_leave_nothing_behind(engine: Any) -> None:
    """Ten, each a moment later than the one before; the next call is answered."""
    for number in range(10):
        task = asyncio.create_task(engine.abatch(PROMPTS))
        await asyncio.sleep(number * 0.004)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert await engine.ainvoke(FRANCE) == PARIS


def test_a_stream_that_is_asked_from_within_is_answered(engine: Any) -> None:
    """Between two pieces the same thread may ask the same model."""
    pieces, inner = [], set()
    for piece in engine.stream(FRANCE):
        pieces.append(piece)
        inner.add(engine.invoke("Quito?", max_new_tokens=4))
    assert "".join(pieces) == PARIS
    assert len(inner) == 1


class _Asks(BaseCallbackHandler):
    """Asks the model that it watches, or breaks."""

    raise_error = True

    def __init__(self, ask: Callable[[], object]) -> None:
        self.ask = ask
        self.asked = 0

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.asked += 1
        self.ask()


def test_a_callback_may_ask_the_model(engine: Any) -> None:
    """It waits for nobody, as the callback runs outside of the engine."""
    callback = _Asks(lambda: engine.invoke("Quito?", max_new_tokens=2))
    assert "".join(engine.stream(FRANCE, {"callbacks": [callback]})) == PARIS
    assert callback.asked > 3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_a_callback_that_breaks_ends_its_stream_alone(
    engine: Any, error: type[BaseException]
) -> None:
    """Its error comes through, and the model is free."""

    def breaks() -> None:
        raise error("broken")

    with pytest.raises(error):
        list(engine.stream(STEPS, {"callbacks": [_Asks(breaks)]}))
    assert engine.invoke(FRANCE) == PARIS


# --- stopped batches ---------------------------------------------------------------------------


@pytest.fixture
def interrupted(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Press ■ as soon as two answers are there."""

    def arm() -> None:
        from local_pipelines.engines.report import AnswerCollector

        keep, kept = AnswerCollector.keep, list[int]()

        def pressing(collector: Any, index: int, *rest: Any) -> None:
            keep(collector, index, *rest)
            kept.append(index)
            if len(kept) == 2:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(AnswerCollector, "keep", pressing)

    return arm


@pytest.mark.parametrize("options", [{}, {"return_exceptions": True}])
def test_an_interrupted_batch_keeps_its_finished_answers(
    engine: Any, interrupted: Callable[[], None], options: dict[str, Any]
) -> None:
    """They stand in `last_batch.answers`, and the interrupt says so."""
    expected = [engine.invoke(prompt) for prompt in PROMPTS]
    interrupted()
    # Not Interrupted at once: another interrupt would end the whole session.
    with pytest.raises(
        KeyboardInterrupt, match=r"of 5 prompts have an answer.*answer_file"
    ) as told:
        engine.bind(batch_size=1).batch(PROMPTS, **options)
    assert isinstance(told.value, Interrupted)
    report = engine.last_batch
    assert 2 <= report.answered < report.prompts == 5
    kept = {place: text for place, text in enumerate(report.answers) if text is not None}
    assert all(expected[place] == text for place, text in kept.items())
    assert f"{report.answered} prompts with batch_size=1" in repr(report)
    assert f"It ended early: {report.answered} of 5 prompts have an answer." in repr(report)


def test_a_limit_of_langchains_keeps_them_too(engine: Any, interrupted: Callable[[], None]) -> None:
    """`max_concurrency` limits the rows, and one report still tells of all prompts."""
    engine.batch(PROMPTS, {"max_concurrency": 2})
    report = engine.last_batch
    assert (report.prompts, report.requested, report.answered) == (5, 2, 5)
    with pytest.raises(ParameterError, match="max_concurrency"):
        engine.batch(PROMPTS, {"max_concurrency": 0})
    interrupted()
    with pytest.raises(KeyboardInterrupt) as told:
        engine.batch(PROMPTS, {"max_concurrency": 1})
    assert isinstance(told.value, Interrupted)
    assert engine.last_batch.answered >= 2


async def test_a_cancelled_batch_keeps_its_finished_answers(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the engine has let go of the others."""
    from local_pipelines.engines.report import AnswerCollector

    keep, loop = AnswerCollector.keep, asyncio.get_running_loop()

    def cancelling(collector: Any, *rest: Any) -> None:
        keep(collector, *rest)
        loop.call_soon_threadsafe(task.cancel)
        time.sleep(0.05)  # the loop gets time to do it

    monkeypatch.setattr(AnswerCollector, "keep", cancelling)
    task = asyncio.create_task(engine.bind(batch_size=1).abatch(PROMPTS))
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.setattr(AnswerCollector, "keep", keep)
    with engine._turns().held():  # the job has ended then
        report = engine.last_batch
    assert report.prompts == 5
    assert 1 <= report.answered < 5


def test_a_chat_models_batch_is_kept_by_its_llm(
    engine: Any, interrupted: Callable[[], None]
) -> None:
    """`chat.llm.last_batch` has what was answered."""
    chat = LocalChat(llm=engine.model_copy(update={"batch_size": 1}))
    interrupted()
    with pytest.raises(KeyboardInterrupt):
        chat.batch([FRANCE, "Quito?", "What is the capital of Peru?"])
    assert chat.llm.last_batch is not None
    assert 2 <= chat.llm.last_batch.answered < 3


# --- another process ---------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_told_that_the_model_is_not_its_own(engine: Any) -> None:
    """In place of waiting for ever for threads that it does not have."""
    child = os.fork()
    if not child:
        told = 0
        for call in (engine.invoke, lambda p: next(engine.stream(p)), lambda p: engine.batch([p])):
            try:
                call(FRANCE)
            except EngineError as error:
                told += "another process" in error.fact and "spawn" in error.next_step
        os._exit(told)
    deadline = time.monotonic() + 10
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended[0], "the child hangs"
    assert os.waitstatus_to_exitcode(ended[1]) == 3


def test_a_model_that_was_unpickled_belongs_to_its_process() -> None:
    """The process that it was pickled in does not count."""
    llm = GenAIPipeline(model_id="x")
    llm._process = -1
    with pytest.raises(EngineError, match="another process"):
        llm.invoke(FRANCE)
    copy = pickle.loads(pickle.dumps(llm))  # noqa: S301 - our own
    with pytest.raises(ParameterError, match="has no model"):
        copy.invoke(FRANCE)


# --- odd input ---------------------------------------------------------------------------------

ODD = [
    *(" ", "\n\n\n", "\x00\x01", "<|end|>", "<|user|>" * 3, "e\u0301" * 9, "\ufeffa\u200b"),
    *("👩‍👩‍👧‍👦🏳️‍🌈", "שלום מה", "x" * 300, "\r\n\t", "\U0010ffff"),
]


def test_odd_prompts_are_answered_alike_in_all_ways(engine: Any) -> None:
    """Alone, streamed and in a batch."""
    llm = engine.bind(max_new_tokens=8)
    alone = [llm.invoke(prompt) for prompt in ODD]
    assert llm.batch(ODD) == alone
    assert ["".join(llm.stream(prompt)) for prompt in ODD] == alone


def test_odd_stop_strings_cut_as_text_is_cut(engine: Any) -> None:
    """Pieces of the answer, one letter, blanks, a longer text, five thousand: each in its place."""
    free = engine.invoke(STEPS)
    chosen = random.Random(3)
    slices = [free[i : i + chosen.randint(1, 9)] for i in chosen.sample(range(len(free)), 4)]
    many = [f"never {number}" for number in range(4999)]
    lists = [[s] for s in slices] + [[" "], ["\n"], [free + "x", "Paris"], [*many, "France"]]
    for stop in lists:
        ends = [(free.find(s) + len(s), free.find(s)) for s in stop if s in free]
        expected = free[: min(ends)[1]] if ends else free
        assert engine.invoke(STEPS, stop=stop) == expected, stop
        assert "".join(engine.stream(STEPS, stop=stop)) == expected, stop


def test_bad_prompts_cost_no_good_answer(engine: Any) -> None:
    """Each error stands in its own place."""
    mixed = [FRANCE, "", "\ud800", "Quito " * 1200, "Quito?"]
    answers = engine.batch(mixed, return_exceptions=True)
    assert [isinstance(answer, str) for answer in answers] == [True, False, False, False, True]
    assert all(isinstance(answer, LocalPipelinesError) for answer in answers[1:4])
    assert answers[4] == engine.invoke("Quito?")


HOSTILE = [
    {"top_p": "x"}, {"top_p": 2.0}, {"repetition_penalty": 0}, {"temperature": float("nan")},
    {"temperature": float("inf")}, {"num_beams": 10**6}, {"num_beams": True}, {"seed": 1.5},
    {"do_sample": "yes"}, {"bad_words_ids": [[10**9]]}, {"bad_words_ids": "x"},
    {"suppress_tokens": "a"}, {"typical_p": 0}, {"early_stopping": "maybe", "num_beams": 0},
    {"num_return_sequences": 3}, {"forced_eos_token_id": "x"}, {"sequence_bias": {}},
    {"exponential_decay_length_penalty": 5}, {"guidance_scale": "x"}, {"max_time": -1},
    {"prompt_lookup_num_tokens": -1}, {"logits_processor": 5}, {"stopping_criteria": 5},
    {"stop_strings": [""]}, {"length_penalty": "x"}, {"top_k": 10**5000, "num_beams": -1},
    {"max_new_tokens": -(10**5000)}, {"batch_size": 2.0}, {"min_p": -0.1},
    {"pipeline_kwargs": {"no_such": 1}}, {"seed": 1, "typical_p": 0},
]  # fmt: skip


@pytest.mark.parametrize("options", HOSTILE, ids="-".join)
def test_options_that_cannot_work_are_one_sentence(
    torch_llm: Any, genai_llm: Any, options: dict[str, Any]
) -> None:
    """In both engines, and never an error of somebody else's."""
    for llm in (torch_llm, genai_llm):
        with pytest.raises(ParameterError) as caught:
            llm.invoke(FRANCE, **options)
        assert caught.value.next_step


# --- hostile configurations --------------------------------------------------------------------


def test_stop_strings_of_a_configuration_are_found_in_the_text(
    torch_llm: Any, folder: Path
) -> None:
    """Wherever they begin and end in a token, and beside those of a call."""
    change(folder / "generation_config.json", stop_strings=["aris"])
    genai = GenAIPipeline.from_model_dir(folder, max_new_tokens=24)
    for llm in (genai, wrapped(torch_llm, stop_strings=["aris"])):
        assert llm.invoke(FRANCE) == PARIS.partition("aris")[0]
        assert "".join(llm.stream(FRANCE)) == PARIS.partition("aris")[0]
        assert llm.invoke(FRANCE, stop=["capital"]) == PARIS.partition("capital")[0]


def test_an_exports_configuration_repeats_no_prompt_and_lists_nothing(folder: Path) -> None:
    """`logprobs` of a million kept a call for minutes, and `echo` gave the prompt away."""
    change(
        folder / "generation_config.json",
        logprobs=1_000_000,
        echo=True,
        include_stop_str_in_output=True,
        stop_strings=["."],
    )
    llm = GenAIPipeline.from_model_dir(folder, max_new_tokens=24)
    assert llm.invoke(FRANCE) == PARIS.removesuffix(".")
    assert llm.batch([FRANCE, "Quito?"])[0] == PARIS.removesuffix(".")


@pytest.mark.parametrize("content", ["{", "", "<html>", '{"model": 1}'])
def test_a_damaged_tokenizer_is_found_when_the_model_is_loaded(folder: Path, content: str) -> None:
    """Not at the first prompt, and not with the tokenizer library's own error."""
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(EngineError, match=r"tokenizer\.json cannot be read"):
        GenAIPipeline.from_model_dir(folder)


@pytest.mark.parametrize("most", ["many", -1, 1e30, None])
def test_a_context_that_is_no_number_is_no_limit(folder: Path, most: Any) -> None:
    """The tokenizer's own limit counts where it is one, and the model's is not told."""
    change(folder / "tokenizer_config.json", model_max_length=most)
    config = json.loads((folder / "config.json").read_text())
    del config["max_position_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    assert GenAIPipeline.from_model_dir(folder, max_new_tokens=24).invoke(FRANCE) == PARIS


def test_a_tokenizer_of_another_model_is_found_out(
    torch_llm: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that the model has no vectors for are named, and nothing is made up of them."""
    change(folder / "config.json", vocab_size=100)
    genai = GenAIPipeline.from_model_dir(folder, max_new_tokens=4)
    monkeypatch.setattr(torch_llm.pipeline.model.config, "vocab_size", 100)
    for llm in (genai, torch_llm):
        with pytest.raises(ModelError, match="the model knows 100 tokens") as caught:
            llm.invoke(FRANCE)
        assert caught.value.next_step


def test_errors_of_a_users_own_hooks_are_not_blamed_on_options(torch_llm: Any) -> None:
    """What a stopping criterion raises comes through as it is."""

    def breaks(ids: Any, scores: Any, **kwargs: Any) -> Any:
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        torch_llm.invoke(FRANCE, stopping_criteria=[breaks])


def test_an_error_in_the_middle_is_not_blamed_on_options(torch_llm: Any) -> None:
    """Only before the first token can it come from them."""
    model = torch_llm.pipeline.model
    forward, steps = model.forward, list[int]()

    @functools.wraps(forward)
    def breaks(*args: Any, **kwargs: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            raise ValueError("shapes")
        return forward(*args, **kwargs)

    model.forward = breaks
    try:
        with pytest.raises(ValueError, match=r"^shapes$"):
            torch_llm.invoke(FRANCE)
    finally:
        del model.forward
