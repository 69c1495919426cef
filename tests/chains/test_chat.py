"""LocalChat holds conversations with a local model, and needs no network for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    SystemMessage,
)

from local_pipelines import LocalChat
from local_pipelines.errors import ModelError, ParameterError

FRANCE = "What is the capital of France?"
PERU = "What is the capital of Peru?"
PARIS = "The capital of France is Paris."
LIMA = "The capital of Peru is Lima."


@pytest.fixture
def chat(llm: Any) -> LocalChat:
    """The embedded model as a chat model, for each engine."""
    return LocalChat(llm=llm)


class TestChat:
    """What a chat with every engine promises."""

    def test_it_answers(self, chat: LocalChat) -> None:
        """The answer is a message without the template around it, and knows what it cost."""
        answer = chat.invoke(FRANCE)
        assert isinstance(answer, AIMessage)
        assert answer.content == PARIS
        usage = answer.usage_metadata
        assert usage is not None
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert answer.response_metadata["finish_reason"] == "eos"
        assert answer.response_metadata["model_name"] == chat.llm.model_id
        assert answer.response_metadata["tokens_per_second"] > 0

    def test_system_messages_and_a_conversation(self, chat: LocalChat) -> None:
        """Earlier messages are part of the prompt, whatever class or pair they are written as."""
        messages = [
            SystemMessage("You are brief."),
            HumanMessage(FRANCE),
            AIMessage(PARIS),
            HumanMessage(PERU),
        ]
        pairs = [("system", "You are brief."), ("human", FRANCE), ("ai", PARIS), ("user", PERU)]
        assert chat.invoke(messages).content == LIMA
        assert chat.invoke(pairs).usage_metadata == chat.invoke(messages).usage_metadata
        custom = [ChatMessage(role="assistant", content=PARIS), HumanMessage(PERU)]
        assert chat.invoke(custom).content == LIMA

    def test_the_prompt_has_no_special_token_twice(self, chat: LocalChat, torch_llm: Any) -> None:
        """The template's tokens are all there are."""
        tokenizer = torch_llm.pipeline.tokenizer
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": FRANCE}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        usage = chat.invoke(FRANCE).usage_metadata
        assert usage is not None
        assert usage["input_tokens"] == len(ids)

    def test_a_stream_is_the_answer_in_pieces(self, chat: LocalChat) -> None:
        """All pieces are AIMessageChunks; the last one has the counts, in the stream too."""
        chunks = list(chat.stream(FRANCE))
        assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        assert whole.content == PARIS
        assert whole.usage_metadata == chat.invoke(FRANCE).usage_metadata
        assert all(chunk.content for chunk in chunks[:-1])
        assert [chunk.usage_metadata is None for chunk in chunks].count(False) == 1

    def test_counts_can_be_left_out_of_a_stream(self, chat: LocalChat) -> None:
        """`stream_usage=False` is LangChain's switch for it."""
        assert all(c.usage_metadata is None for c in chat.stream(FRANCE, stream_usage=False))

    def test_stop_strings(self, chat: LocalChat) -> None:
        """In the call, bound, and as a field."""
        expected = "The capital of"
        assert chat.invoke(FRANCE, stop=[" France"]).content == expected
        assert chat.bind(stop=[" France"]).invoke(FRANCE).content == expected
        assert LocalChat(llm=chat.llm, stop=[" France"]).invoke(FRANCE).content == expected
        streamed = chat.stream(FRANCE, stop=[" France"])
        assert "".join(str(chunk.content) for chunk in streamed) == expected

    def test_a_batch_is_a_batch(self, chat: LocalChat) -> None:
        """Conversations are answered together, in order, and a bad one fails alone."""
        chat.llm.bind()
        inputs: list[Any] = [FRANCE, PERU, [("ai", "no question")], FRANCE]
        answers = chat.batch(inputs, return_exceptions=True)
        assert [getattr(a, "content", None) for a in answers] == [PARIS, LIMA, None, PARIS]
        assert isinstance(answers[2], ParameterError)
        assert chat.batch([]) == []
        with pytest.raises(ParameterError):
            chat.batch(inputs)

    async def test_all_async_ways(self, chat: LocalChat) -> None:
        """`ainvoke`, `abatch` and `astream` agree with `invoke`."""
        assert (await chat.ainvoke(FRANCE)).content == PARIS
        answers = await chat.abatch([FRANCE, PERU, ""], return_exceptions=False)
        assert [answer.content for answer in answers[:2]] == [PARIS, LIMA]
        chunks = [chunk async for chunk in chat.astream(FRANCE)]
        assert "".join(str(chunk.content) for chunk in chunks) == PARIS
        assert chunks[-1].usage_metadata == chat.invoke(FRANCE).usage_metadata
        both = await asyncio.gather(chat.ainvoke(PERU), chat.ainvoke(FRANCE))
        assert [answer.content for answer in both] == [LIMA, PARIS]

    def test_sampling_fields(self, chat: LocalChat) -> None:
        """LangChain's own field names are understood."""
        assert LocalChat(llm=chat.llm, temperature=0).invoke(FRANCE).content == PARIS
        short = LocalChat(llm=chat.llm, max_tokens=2).invoke(FRANCE)
        assert short.usage_metadata is not None
        assert short.usage_metadata["output_tokens"] == 2
        assert short.response_metadata["finish_reason"] == "length"
        assert chat.invoke(FRANCE, max_tokens=2).content == short.content


