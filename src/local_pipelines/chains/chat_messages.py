"""From a conversation to a local model's prompt, and from its answer to a message."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCall, ToolCallChunk

from local_pipelines.chains.base import LocalLLM
from local_pipelines.chains.tools import Asked, call_dicts, read_calls, with_asked
from local_pipelines.engines.request import GeneratedAnswer
from local_pipelines.errors import ParameterError, failure
from local_pipelines.models.catalogue import catalogue
from local_pipelines.wording.messages import tr

_ROLES = {"human": "user", "ai": "assistant"}
_ROLES |= {name: name for name in ("system", "user", "assistant")}
_MESSAGE_ROLES = (
    *((SystemMessage, "system"), (AIMessage, "assistant")),
    *((HumanMessage, "user"), (ToolMessage, "tool")),
)
_CALLS = frozenset({"tool_use", "tool_call"})  # parts that tell what tool_calls tells
# What templates begin a turn with, where it is no token of its own: <|user|>, <<SYS>>, [/INST].
_MARK = re.compile(r"<\|[^<>|\s]+\|>|<</?[A-Z]+>>|\[/?[A-Z_]{3,}\]")


def chat_prompt(
    llm: LocalLLM,
    messages: Sequence[BaseMessage],
    template: str | None,
    asked: Asked = Asked(),  # noqa: B008 - it never changes
) -> str:
    """Write a conversation as the model reads it, by `template` or by its own."""
    if not messages:
        raise failure("no-message-to-answer")
    dicts = as_dicts(messages)
    if dicts[-1]["role"] == "assistant":
        raise failure("last-message-own")
    chosen = template or llm.chat_template
    if not chosen:
        known = [entry.id for entry in catalogue() if entry.has_chat_template]
        raise failure("no-chat-template", model_name=llm._model_name, names=", ".join(known))
    _check_texts(llm, dicts, chosen)
    dicts, variables = with_asked(dicts, asked, chosen)
    return llm.apply_chat_template(dicts, template=template, **variables)


def as_dicts(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Messages as templates know them: dictionaries with "role" and "content"."""
    return [
        {"role": _role(message), "content": _text(message), **call_dicts(message)}
        for message in messages
    ]


def _role(message: BaseMessage) -> str:
    role = next((role for kind, role in _MESSAGE_ROLES if isinstance(message, kind)), None)
    name = message.role if isinstance(message, ChatMessage) else message.type
    if isinstance(message, ChatMessage):
        role = _ROLES.get(name)
    if role is None:
        raise failure("unknown-role", name=name)
    return role


def _text(message: BaseMessage) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if isinstance(message, AIMessage):
        content = [b for b in content if isinstance(b, str) or b.get("type") not in _CALLS]
    for block in content:
        if isinstance(block, dict) and block.get("type") != "text":
            raise failure("message-part", kind=block.get("type"))
    return "".join(b if isinstance(b, str) else str(b.get("text", "")) for b in content)


def _check_texts(llm: LocalLLM, messages: list[dict[str, Any]], template: str) -> None:
    """Refuse a text that the model would read as the end of its turn and the start of another."""
    special = llm._special_tokens()
    marks = set(special) | set(_MARK.findall(template))
    # A letter that a tokenizer does not know becomes its token for the unknown: that is no turn.
    names = {number: name for name, number in special.items() if "unk" not in name.lower()}
    for message in messages:
        text = message["content"]
        found = next((mark for mark in sorted(marks) if mark in text), None)
        if found is None and names:  # some tokenizers take other letters for the same token
            numbers = llm._token_ids(text, special=False)
            found = next((names[number] for number in numbers if number in names), None)
        if found is not None:
            fact = tr("A message contains {mark}, which is no text for this model.")
            step = tr("Leave it out, or write it with a blank inside: {mark}.")
            raise ParameterError(
                fact.format(mark=found),
                tr("With it a text could end its turn and speak as somebody else."),
                step.format(mark=f"{found[:1]} {found[1:]}"),
            )


def answer_message(answer: GeneratedAnswer, model_name: str, asked: Asked) -> AIMessage:
    """An answer as a message, with its calls of tools and what it cost."""
    told, text = _metadata(answer, model_name), answer.text
    calls: list[ToolCall] = []
    if asked.reads_calls:
        text, calls = read_calls(text, answer.finish_reason, forced=asked.forced)
    usage = _usage(answer)
    return AIMessage(content=text, tool_calls=calls, usage_metadata=usage, response_metadata=told)


def answer_piece(
    piece: str | ToolCallChunk | GeneratedAnswer, model_name: str, *, usage: bool
) -> AIMessageChunk:
    """A piece of a stream as a message: text, a part of a call, or what the answer cost."""
    if isinstance(piece, str):
        return AIMessageChunk(content=piece)
    if not isinstance(piece, GeneratedAnswer):
        return AIMessageChunk(content="", tool_call_chunks=[piece])
    counts, told = _usage(piece) if usage else None, _metadata(piece, model_name)
    return AIMessageChunk(
        content="", usage_metadata=counts, response_metadata=told, chunk_position="last"
    )


def _metadata(answer: GeneratedAnswer, model_name: str) -> dict[str, Any]:
    info = answer.info()
    kept = ("finish_reason", "seconds", "tokens_per_second")
    return {"model_name": model_name} | {name: info[name] for name in kept}


def _usage(answer: GeneratedAnswer) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        total_tokens=answer.input_tokens + answer.output_tokens,
    )
