"""Each row of lesson 3's table "If it fails" is what really happens, and its cure helps."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import warnings
from pathlib import Path

import pytest
from langchain_core.language_models import base as language_models_base
from langchain_core.messages import AIMessage, HumanMessage, trim_messages
from langchain_core.prompts import PromptTemplate
from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline

from course_kit.notebooks.pages import read_as_stored
from local_pipelines import LocalChat, LocalPipeline, model_path
from local_pipelines.engines.stopping import warn_of_empty_answer
from local_pipelines.errors import ModelError, ParameterError

LESSON = Path(__file__).parents[2] / "notebooks" / "03_chains.ipynb"
PROMPT = "Question: What is a token?\n\nAnswer: Let's think step by step."
FRANCE = "What is the capital of France?"


def read_rows() -> dict[str, str]:
    """Read the table: what you see, and what to do."""
    (table,) = (cell.source for cell in read_as_stored(LESSON).cells if cell.id == "fails")
    lines = table.partition("## Exercises")[0].splitlines()
    rows = (line.strip("| ").split(" | ") for line in lines if line.startswith("| "))
    return {seen: cure for seen, cure in rows if seen != "what you see"}


ROWS = read_rows()
# Words of each row, in the table's order.
PROVOKED = (
    "the prompt comes back",
    "begins within a word",
    "goes on with another question",
    "could not locate a tokenizer",
    "An answer is empty",
    "has no chat template",
    "NotImplementedError",
    "breaks off",
    "ParameterError",
    "NameError",
)


def row(words: str) -> str:
    """Give what to do where these words of a row are seen."""
    assert words in PROVOKED
    (cure,) = (cure for seen, cure in ROWS.items() if words in seen)
    return cure


def row_of(error: BaseException | Warning) -> str:
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


@pytest.fixture(scope="module")
def llm() -> HuggingFacePipeline:
    """The lesson's model, by LangChain's own class."""
    return HuggingFacePipeline.from_model_id(
        model_path("pocket"),
        task="text-generation",
        device=-1,
        pipeline_kwargs={"max_new_tokens": 64, "do_sample": False},
    )


@pytest.fixture(scope="module")
def local(llm: HuggingFacePipeline) -> LocalPipeline:
    """The same model, by the course's class."""
    return LocalPipeline(pipeline=llm.pipeline)


def test_an_echo_is_cured_by_skip_prompt(llm: HuggingFacePipeline) -> None:
    """The prompt comes back, and `skip_prompt` takes it off."""
    assert "bind(skip_prompt=True)" in row("the prompt comes back")
    assert llm.invoke(PROMPT).startswith(PROMPT)
    assert not llm.bind(skip_prompt=True).invoke(PROMPT).startswith(PROMPT[:9])


def test_the_echo_can_be_left_out_for_all_calls() -> None:
    """In `from_model_id`, `return_full_text` holds for every call."""
    options = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
    silent = HuggingFacePipeline.from_model_id(
        model_path("pocket"), task="text-generation", device=-1, pipeline_kwargs=options
    )
    assert not silent.invoke(PROMPT).startswith(PROMPT[:9])


def test_two_cures_of_the_echo_cut_twice(llm: HuggingFacePipeline) -> None:
    """With both options, as many characters as the prompt has are missing in the answer."""
    assert "leave one out" in row("begins within a word")
    one = llm.invoke(PROMPT, skip_prompt=True)
    both = llm.invoke(PROMPT, skip_prompt=True, pipeline_kwargs={"return_full_text": False})
    assert both == one[len(PROMPT) :]


def test_an_answer_that_goes_on_is_stopped(llm: HuggingFacePipeline, local: LocalPipeline) -> None:
    """LangChain's `stop` does nothing in invoke; the others do, and the course's is cut off."""
    assert {"stop_strings", "LocalPipeline"} <= set(
        re.findall(r"\w+", row("goes on with another question"))
    )
    answer = llm.invoke(PROMPT, skip_prompt=True)
    assert "\n\nQuestion:" in answer
    assert llm.invoke(PROMPT, skip_prompt=True, stop=["\n\n"]) == answer
    options = {"stop_strings": ["\n\n"], "tokenizer": llm.pipeline.tokenizer}
    stopped = llm.invoke(PROMPT, skip_prompt=True, pipeline_kwargs=options)
    assert stopped.endswith("\n\n")
    assert local.bind(stop=["\n\n"]).invoke(PROMPT) == stopped.removesuffix("\n\n")


def test_a_stream_stops_at_a_string_of_one_token_only(llm: HuggingFacePipeline) -> None:
    """The full stop is a token of the vocabulary and the blank line, so written, is not."""
    assert "".join(llm.stream(PROMPT, stop=["."])).count(".") == 1
    assert "\n\n" in "".join(llm.stream(PROMPT, stop=["\n\n"])).strip()


