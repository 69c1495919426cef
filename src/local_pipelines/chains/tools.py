"""Tools for a chat: what the model is told of them, and the calls in its answers."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from local_pipelines.engines.grammar import Grammar
from local_pipelines.engines.json_schema import any_object, json_grammar
from local_pipelines.engines.tool_calls import (
    BEGIN,
    END,
    Arguments,
    Call,
    CallReader,
    Words,
    calls_grammar,
)
from local_pipelines.errors import LocalPipelinesError, failure

# What a model is told whose template knows nothing of tools. It is no sentence for a reader.
_TOLD = (
    "You can call tools. To call one, answer with\n"
    f'{BEGIN}\n{{"name": "tool", "arguments": {{}}}}\n{END}\nThe tools:\n'
)
_FORM = "Answer with one JSON object that fits this JSON schema:\n"
_KNOWS_TOOLS = re.compile(r"\btools\b")


@dataclass(frozen=True)
class Asked:
    """What is asked of an answer beside its words."""

    tools: tuple[dict[str, Any], ...] = ()
    grammar: Grammar | None = None
    schema: dict[str, Any] | None = None  # which the model is told of
    forced: bool = False  # the answer has to be a call

    @property
    def reads_calls(self) -> bool:
        """Whether the answer may hold calls."""
        return bool(self.tools) and self.grammar is not None


def asked_of(options: dict[str, Any]) -> Asked:
    """Take out of a call's options what tells of tools and forms, and make a grammar of it.

    Raises:
        ParameterError: It cannot be kept.
    """
    tools = tuple(options.pop("tools", None) or ())
    choice, form = options.pop("tool_choice", None), options.pop("response_format", None)
    several = options.pop("parallel_tool_calls", None)
    options.pop("functions", None)
    options.pop("strict", None)
    if form and form.get("type") != "text":
        told = (form.get("json_schema") or {}).get("schema")
        schema = told or form.get("schema")
        text = json.dumps(schema, sort_keys=True, default=str) if schema else ""
        return Asked(grammar=_form_grammar(text, schema_of(text)), schema=told)
    if not tools or choice in {"none", False}:
        return Asked(tools)
    forced = choice not in {None, "auto"}
    chosen = [tool for tool in tools if choice in {None, "auto", "any", tool["function"]["name"]}]
    known = tuple(
        (tool["function"]["name"], json.dumps(tool["function"].get("parameters") or {}))
        for tool in chosen
    )
    several = not forced if several is None else bool(several)
    return Asked(tools, _calls_grammar(known, forced, several), forced=forced)


class _Hashed(dict[str, Any]):
    """A schema that a cache can take; its text is the key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return 0


def schema_of(text: str) -> _Hashed:
    """A schema out of its text."""
    return _Hashed(json.loads(text) if text else {})


@lru_cache(maxsize=64)
def _form_grammar(text: str, schema: _Hashed) -> Grammar:
    return json_grammar(schema) if text else any_object()


@lru_cache(maxsize=64)
def _calls_grammar(tools: tuple[tuple[str, str], ...], forced: bool, several: bool) -> Grammar:
    schemas = {name: json.loads(schema) for name, schema in tools}
    return calls_grammar(schemas, forced=forced, several=several)


