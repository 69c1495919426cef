"""LocalChat calls tools and answers in a given form."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import pytest

pytest.importorskip("llguidance")

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from local_pipelines import LocalChat
from local_pipelines.chains.tools import read_calls
from local_pipelines.engines.tool_calls import CallReader
from local_pipelines.errors import AnswerError, ParameterError

FRANCE = "What is the capital of France?"


def pick(colour: Literal["red", "blue"], number: Literal[1, 2]) -> str:
    """Pick a colour and a number."""
    return f"{colour} {number}"


class City(BaseModel):
    """A city."""

    name: Literal["Paris", "Lima"]
    rank: int = Field(ge=1, le=9)


class Town(TypedDict):
    """A town."""

    name: Literal["Paris", "Lima"]


@pytest.fixture(params=["torch_llm", "genai_llm"])
def chat(request: pytest.FixtureRequest) -> LocalChat:
    """The embedded model as a chat, on each engine."""
    return LocalChat(llm=request.getfixturevalue(request.param), max_tokens=200)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat: LocalChat, method: str) -> None:
    """Pydantic models give objects, TypedDicts and JSON schemas dictionaries."""
    city = chat.with_structured_output(City, method=method).invoke(FRANCE)
    assert isinstance(city, City)
    town = chat.with_structured_output(Town, method=method).invoke(FRANCE)
    assert town["name"] in {"Paris", "Lima"}
    schema = City.model_json_schema()
    found = chat.with_structured_output(schema, method=method).invoke(FRANCE)
    assert City(**found)


def test_raw_answers_are_kept(chat: LocalChat) -> None:
    """`include_raw` gives the message, the value, and no error where there is none."""
    given = chat.with_structured_output(City, include_raw=True).invoke(FRANCE)
    assert isinstance(given["raw"], AIMessage)
    assert isinstance(given["parsed"], City)
    assert given["parsing_error"] is None
    assert given["raw"].response_metadata["finish_reason"] == "eos"


def test_a_cut_answer_says_so_and_keeps_its_text(chat: LocalChat) -> None:
    """It is an error with the text that there is."""
    short = LocalChat(llm=chat.llm, max_tokens=3)
    with pytest.raises(AnswerError, match="cut off") as caught:
        short.with_structured_output(City).invoke(FRANCE)
    assert caught.value.text.startswith("{")
    given = short.with_structured_output(City, include_raw=True).invoke(FRANCE)
    assert isinstance(given["parsing_error"], AnswerError)
    with pytest.raises(AnswerError, match="cut off"):
        short.bind_tools([pick], tool_choice="any").invoke(FRANCE)


def test_a_tool_is_called(chat: LocalChat) -> None:
    """Forced by "any", by its name, or by True, in invoke, batch and stream alike."""
    for choice in ("any", "pick", True, {"type": "function", "function": {"name": "pick"}}):
        forced = chat.bind_tools([pick], tool_choice=choice)
        answer = forced.invoke(FRANCE)
        assert [call["name"] for call in answer.tool_calls] == ["pick"]
        assert pick(**answer.tool_calls[0]["args"])
        assert answer.content == ""
    (first,) = forced.batch([FRANCE])
    chunks = list(forced.stream(FRANCE))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    for message in (first, whole):
        assert message.tool_calls[0]["args"] == answer.tool_calls[0]["args"]
    assert any(chunk.tool_call_chunks for chunk in chunks)
    assert not whole.invalid_tool_calls


def test_a_named_tool_is_the_one_that_is_called(chat: LocalChat) -> None:
    """Whatever other tools there are."""

    @tool
    def rest() -> str:
        """Rest."""
        return ""

    for name in ("pick", "rest"):
        answer = chat.bind_tools([pick, rest], tool_choice=name).invoke(FRANCE)
        assert [call["name"] for call in answer.tool_calls] == [name]


def test_without_a_need_the_model_speaks_in_words(chat: LocalChat) -> None:
    """With "auto" it may, with "none" it must."""
    for choice in (None, "auto", "none"):
        answer = chat.bind_tools([pick], tool_choice=choice).invoke(FRANCE)
        assert isinstance(answer.content, str)
        assert answer.content or answer.tool_calls
        if choice == "none":
            assert not answer.tool_calls


def test_results_of_tools_are_read(chat: LocalChat) -> None:
    """A conversation with a call and its result is a prompt like any other."""
    call = {"name": "pick", "args": {"colour": "red", "number": 1}, "id": "1"}
    messages = [
        HumanMessage(FRANCE),
        AIMessage("", tool_calls=[call]),
        ToolMessage("red 1", tool_call_id="1"),
    ]
    prompt = chat._to_chat_prompt(messages)
    assert '<tool_call>\n{"name": "pick"' in prompt
    assert "<tool_response>\nred 1\n</tool_response>" in prompt
    assert chat.invoke(messages).content


def test_a_template_that_knows_tools_is_given_them(torch_llm: Any) -> None:
    """And the default words are left out."""
    template = (
        "<tool_call>{% for t in tools %}[{{ t.function.name }}]{% endfor %}{{ messages[-1].role }}"
    )
    chat = LocalChat(llm=torch_llm, chat_template=template)
    bound = chat.bind_tools([pick])
    asked = chat._asked(bound.kwargs)
    assert chat._to_chat_prompt([HumanMessage("x")], asked) == "<tool_call>[pick]user"


def test_several_calls_are_read_whole_and_in_pieces() -> None:
    """Wherever the pieces are cut, strings with braces and markers in them included."""
    arguments = ['{"a": "}</tool_call>{"}', '{"a": {"b": [1, "\\\\\\""]}}']
    text = "First: " + "\n".join(
        f'<tool_call>\n{{"name": "t{n}", "arguments": {each}}}\n</tool_call>'
        for n, each in enumerate(arguments)
    )
    words, calls = read_calls(text, "eos")
    assert words == "First:"
    assert [call["name"] for call in calls] == ["t0", "t1"]
    for size in (1, 2, 3, 7):
        reader = CallReader()
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        events = [e for piece in pieces for e in reader.feed(piece)] + list(reader.flush())
        joined = ["", ""]
        for event in events:
            if hasattr(event, "index") and hasattr(event, "text"):
                joined[event.index] += event.text
        assert joined == arguments
        assert not reader.is_inside


class TestBadInput:
    """One sentence for each."""

    def test_tools(self, torch_llm: Any) -> None:
        """Without a docstring, of one name, no tool at all, a choice that is none."""
        chat = LocalChat(llm=torch_llm)

        def bare(x: int) -> int:
            return x

        def other(a: int) -> str:
            """Do something else."""
            return str(a)

        other.__name__ = "pick"
        for tools, words in [
            ([bare], "no docstring"),
            ([pick, other], "Two tools"),
            ([5], "cannot be described"),
            ([{"no": "name"}], "cannot be described"),
        ]:
            with pytest.raises(ParameterError, match=words):
                chat.bind_tools(tools)
        with pytest.raises(ParameterError, match="none of the tools"):
            chat.bind_tools([pick], tool_choice="pock")

    def test_schemas(self, torch_llm: Any) -> None:
        """What is none, what cannot be held to, and a method that is none."""
        chat = LocalChat(llm=torch_llm)
        with pytest.raises(ParameterError, match="no JSON schema"):
            chat.with_structured_output(5)
        with pytest.raises(ParameterError, match="no JSON schema"):
            chat.with_structured_output(None)
        with pytest.raises(ParameterError, match="json_mode"):
            chat.with_structured_output(City, method="json")
        with pytest.raises(ParameterError, match="methode"):
            chat.with_structured_output(City, methode="json_mode")
        with pytest.raises(ParameterError, match="held to not"):
            chat.with_structured_output({"title": "x", "type": "object", "not": {}})