class TestBadMessages:
    """Each kind of bad input gets a sentence."""

    @pytest.mark.parametrize(
        "messages",
        [
            [("robot", "hello")],
            [ChatMessage(role="robot", content="hello")],
        ],
    )
    def test_an_unknown_role(self, torch_llm: Any, messages: Any) -> None:
        """The roles that there are, are named."""
        with pytest.raises(ParameterError, match="system, human and ai"):
            LocalChat(llm=torch_llm).invoke(messages)

    @pytest.mark.parametrize(
        ("messages", "words"),
        [
            ([], "no message"),
            (b"bytes", "decode"),
            (5, "no message"),
            ([("human", FRANCE), ("ai", PARIS)], "model's own"),
            ([HumanMessage([{"type": "image", "url": "x"}])], "text only"),
        ],
    )
    def test_what_cannot_be_answered(self, torch_llm: Any, messages: Any, words: str) -> None:
        """Streams and batches raise the same error."""
        chat = LocalChat(llm=torch_llm)
        for call in (chat.invoke, lambda m: list(chat.stream(m)), lambda m: chat.batch([m])):
            with pytest.raises(ParameterError, match=words):
                call(messages)

    def test_text_in_blocks_and_emoji(self, torch_llm: Any) -> None:
        """A message of text blocks is a text."""
        blocks = HumanMessage([{"type": "text", "text": "What is the capital"}, " of France?"])
        assert LocalChat(llm=torch_llm).invoke([blocks]).content == PARIS
        assert LocalChat(llm=torch_llm, max_tokens=4).invoke("👩‍👩‍👧 שלום").content is not None

    @pytest.mark.parametrize("field", [{"logprobs": True}, {"n": 2}, {"presence_penalty": 1.0}])
    def test_fields_for_servers_are_refused(self, torch_llm: Any, field: dict[str, Any]) -> None:
        """They would have no effect."""
        with pytest.raises(ParameterError, match="no effect on a local model"):
            LocalChat(llm=torch_llm, **field)

    def test_another_llm_is_refused(self) -> None:
        """LangChain's own class cannot do what is promised here."""
        from langchain_huggingface import HuggingFacePipeline

        with pytest.raises(ParameterError, match="LocalPipeline"):
            LocalChat(llm=HuggingFacePipeline(model_id="x"))


