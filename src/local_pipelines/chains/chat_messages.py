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
)
from langchain_core.messages.ai import UsageMetadata

from local_pipelines.chains.base import LocalLLM
from local_pipelines.engines.request import GeneratedAnswer
from local_pipelines.errors import ModelError, ParameterError
from local_pipelines.models.catalogue import catalogue
from local_pipelines.wording.messages import tr

_ROLES = {"human": "user", "ai": "assistant"}
_ROLES |= {name: name for name in ("system", "user", "assistant")}
_MESSAGE_ROLES = ((SystemMessage, "system"), (AIMessage, "assistant"), (HumanMessage, "user"))
# What templates begin a turn with, where it is no token of its own: <|user|>, <<SYS>>, [/INST].
_MARK = re.compile(r"<\|[^<>|\s]+\|>|<</?[A-Z]+>>|\[/?[A-Z_]{3,}\]")


def chat_prompt(llm: LocalLLM, messages: Sequence[BaseMessage], template: str | None) -> str:
    """Write a conversation, or `template` in place of the model's own, as the model reads it.

    Raises:
        ModelError: The model was not trained for conversations.
        ParameterError: A message is none that the model can read.
    """
    if not messages:
        raise ParameterError(
            tr("There is no message to answer."), next_step=tr('Write [("human", "Hello")].')
        )
    dicts = as_dicts(messages)
    if dicts[-1]["role"] == "assistant":
        raise ParameterError(
            tr("The last message is the model's own."),
            tr("It answers what somebody else says."),
            tr('Add a message of the role "human".'),
        )
    chosen = template or llm.chat_template
    if not chosen:
        raise _no_template(llm._model_name)
    _check_texts(llm, dicts, chosen)
    return llm.apply_chat_template(dicts, template=template)


def as_dicts(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Messages as templates know them: dictionaries with "role" and "content"."""
    return [{"role": _role(message), "content": _text(message)} for message in messages]


def _role(message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        role = _ROLES.get(message.role)
    else:
        role = next((role for kind, role in _MESSAGE_ROLES if isinstance(message, kind)), None)
    if role is None:
        name = message.role if isinstance(message, ChatMessage) else message.type
        raise ParameterError(
            tr('A message has the role "{name}", which no model here knows.').format(name=name),
            tr("Models are trained for the roles system, human and ai."),
            tr('Write ("human", …) in place of ("{name}", …).').format(name=name),
        )
    return role


def _text(message: BaseMessage) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    for block in content:
        if isinstance(block, dict) and block.get("type") != "text":
            raise ParameterError(
                tr('A message has a part of the type "{kind}".').format(kind=block.get("type")),
                tr("This model reads text only."),
                tr("Leave that part out."),
            )
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


def _no_template(model_name: str) -> ModelError:
    known = [entry.id for entry in catalogue() if entry.has_chat_template]
    fact = tr('"{model_name}" has no chat template: it was not trained for conversations.')
    return ModelError(
        fact.format(model_name=model_name),
        tr("Models that have one: {names}.").format(names=", ".join(known)),
        tr(
            "Use one of them, use the model as an llm without LocalChat, or write"
            " LocalChat(llm=llm, chat_template=…)."
        ),
    )


def answer_message(answer: GeneratedAnswer, model_name: str) -> AIMessage:
    """An answer as a message, with what it cost."""
    return AIMessage(
        content=answer.text,
        usage_metadata=_usage(answer),
        response_metadata=_metadata(answer, model_name),
    )


def answer_piece(piece: str | GeneratedAnswer, model_name: str, *, usage: bool) -> AIMessageChunk:
    """A piece of a stream as a message: a text, or, at the end, what the answer cost."""
    if isinstance(piece, str):
        return AIMessageChunk(content=piece)
    return AIMessageChunk(
        content="",
        usage_metadata=_usage(piece) if usage else None,
        response_metadata=_metadata(piece, model_name),
        chunk_position="last",
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