def described_tools(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Tools as OpenAI's interface describes them, which most templates read.

    Raises:
        ParameterError: One has no description, no readable arguments, or the name of another.
    """
    described = [_described(tool) for tool in tools]
    described = [tool for n, tool in enumerate(described) if not _comes_again(tool, described[:n])]
    names = [tool["function"]["name"] for tool in described]
    for name in names:
        if names.count(name) > 1:
            raise failure("tools-of-one-name", name=name)
    return described


def _comes_again(tool: dict[str, Any], earlier: Sequence[dict[str, Any]]) -> bool:
    """Whether a tool is one of the earlier ones: of the same name, with the same arguments."""
    return any(_signature(tool) == _signature(other) for other in earlier)


def _signature(tool: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    parameters = tool["function"].get("parameters") or {}
    names, required = parameters.get("properties") or {}, parameters.get("required") or ()
    return tool["function"]["name"], sorted(names), sorted(required)


def _described(tool: Any) -> dict[str, Any]:
    name = getattr(tool, "name", None) or getattr(tool, "__name__", None) or type(tool).__name__
    is_function = callable(tool) and not isinstance(tool, type | BaseTool)
    if is_function and not (getattr(tool, "__doc__", None) or "").strip():
        raise failure("tool-without-docstring", name=name)
    try:
        told: dict[str, Any] = convert_to_openai_tool(tool)
        told["function"]["name"]
    except Exception as error:  # LangChain's and pydantic's, of many kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise failure("tool-unreadable", name=name, reason=reason) from error
    return told


def tool_choice_of(choice: Any, names: Sequence[str]) -> str:
    """A choice as one of "auto", "any", "none" or a tool's name.

    Raises:
        ParameterError: There is no such tool.
    """
    if isinstance(choice, Mapping):
        choice = (choice.get("function") or choice).get("name")
    known = {None: "auto", True: "any", False: "none", "required": "any"}
    choice = known.get(choice, choice)
    if choice not in {"auto", "any", "none", *names}:
        raise failure("no-such-tool", name=choice, names=", ".join(names))
    return str(choice)


def with_asked(
    dicts: list[dict[str, Any]], asked: Asked, template: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Messages that tell a model what is asked of it, and variables for its template.

    A template that speaks of tools is given them. Any other gets messages in which calls and
    results are texts, and the tools and the schema stand in the system message.
    """
    knows = bool(_KNOWS_TOOLS.search(template))
    told = "" if asked.schema is None else _FORM + _json(asked.schema)
    if asked.tools and not (knows and BEGIN in template):
        told = _TOLD + "\n".join(_json(tool["function"]) for tool in asked.tools)
    if told:
        first = dicts[0]["content"] + "\n\n" if dicts[0]["role"] == "system" else ""
        rest = dicts[1:] if first else dicts
        dicts = [{"role": "system", "content": first + told}, *rest]
    if knows:
        return dicts, {"tools": list(asked.tools) or None}
    return [_as_text(message) for message in dicts], {}


def _as_text(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        content = f"<tool_response>\n{message['content']}\n</tool_response>"
        return {"role": "user", "content": content}
    if calls := message.get("tool_calls"):
        texts = [f"{BEGIN}\n{_json(call['function'])}\n{END}" for call in calls]
        content = "\n".join([*filter(None, [message["content"]]), *texts])
        return {"role": "assistant", "content": content}
    return message


def call_dicts(message: BaseMessage) -> dict[str, Any]:
    """What a message has beside role and text: its calls, or the call that it answers."""
    if isinstance(message, ToolMessage):
        return {"tool_call_id": message.tool_call_id, "name": message.name or ""}
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    functions = [{"name": call["name"], "arguments": call["args"]} for call in calls]
    listed = [
        {"type": "function", "id": call["id"], "function": function}
        for call, function in zip(calls, functions, strict=True)
    ]
    return {"tool_calls": listed} if listed else {}


def read_calls(text: str, reason: str, *, forced: bool = False) -> tuple[str, list[ToolCall]]:
    """The words and the calls of a whole answer.

    Raises:
        AnswerError: It ends within a call.
    """
    reader = CallReader()
    words, names, arguments = "", list[str](), list[str]()
    for event in [*reader.feed(text), *reader.flush()]:
        match event:
            case Words(piece):
                words += piece
            case Call(_, name):
                names.append(name)
                arguments.append("")
            case Arguments(index, piece):
                arguments[index] += piece
    if reader.is_inside or (forced and not names):
        raise cut_answer(text, reason)
    calls = [
        ToolCall(name=name, args=json.loads(args), id=_new_id(), type="tool_call")
        for name, args in zip(names, arguments, strict=True)
    ]
    return (words.strip() if calls else words), calls


class CallStream:
    """Makes the pieces of a streamed answer words and chunks of calls."""

    def __init__(self, *, forced: bool) -> None:
        self._reader = CallReader()
        self._forced = forced
        self._text = ""

    def feed(self, text: str) -> list[str | ToolCallChunk]:
        """What is certain after one more piece."""
        self._text += text
        return [_piece(event) for event in self._reader.feed(text)]

    def end(self, reason: str) -> list[str | ToolCallChunk]:
        """What was held back.

        Raises:
            AnswerError: The answer ends within a call.
        """
        pieces = [_piece(event) for event in self._reader.flush()]
        if self._reader.is_inside or (self._forced and not self._reader.calls):
            raise cut_answer(self._text, reason)
        return pieces


def _piece(event: Words | Call | Arguments) -> str | ToolCallChunk:
    match event:
        case Words(text):
            return text
        case Call(index, name):
            return tool_call_chunk(name=name, args="", id=_new_id(), index=index)
        case Arguments(index, text):
            return tool_call_chunk(name=None, args=text, id=None, index=index)


def cut_answer(text: str, reason: str) -> LocalPipelinesError:
    """The error for an answer that ended before its form did; it keeps the text."""
    is_cut = reason == "length"
    error = failure("answer-cut" if is_cut else "answer-stopped", text=text[-200:])
    error.text = text  # type: ignore[attr-defined] # AnswerError has it
    return error


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
