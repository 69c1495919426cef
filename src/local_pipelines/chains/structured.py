"""Answers in a given form: what `LocalChat.with_structured_output` returns."""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, ValidationError

from local_pipelines.chains.tools import asked_of, cut_answer
from local_pipelines.engines.json_schema import first_fault
from local_pipelines.errors import failure

_SCHEMA = frozenset({"$ref", "allOf", "anyOf", "enum", "oneOf", "properties", "type"})
METHODS = ("json_schema", "json_mode", "function_calling")


def structured(
    chat: BaseChatModel, schema: Any, method: str, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """A chat whose answers are values of a schema."""
    if method not in METHODS:
        raise failure("no-such-method", method=method, names=", ".join(METHODS))
    if schema is None and method != "json_mode":
        raise failure("schema-no-schema", value=schema)
    described = None if schema is None else _json_schema(schema)
    form: dict[str, Any]
    told = {"kwargs": {"method": method}, "schema": schema}
    if method == "function_calling":
        llm: Any = chat.bind_tools([schema], tool_choice="any", ls_structured_output_format=told)
    elif method == "json_mode":  # held to the schema, and not told of it
        form = {"type": "json_object", "schema": described}
        llm = chat.bind(response_format=form, ls_structured_output_format=told)
    else:
        name = (described or {}).get("title", "answer")
        form = {
            "type": "json_schema",
            "json_schema": {"name": name, "schema": described},
        }
        llm = chat.bind(response_format=form, ls_structured_output_format=told)
    asked_of(dict(getattr(llm, "kwargs", {})))  # what cannot be kept is refused now
    parser = RunnableLambda(lambda message: parsed(message, schema, described), name="parse")
    chain: Runnable[LanguageModelInput, Any] = llm | parser
    if not include_raw:
        return chain
    given = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    none = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=llm) | given.with_fallbacks([none], exception_key="parsing_error")


def _json_schema(schema: Any) -> dict[str, Any]:
    if isinstance(schema, dict) and schema.get("type") != "function" and _SCHEMA & schema.keys():
        return schema  # as it is: LangChain would drop what it does not know
    try:
        described: dict[str, Any] = (
            schema.model_json_schema()
            if isinstance(schema, type) and issubclass(schema, BaseModel)
            else convert_to_json_schema(schema)
        )
    except Exception as error:  # LangChain's and pydantic's, of many kinds
        raise failure("schema-no-schema", value=schema) from error
    return described


def parsed(message: AIMessage, schema: Any, described: dict[str, Any] | None) -> Any:
    """The value that an answer holds.

    Raises:
        AnswerError: There is none, or one that does not fit.
    """
    text, reason = str(message.content), str(message.response_metadata.get("finish_reason"))
    if message.tool_calls:
        value: Any = message.tool_calls[0]["args"]
    else:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise cut_answer(text, reason) from error
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        try:
            return (
                schema.model_validate(value) if issubclass(schema, BaseModel) else schema(**value)
            )
        except ValidationError as error:
            fault = error.errors()[0]
            raise failure("answer-unfit", fault=f"{fault['loc']}: {fault['msg']}") from error
    if described is not None and (found := first_fault(value, described)):
        raise failure("answer-unfit", fault=found)
    return value
