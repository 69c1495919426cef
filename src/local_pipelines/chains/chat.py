"""`LocalChat`: LangChain's `ChatHuggingFace`, completed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from functools import partial
from typing import Any, Self

from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import get_config_list
from langchain_core.tools import BaseTool
from langchain_huggingface import ChatHuggingFace
from pydantic import ConfigDict, PrivateAttr, model_validator

from local_pipelines.chains.base import AsyncManager, Configs, Inputs, LocalLLM, Manager, Stop
from local_pipelines.chains.chat_messages import answer_message, answer_piece, as_dicts, chat_prompt
from local_pipelines.chains.pipeline import LocalPipeline
from local_pipelines.chains.structured import structured
from local_pipelines.chains.tools import (
    Asked,
    CallStream,
    asked_of,
    described_tools,
    tool_choice_of,
    with_asked,
)
from local_pipelines.engines.options import check_no_token, unknown_option
from local_pipelines.engines.prompts import refuse_bytes
from local_pipelines.engines.request import GeneratedAnswer
from local_pipelines.errors import LocalPipelinesError, ParameterError, failure

# Fields of ChatHuggingFace that speak to a server.
_SERVER_FIELDS = ("frequency_penalty", "logit_bias", "logprobs", "presence_penalty", "top_logprobs")
# Call options that LangChain sends along and that change nothing here.
_IDLE_OPTIONS = frozenset(
    {"stream", "stream_options", "stream_usage", "ls_structured_output_format"}
)
# Call options that say what an answer has to look like.
_ASKING = frozenset(
    {"tools", "tool_choice", "parallel_tool_calls", "response_format", "functions", "strict"}
)
_NOTHING = Asked()
# Fields that change what is answered, beside the model.
_ANSWERING = ("chat_template", "temperature", "max_tokens", "top_p", "seed", "stop")


class LocalChat(ChatHuggingFace):
    """A chat model on this machine, for LangChain.

    It is LangChain's `ChatHuggingFace` with what is missing there for local models: it takes the
    tokenizer of the loaded model and never asks the Hub, and async calls, batches, stop strings
    and token counts work. A message that holds a special token of the model, such as `<|end|>`, is
    refused: it would end its turn and speak as somebody else. So no text makes a turn, unless a
    model's turns begin with plain words, such as "### User:".

    Args:
        llm: A `LocalPipeline`, or another model of this package.
        chat_template: A Jinja template to use in place of the model's own.
        temperature: Above 0: sample, with this temperature. 0: do not sample.
        max_tokens: The most tokens of an answer.
        top_p: Sample from the most probable tokens with this share of the probability.
        seed: Makes sampling repeatable.
        stop: Strings to stop at.
        streaming: Make answers from a stream, so that callbacks see each token.
        stream_usage: Give the token counts in the last piece of a stream; True unless set.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # an input may be a token

    chat_template: str | None = None

    # In the copy of a chat that runs a batch: the answers to its prompts, computed together.
    _ready: dict[str, list[GeneratedAnswer | Exception]] = PrivateAttr(default_factory=dict)

    def __init__(self, **kwargs: Any) -> None:
        if "stop" in kwargs:  # LangChain's field goes by another name
            kwargs["stop_sequences"] = kwargs.pop("stop")
        for options in (kwargs, kwargs.get("model_kwargs")):
            check_no_token(options)
        if not isinstance(llm := kwargs.get("llm"), LocalLLM):
            raise failure("chat-without-local-llm", kind=type(llm).__name__)
        super().__init__(**kwargs)
        self._check_fields()

    @classmethod
    def from_model_id(
        cls,
        model_id: str,
        task: str | None = None,
        backend: str = "default",
        *,
        batch_size: int = 4,
        device: int | str | None = None,
        device_map: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        pipeline_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a model to chat with.

        Args:
            model_id: "pocket", an id of the Hub, or a folder.
            task: "text-generation".
            backend: "default" for torch, or "openvino".
            batch_size: How many conversations to answer at a time.
            device: -1 the CPU, 0 the first GPU, …
            device_map: "auto" lets Accelerate spread the model.
            model_kwargs: Options for loading.
            pipeline_kwargs: Generation options.
            kwargs: Fields of the class, such as `temperature`.
        """
        llm = LocalPipeline.from_model_id(
            model_id,
            task=task or "text-generation",
            backend="default" if backend == "pipeline" else backend,  # as LangChain calls it
            device=device,
            device_map=device_map,
            model_kwargs=model_kwargs,
            pipeline_kwargs=pipeline_kwargs,
            batch_size=batch_size,
        )
        return cls(llm=llm, **kwargs)

    @model_validator(mode="after")
    def validate_llm(self) -> Self:
        """Leave the check to `__init__`: pydantic would wrap the error into its own."""
        return self

    def _resolve_model_id(self) -> None:
        self.model_id = self.model_id or self.llm._model_name
        pipeline = getattr(self.llm, "pipeline", None)
        self.tokenizer = self.tokenizer or getattr(pipeline, "tokenizer", None)

    def _check_fields(self) -> None:
        idle = [name for name in _SERVER_FIELDS if getattr(self, name, None) is not None]
        if (self.n or 1) != 1:
            idle.append("n")
        if idle:
            raise failure("server-fields", names=", ".join(idle))

    @property
    def _llm_type(self) -> str:
        return "local-chat"

    def _get_ls_params(self, stop: Stop = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params.setdefault("ls_model_name", self._model_name)
        return params

    def _get_invocation_params(self, stop: Stop = None, **kwargs: Any) -> dict[str, Any]:
        check_no_token(kwargs)  # here, as callbacks get them before any of our methods is called
        params: dict[str, Any] = super()._get_invocation_params(stop=stop, **kwargs)
        return params

    @property
    def _identifying_params(self) -> dict[str, Any]:
        own = {f"chat_{name}": getattr(self, name) for name in _ANSWERING}
        return {"llm": {**self.llm._identifying_params, "_type": self.llm._llm_type}, **own}

    @property
    def _model_name(self) -> str:
        return str(self.model_id or self.llm._model_name)

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        refuse_bytes(model_input)
        try:
            return super()._convert_input(model_input)
        except (ValueError, NotImplementedError, TypeError) as error:
            raise failure("no-message", reason=str(error).splitlines()[0]) from error

    def _to_chat_prompt(self, messages: list[BaseMessage], asked: Asked = _NOTHING) -> str:
        return chat_prompt(self.llm, messages, self.chat_template, asked)

    def get_token_ids(self, text: str) -> list[int]:
        """Give the numbers of a text's tokens, by the model's own tokenizer."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        ids: list[int] = self.llm._token_ids(text, special=False)
        return ids

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count the tokens of a conversation, with the chat template where that takes it."""
        if not messages:
            return 0
        asked = Asked(tuple(described_tools(tools or ())))
        template = self.chat_template or self.llm.chat_template or ""
        try:
            dicts, variables = with_asked(as_dicts(messages), asked, template)
            prompt = self.llm.apply_chat_template(dicts, template=self.chat_template, **variables)
        except ParameterError:
            return super().get_num_tokens_from_messages(list(messages))
        return len(self.get_token_ids(prompt))

    def _asked(self, kwargs: dict[str, Any]) -> Asked:
        """What is asked of the answer beside words."""
        return asked_of({name: kwargs[name] for name in _ASKING if name in kwargs})

    def _options(self, stop: Stop, kwargs: dict[str, Any], asked: Asked) -> dict[str, Any]:
        """What the llm is asked for: its own names, and no special tokens a second time."""
        left_out = _IDLE_OPTIONS | _ASKING
        options = {name: value for name, value in kwargs.items() if name not in left_out}
        own = {name: getattr(self, name) for name in ("temperature", "top_p", "seed")}
        options = own | {"max_new_tokens": self.max_tokens} | options
        if (limit := options.pop("max_tokens", None)) is not None:
            options["max_new_tokens"] = limit
        options = {name: value for name, value in options.items() if value is not None}
        options |= {} if asked.grammar is None else {"grammar": asked.grammar}
        return options | {"stop": self.stop if stop is None else stop, "templated": True}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: Stop = None,
        run_manager: Manager = None,
        stream: bool | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._asked(kwargs)
        prompt = self._to_chat_prompt(messages, asked)
        ready = self._computed(prompt)
        options = self._options(stop, kwargs, asked)
        return self._chat_result(ready or self.llm.answers([prompt], **options)[0], asked)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: Stop = None,
        run_manager: AsyncManager = None,
        stream: bool | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._asked(kwargs)
        prompt = self._to_chat_prompt(messages, asked)
        ready = self._computed(prompt)
        options = self._options(stop, kwargs, asked)
        answer = ready or (await self.llm.aanswers([prompt], **options))[0]
        return self._chat_result(answer, asked)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: Stop = None,
        run_manager: Manager = None,
        *,
        stream_usage: bool | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        usage = self._should_stream_usage(stream_usage=stream_usage, **kwargs)
        asked = self._asked(kwargs)
        prompt = self._to_chat_prompt(messages, asked)
        told = self._telling(asked, usage=usage)
        if (answer := self._computed(prompt)) is not None:
            for chunk in (*told(answer.text), *told(answer)):
                yield chunk
            return
        with closing(self.llm.pieces(prompt, **self._options(stop, kwargs, asked))) as pieces:
            for piece in pieces:
                for chunk in told(piece):
                    if run_manager:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: Stop = None,
        run_manager: AsyncManager = None,
        *,
        stream_usage: bool | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        usage = self._should_stream_usage(stream_usage=stream_usage, **kwargs)
        asked = self._asked(kwargs)
        prompt = self._to_chat_prompt(messages, asked)
        told = self._telling(asked, usage=usage)
        if (answer := self._computed(prompt)) is not None:
            for chunk in (*told(answer.text), *told(answer)):
                yield chunk
            return
        options = self._options(stop, kwargs, asked)
        async with aclosing(self.llm.apieces(prompt, **options)) as pieces:
            async for piece in pieces:
                for chunk in told(piece):
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def batch(
        self,
        inputs: Inputs,
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer many conversations, as many at a time as the llm's `batch_size` says.

        Args:
            inputs: The conversations.
            config: LangChain's configuration; `max_concurrency` limits what runs at a time.
            return_exceptions: Give an error in the place of an answer instead of raising it.
            kwargs: What `invoke` takes.
        """
        prompts, options = self._batch_request(inputs, config, kwargs)
        answers: list[GeneratedAnswer] | list[Exception]
        try:
            answers = self.llm.answers(prompts, **options) if prompts else []
        except Exception as error:  # noqa: BLE001 - each run of the batch reports it
            answers = [error] * len(prompts)
        one_batch = self._with_answers(prompts, answers)
        return ChatHuggingFace.batch(
            one_batch, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    async def abatch(
        self,
        inputs: Inputs,
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Do the same without blocking the event loop."""
        # In a thread: a cache may ask a disk or a server.
        prompts, options = await asyncio.to_thread(self._batch_request, inputs, config, kwargs)
        answers: list[GeneratedAnswer] | list[Exception]
        try:
            answers = await self.llm.aanswers(prompts, **options) if prompts else []
        except Exception as error:  # noqa: BLE001 - each run of the batch reports it
            answers = [error] * len(prompts)
        one_batch = self._with_answers(prompts, answers)
        return await ChatHuggingFace.abatch(
            one_batch, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    def _with_answers(
        self, prompts: list[str], answers: Sequence[GeneratedAnswer | Exception]
    ) -> Self:
        """A copy of this chat for one batch, which has the answers to its prompts."""
        # LangChain runs a chat model's batch as so many single calls in threads. The runs are kept,
        # with their callbacks and traces, but the model has answered all prompts together before.
        copied = self.model_copy()
        copied._ready = {}
        for prompt, answer in zip(prompts, answers, strict=True):
            copied._ready.setdefault(prompt, []).append(answer)
        return copied

    def _computed(self, prompt: str) -> GeneratedAnswer | None:
        try:
            answer = self._ready[prompt].pop(0)
        except LookupError:  # no batch, or one that LangChain's cache was to answer
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _batch_request(
        self, inputs: Inputs, config: Configs, kwargs: dict[str, Any]
    ) -> tuple[list[str], dict[str, Any]]:
        """The prompts to compute, and how; what is wrong is raised by its own run."""
        prompts: list[str] = []
        others = {name: value for name, value in kwargs.items() if name != "stop"}
        try:
            asked = self._asked(others)
            options = self._options(kwargs.get("stop"), others, asked)
        except LocalPipelinesError:
            return [], {}
        for each in inputs:
            try:
                messages = self._convert_input(each).to_messages()
                prompt = self._to_chat_prompt(messages, asked)
                self.llm._check_prompts([prompt], templated=True)
            except LocalPipelinesError:
                continue
            if not self._is_cached(messages, kwargs.get("stop"), others):
                prompts.append(prompt)
        configs = get_config_list(config, len(inputs)) if inputs else []
        limit = configs[0].get("max_concurrency") if configs else None
        if limit:
            options["batch_size"] = min(limit, options.get("batch_size") or self.llm.batch_size)
        return prompts, options

    def _is_cached(self, messages: list[BaseMessage], stop: Stop, kwargs: dict[str, Any]) -> bool:
        """Whether LangChain will find the answer in its cache, by the key that it makes itself."""
        cache = self.cache if isinstance(self.cache, BaseCache) else get_llm_cache()
        if cache is None or self.cache is False:
            return False
        plain = [message.model_copy(update={"id": None}) for message in messages]
        return cache.lookup(dumps(plain), self._get_llm_string(stop=stop, **kwargs)) is not None

    def _should_stream_usage(self, *, stream_usage: bool | None = None, **kwargs: Any) -> bool:
        wanted = super()._should_stream_usage(stream_usage=stream_usage, **kwargs)
        return True if wanted is None else bool(wanted)

    def _chat_result(self, answer: GeneratedAnswer, asked: Asked) -> ChatResult:
        message = answer_message(answer, self._model_name, asked)
        usage = dict(message.usage_metadata or {})
        return ChatResult(
            generations=[ChatGeneration(message=message, generation_info=answer.info())],
            llm_output={"model_name": self._model_name, "token_usage": usage},
        )

    def _telling(
        self, asked: Asked, *, usage: bool
    ) -> Callable[[str | GeneratedAnswer], Iterator[ChatGenerationChunk]]:
        """Give what makes chunks of the pieces of one stream."""
        stream = CallStream(forced=asked.forced) if asked.reads_calls else None
        return partial(self._chunks, stream=stream, usage=usage)

    def _chunks(
        self, piece: str | GeneratedAnswer, *, stream: CallStream | None, usage: bool
    ) -> Iterator[ChatGenerationChunk]:
        """What one piece of an answer becomes; calls of tools are read out of it."""
        pieces: list[str | ToolCallChunk | GeneratedAnswer] = [piece]
        if stream and isinstance(piece, str):
            pieces = [*stream.feed(piece)]
        elif stream and isinstance(piece, GeneratedAnswer):
            pieces = [*stream.end(piece.finish_reason), piece]
        for each in pieces:
            message = answer_piece(each, self._model_name, usage=usage)
            yield ChatGenerationChunk(message=message)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the model call tools; what calls them is up to the caller.

        Args:
            tools: Functions with types and a docstring, LangChain tools, Pydantic models, or
                dictionaries in OpenAI's form.
            tool_choice: "auto" or None: words or calls, as the model likes; "any" or True: one of
                the tools; a name: that one; "none": words.
            kwargs: `parallel_tool_calls` says whether there may be several calls in an answer:
                unless it is given, only where no call is forced. And what `bind` takes.

        Raises:
            ParameterError: A tool cannot be described, or its arguments cannot be held to.
        """
        described = described_tools(tools)
        choice = tool_choice_of(tool_choice, [tool["function"]["name"] for tool in described])
        bound = {"tools": described, "tool_choice": choice, **kwargs}
        self._asked(bound)  # now, not when the first question comes
        return super(ChatHuggingFace, self).bind(**bound)

    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: str = "json_schema",
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Let every answer be a value of a schema: the form is always right, what it says may not.

        Args:
            schema: A Pydantic model, a TypedDict or a JSON schema. A string without a maxLength has
                at most 500 characters.
            method: "json_schema": the model is told of the schema and held to it; "json_mode": it
                is held to the schema, or to any JSON object, and your prompt asks for it;
                "function_calling": the value is the arguments of a tool.
            include_raw: Give a dictionary with "raw", "parsed" and "parsing_error".
            kwargs: `strict`, which changes nothing: all are.

        Raises:
            ParameterError: No answer can be held to the schema.
        """
        for name in kwargs.keys() - {"strict"}:
            raise unknown_option(name, frozenset({"method", "include_raw", "strict"}))
        return structured(self, schema, method, include_raw)
