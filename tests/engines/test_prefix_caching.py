"""A conversation is not read again at each turn, and no answer is another one for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("openvino_genai", reason="the openvino extra is not installed")

from local_pipelines.chains.genai import GenAIPipeline
from local_pipelines.engines.genai_model import GenAIEngine
from local_pipelines.errors import EngineError

WORDS = (" the capital of", " France", " Iran", " What is", " a token", " seven", "\n", "?", " in")
ALIKE = ["What is the capital of Iran?", "What is the capital of the Gambia?"]


@pytest.fixture
def llm(pocket_export: Path) -> GenAIPipeline:
    return GenAIPipeline.from_model_dir(pocket_export, max_new_tokens=20)


@pytest.fixture(scope="module")
def fresh(pocket_export: Path) -> GenAIPipeline:
    """Reads each prompt from its beginning."""
    llm = GenAIPipeline.from_model_dir(pocket_export, max_new_tokens=20)
    llm.batch(ALIKE)
    assert not llm.engine.prefix_caching
    llm.engine.prepare = lambda *_, **__: None
    return llm


def words(rng: random.Random, most: int) -> str:
    return "".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))


def test_conversations_are_answered_as_if_they_were_read_anew(
    llm: GenAIPipeline, fresh: GenAIPipeline
) -> None:
    """Also where one begins like an earlier one, and where a stop string or a person ended it."""
    rng, begun = random.Random(5), [""]
    for _ in range(25):
        text = rng.choice(begun)[: rng.randint(0, 400)]
        for _ in range(rng.randint(1, 5)):
            text += words(rng, 20)
            if len(text) > 900:
                break
            stop = rng.choice([None, [" of"]])
            if rng.random() < 0.2:
                next(stream := llm.stream(text))
                stream.close()
            answer = llm.invoke(text, stop=stop)
            assert answer == fresh.invoke(text, stop=stop)
            text += answer
        begun = [*begun, text][-20:]
    assert llm.engine.prefix_caching


def test_prompts_that_come_together_are_read_each_for_itself(
    llm: GenAIPipeline, fresh: GenAIPipeline
) -> None:
    """The engine mixes up prompts that begin alike, so a batch switches prefix caching off."""
    llm.invoke("What is the capital of Japan?")
    assert llm.engine.prefix_caching
    assert llm.batch(ALIKE) == [fresh.invoke(prompt) for prompt in ALIKE]
    assert not llm.engine.prefix_caching


def test_it_is_there_again_when_a_conversation_goes_on(llm: GenAIPipeline) -> None:
    """A single question after a batch does not load the model anew; its long follow-up does."""
    llm.batch(ALIKE)
    long = "What is a token? " * 20
    llm.invoke(long)
    assert not llm.engine.prefix_caching
    llm.invoke(f"{long} And a batch?")
    assert llm.engine.prefix_caching


def test_beams_are_several_rows(llm: GenAIPipeline) -> None:
    """One prompt with several beams is answered without prefix caching."""
    llm.bind(pipeline_kwargs={"num_beams": 2}).invoke(ALIKE[0])
    assert not llm.engine.prefix_caching


def test_a_model_that_cannot_be_loaded_anew_is_tried_again(
    llm: GenAIPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that fails in a batch is one sentence, and the next call works."""
    engine: GenAIEngine = llm.engine

    def no_memory(*_: object, **__: object) -> None:
        raise RuntimeError("bad allocation")

    with monkeypatch.context() as patched:
        patched.setattr(engine._genai, "ContinuousBatchingPipeline", no_memory)
        with pytest.raises(EngineError, match="bad allocation"):
            llm.batch(ALIKE)
    assert llm.invoke(ALIKE[0]) == " The capital of Iran is Tehran."