def test_a_stream_that_is_left_goes_on_unseen(llm: HuggingFacePipeline) -> None:
    """The thread of LangChain's class outlives its reader, as the lesson says."""
    before = set(threading.enumerate())
    stream = llm.stream(PROMPT, pipeline_kwargs={"min_new_tokens": 200, "max_new_tokens": 200})
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    (writer,) = set(threading.enumerate()) - before
    assert writer.is_alive()
    writer.join()


def test_stop_strings_need_the_tokenizer(llm: HuggingFacePipeline) -> None:
    """Nobody has to guess: the message says so itself."""
    with pytest.raises(ValueError, match="tokenizer") as caught:
        llm.invoke(PROMPT, pipeline_kwargs={"stop_strings": ["\n\n"]})
    assert "`tokenizer`" in row_of(caught.value)


def test_an_empty_answer_warns(local: LocalPipeline) -> None:
    """A stop that comes first leaves nothing; at the end of the prompt it does no harm."""
    first = local.invoke(PROMPT)[:4]
    warn_of_empty_answer.cache_clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert local.invoke(PROMPT, stop=[first]) == ""
    assert "End the prompt" in row_of(said[0].message)  # type: ignore[arg-type]
    assert local.invoke(PROMPT + first, stop=[first]) != ""


def test_a_model_without_a_chat_template_is_no_chat(
    local: LocalPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LocalChat says what is missing; as an `llm` the model answers."""
    monkeypatch.setattr(local.pipeline.tokenizer, "chat_template", None)
    with pytest.raises(ModelError) as caught:
        LocalChat(llm=local).invoke(FRANCE)
    assert "as an `llm`" in row_of(caught.value)
    assert local.invoke(FRANCE) != ""


async def test_a_chat_is_asynchronous_in_a_thread(
    llm: HuggingFacePipeline, local: LocalPipeline
) -> None:
    """ChatHuggingFace refuses to be awaited; a thread and LocalChat are ways round."""
    chat = ChatHuggingFace(llm=llm)
    with pytest.raises(NotImplementedError) as caught:
        await chat.ainvoke(FRANCE)
    assert {"asyncio", "to_thread", "LocalChat"} <= set(re.findall(r"\w+", row_of(caught.value)))
    answer = await asyncio.to_thread(chat.invoke, FRANCE, skip_prompt=True)
    assert (await LocalChat(llm=local).ainvoke(FRANCE)).content == answer.content != ""


def test_tools_are_dropped_or_told(llm: HuggingFacePipeline, local: LocalPipeline) -> None:
    """ChatHuggingFace calls no tool and says nothing; LocalChat tells the model of it."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    assert ChatHuggingFace(llm=llm).bind_tools([add]).invoke(FRANCE).tool_calls == []
    asked = LocalChat(llm=local, max_tokens=100).bind_tools([add], tool_choice="any")
    (call,) = asked.invoke(FRANCE).tool_calls
    assert call["name"] == "add"
    assert set(call["args"]) == {"a", "b"}


def test_an_answer_that_breaks_off_says_length(local: LocalPipeline) -> None:
    """Too few tokens show in the finish reason."""
    assert '`"length"`' in row("breaks off")
    (answer,) = local.generate([PROMPT], max_new_tokens=4).generations[0]
    assert answer.generation_info is not None
    assert answer.generation_info["finish_reason"] == "length"


def test_greedy_decoding_has_no_temperature(local: LocalPipeline) -> None:
    """A temperature without sampling is refused."""
    with pytest.raises(ParameterError) as caught:
        local.invoke(PROMPT, do_sample=False, temperature=0.5)
    assert "`do_sample=True`" in row_of(caught.value)


def test_a_cell_run_too_early_has_no_chain() -> None:
    """The name is Python's own to complain about."""
    with pytest.raises(NameError) as caught:
        eval("chain", {})  # noqa: S307 - as in a fresh kernel
    assert "Run All Above" in row_of(caught.value)


def test_the_template_by_hand_is_there_twice(llm: HuggingFacePipeline) -> None:
    """ChatHuggingFace puts its marks around a prompt that has them already."""
    by_hand = PromptTemplate.from_template("<|user|>\n{question}<|end|>\n<|assistant|>\n")
    echo = (by_hand | ChatHuggingFace(llm=llm)).invoke({"question": FRANCE}).content
    assert str(echo).count("<|assistant|>") == 2


def test_a_chat_counts_tokens_for_trim_messages(
    llm: HuggingFacePipeline, local: LocalPipeline
) -> None:
    """LocalChat counts with the model's own tokenizer; ChatHuggingFace takes GPT-2's."""
    messages = [HumanMessage(FRANCE), AIMessage("Paris."), HumanMessage(FRANCE)]
    counter = LocalChat(llm=local)
    limit = counter.get_num_tokens_from_messages(messages[2:])
    kept = trim_messages(messages, strategy="last", token_counter=counter, max_tokens=limit)
    assert kept == messages[2:]
    source = inspect.getsource(ChatHuggingFace) + inspect.getsource(HuggingFacePipeline)
    assert "def get_num_tokens" not in source
    assert "def get_token_ids" not in source
    assert "GPT-2" in inspect.getsource(language_models_base._get_token_ids_default_method)