class TestTemplates:
    """A model's chat template is what makes it a chat model."""

    @pytest.fixture
    def base_llm(self, random_llm: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A model without a chat template."""
        monkeypatch.setattr(random_llm.pipeline.tokenizer, "chat_template", None)
        return random_llm

    def test_a_model_without_one_names_models_that_have_one(self, base_llm: Any) -> None:
        """The embedded model is among them."""
        with pytest.raises(ModelError, match=r"no chat template.*pocket"):
            LocalChat(llm=base_llm).invoke(FRANCE)

    def test_one_can_be_given(self, base_llm: Any) -> None:
        """`chat_template=` takes the place of the model's own."""
        template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        chat = LocalChat(llm=base_llm, chat_template=template, max_tokens=3)
        assert chat._to_chat_prompt([HumanMessage("just this")]) == "just this"
        assert chat.invoke("just this").response_metadata["finish_reason"] == "length"

    def test_what_a_template_refuses(self, torch_llm: Any) -> None:
        """The template's own words are in the error."""
        template = "{{ raise_exception('Roles must alternate!') }}"
        with pytest.raises(ParameterError, match="Roles must alternate!"):
            LocalChat(llm=torch_llm, chat_template=template).invoke(FRANCE)


def test_a_batch_is_computed_together(scripted: Any) -> None:
    """One call of the model for all conversations, and a run of its own for each."""

    class Counter(BaseCallbackHandler):
        started = ended = failed = 0

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            self.started += 1

        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            self.ended += 1

        def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
            self.failed += 1

    counter = Counter()
    chat = LocalChat(llm=scripted)
    words = [f"word {number}" for number in range(50)] + ["word 1"]
    answers = chat.batch([*words, ""], {"callbacks": [counter]}, return_exceptions=True)
    assert [answer.content for answer in answers[:-1]] == [word.upper() for word in words]
    assert isinstance(answers[-1], ParameterError)
    assert len(scripted.script.calls) == 1
    assert (counter.started, counter.ended, counter.failed) == (52, 51, 1)


def test_an_error_in_a_batch_reaches_every_conversation(scripted: Any) -> None:
    """And the model is free again."""
    scripted.script.fail_at = 3
    chat = LocalChat(llm=scripted)
    answers = chat.batch(["one", "two"], return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the model broke"] * 2
    scripted.script.fail_at = None
    assert chat.invoke("ok").content == "OK"


def test_token_counts_reach_langchains_own_counter(torch_llm: Any) -> None:
    """`get_usage_metadata_callback` adds up calls and streams."""
    chat = LocalChat(llm=torch_llm)
    with get_usage_metadata_callback() as counter:
        chat.invoke(FRANCE)
        list(chat.stream(FRANCE))
    usage = chat.invoke(FRANCE).usage_metadata
    assert usage is not None
    assert counter.usage_metadata["pocket"]["total_tokens"] == 2 * usage["total_tokens"]


def test_callbacks_see_each_token(torch_llm: Any) -> None:
    """With `streaming=True` an invoke is a stream underneath."""
    tokens: list[str] = []

    class Listener(BaseCallbackHandler):
        def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
            tokens.append(token)

    answer = LocalChat(llm=torch_llm, streaming=True).invoke(FRANCE, {"callbacks": [Listener()]})
    assert "".join(tokens) == answer.content == PARIS
    assert answer.usage_metadata == LocalChat(llm=torch_llm).invoke(FRANCE).usage_metadata


def test_a_model_can_be_loaded_in_one_line() -> None:
    """`LocalChat.from_model_id` is the short way."""
    chat = LocalChat.from_model_id("pocket", max_tokens=20)
    assert chat.invoke(FRANCE).content == PARIS


def test_the_hub_is_never_asked(run_python: Callable[..., str]) -> None:
    """A chat with the embedded model works offline, in a process without any cache."""
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('the network was used')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from local_pipelines import LocalChat\n"
        "print(LocalChat.from_model_id('pocket').invoke('What is the capital of France?').content)"
    )
    assert run_python(code, HF_HUB_OFFLINE="1").strip() == PARIS
