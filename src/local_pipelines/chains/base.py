"""What LangChain sees of a model on this machine, the same for every engine that runs one.

An engine subclasses `LocalLLM` and gives four things: a run of a list of prompts (`_run_of`), the
object whose calls have to queue (`_engine`), its chat template, and its tokens.
"""

from __future__ import annotations

import os
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from pydantic import ConfigDict, PrivateAttr

from local_pipelines.chains.chat_template import render_chat_template
from local_pipelines.engines.options import (
    GENERATION_OPTIONS,
    check_generation_options,
    check_no_token,
    unknown_option,
)
from local_pipelines.engines.prompts import check_text, refuse_bytes
from local_pipelines.engines.report import BatchReport, Interrupted
from local_pipelines.engines.request import GeneratedAnswer, GenerationRequest, token_figures
from local_pipelines.engines.stopping import checked_stop
from local_pipelines.engines.turns import Emit, Finished, Job, Turns, turns_of
from local_pipelines.errors import LocalPipelinesError, failure
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import checked_size, whole_number
from local_pipelines.workbench.progress import progress_bar

# What LangChain hands over, and often not.
Stop = list[str] | None
Manager = CallbackManagerForLLMRun | None
AsyncManager = AsyncCallbackManagerForLLMRun | None
Configs = RunnableConfig | list[RunnableConfig] | None
Inputs = list[LanguageModelInput]


_CALL_OPTIONS = frozenset(
    {"pipeline_kwargs", "skip_prompt", "batch_size", "progress", "templated", "grammar"}
)
# What `generate` takes and what does not change an answer.
_IDLE = frozenset({"tags", "metadata", "run_name", "run_id", "batch_size", "progress"})

# The model that LangChain has called in this thread or task, and the options of that call.
_call: ContextVar[tuple[LocalLLM | None, dict[str, Any]]] = ContextVar(
    "local_pipelines_call", default=(None, {})
)


class LocalLLM(BaseLLM):
    """A language model on this machine, as LangChain expects one.

    Args:
        batch_size: How many prompts to run at a time.
        progress: Show a progress bar while several prompts are answered.
        backend: What computes, "torch", "openvino" or "genai", if `load_llm` has chosen it.
        reason: One sentence: why `load_llm` has chosen that.
        weight_format: Precision of the weights, "fp32", "int8" or "int4", where it is known.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # an input may be a token

    batch_size: int = 4
    progress: bool = False
    backend: str = ""
    reason: str = ""
    weight_format: str = ""

    _last_batch: BatchReport | None = PrivateAttr(default=None)
    _process: int = PrivateAttr(default_factory=os.getpid)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._process = os.getpid()  # it belongs to the process that has unpickled it

    @property
    def last_batch(self) -> BatchReport | None:
        """How the last call was computed: sizes of batches, halvings, seconds; None before it."""
        return self._last_batch

    def _run_of(self, request: GenerationRequest) -> Any:
        """One request to the engine, which can be tokenized and answered, and has a report."""
        raise NotImplementedError

    def _answers_of(self, run: Any) -> list[GeneratedAnswer]:
        answers: list[GeneratedAnswer] = run.answers()
        return answers

    def _answer(self, request: GenerationRequest) -> list[GeneratedAnswer]:
        """Answer all prompts of a request, in their order."""
        run = self._run_of(request)
        try:
            return self._answers_of(run)
        finally:
            self._last_batch = run.report or self._last_batch  # of a call that failed too

    def _check_prompts(self, prompts: list[str], *, templated: bool = False) -> None:
        """Raise ParameterError if one of the prompts cannot be answered."""
        self._run_of(GenerationRequest(prompts=prompts, templated=templated)).tokenize()

    @property
    @abstractmethod
    def _engine(self) -> object:
        """The object that computes; calls of everything that holds the same one queue up."""

    @property
    @abstractmethod
    def _model_name(self) -> str:
        """What traces and metadata call the model."""

    @property
    @abstractmethod
    def chat_template(self) -> str | None:
        """The model's chat template; None if it has none."""

    def _token_names(self) -> Mapping[str, Any]:
        """What a template calls the special tokens: "bos_token" and the like."""
        return {}

    def apply_chat_template(
        self, messages: list[dict[str, Any]], *, template: str | None = None, **kwargs: Any
    ) -> str:
        """Write messages as the text that the model was trained on.

        Args:
            messages: Dictionaries with "role" and "content".
            template: Used in place of the model's own template.
            kwargs: More variables for the template, such as `tools`.
        """
        chosen = template or self.chat_template
        if chosen is None:
            raise failure("no-template-to-apply", model_id=self._model_name)
        return render_chat_template(chosen, messages, self._token_names(), **kwargs)

    @abstractmethod
    def _token_ids(self, text: str, *, special: bool) -> list[int]:
        """The numbers of a text's tokens, with what the tokenizer puts around it or without."""

    def _special_tokens(self) -> dict[str, int]:
        """The tokens that stand for no text, such as the end of a turn, by their names."""
        return {}

    def _echoes(self, request: GenerationRequest) -> bool:
        """Whether answers begin with the prompt."""
        return bool(request.echo)

    def answers(self, prompts: list[str], stop: Any = None, **kwargs: Any) -> list[GeneratedAnswer]:
        """Answer prompts, in their order."""
        request = self._request(prompts, stop, kwargs)
        with self._turns().held():
            return self._run(request)

    async def aanswers(
        self, prompts: list[str], stop: Any = None, **kwargs: Any
    ) -> list[GeneratedAnswer]:
        """Do the same without blocking the event loop; cancelling the task ends it."""
        request = self._request(prompts, stop, kwargs)
        async with aclosing(self._turns().astream(self._job(request))) as events:
            (answers,) = [event.value async for event in events if isinstance(event, Finished)]
        return answers

    def pieces(
        self, prompt: str, stop: Any = None, **kwargs: Any
    ) -> Generator[str | GeneratedAnswer, None, None]:
        """Give an answer's text as it comes, and the whole at the end; closing this ends it."""
        request = self._request([prompt], stop, kwargs, streamed=True)
        with closing(self._turns().stream(self._job(request))) as events:
            for event in events:
                yield event.value[0] if isinstance(event, Finished) else event

    async def apieces(
        self, prompt: str, stop: Any = None, **kwargs: Any
    ) -> AsyncGenerator[str | GeneratedAnswer, None]:
        """Do the same without blocking the event loop."""
        request = self._request([prompt], stop, kwargs, streamed=True)
        async with aclosing(self._turns().astream(self._job(request))) as events:
            async for event in events:
                yield event.value[0] if isinstance(event, Finished) else event

    def _job(self, request: GenerationRequest) -> Job[list[GeneratedAnswer]]:
        def job(emit: Emit, stopped: threading.Event) -> list[GeneratedAnswer]:
            request.stopped = stopped
            if request.emit is not None:
                request.emit = emit
            return self._run(request)

        return job

    def _run(self, request: GenerationRequest) -> list[GeneratedAnswer]:
        echo = self._echoes(request)
        if echo:
            request.show("".join(request.prompts[:1]))
        total = len(request.prompts)
        with progress_bar(total, "prompt") if request.progress else nullcontext() as bar:
            request.advance = bar.update if bar else request.advance
            answers = self._explained(request)
        if not echo:
            return answers
        pairs = zip(request.prompts, answers, strict=True)
        return [replace(answer, text=prompt + answer.text) for prompt, answer in pairs]

    def _explained(self, request: GenerationRequest) -> list[GeneratedAnswer]:
        """Answer; say, when somebody stops a batch, where the answers are that there are."""
        before = self._last_batch
        try:
            return self._answer(request)
        except KeyboardInterrupt as error:
            report = self._last_batch
            if report is None or report is before or len(request.prompts) == 1:
                raise
            told = tr(
                "Stopped: {done} of {total} prompts have an answer, in last_batch.answers. "
                "answer_file keeps answers in a file as they come, and goes on after a stop."
            )
            raise Interrupted(told.format(done=report.answered, total=report.prompts)) from error

    def _request(
        self, prompts: list[str], stop: Any, kwargs: dict[str, Any], *, streamed: bool = False
    ) -> GenerationRequest:
        if self._process != os.getpid():
            raise failure("another-process")
        options = dict(kwargs.get("pipeline_kwargs") or {})
        options |= {name: value for name, value in kwargs.items() if name not in _CALL_OPTIONS}
        for name in sorted(set(kwargs) - _CALL_OPTIONS - GENERATION_OPTIONS):
            raise unknown_option(name, GENERATION_OPTIONS | _CALL_OPTIONS | {"stop"})
        check_generation_options(options)
        strings = checked_stop(stop) + checked_stop(options.pop("stop_strings", None))
        for prompt in prompts:
            check_text(prompt)
        skip = kwargs.get("skip_prompt")
        return GenerationRequest(
            prompts=prompts,
            stop=strings,
            options=options,
            batch_size=self._batch_size(kwargs),
            templated=bool(kwargs.get("templated")),
            grammar=kwargs.get("grammar"),
            echo=None if skip is None else not skip,
            progress=bool(kwargs.get("progress", self.progress)) and not streamed,
            emit=(lambda _: None) if streamed else None,
        )

    def _batch_size(self, kwargs: dict[str, Any]) -> int:
        size = kwargs.get("batch_size")
        return checked_size(self.batch_size if size is None else size)

    def _turns(self) -> Turns:
        return turns_of(self._engine)

    def get_token_ids(self, text: str) -> list[int]:
        """Give the numbers of a prompt's tokens, by the model's own tokenizer."""
        check_text(text)
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self._token_ids(text, special=True)

    def generate(
        self, prompts: list[str], stop: Stop = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """Answer prompts; LangChain's cache keeps answers to other options apart."""
        with _called_with(self, kwargs):
            return super().generate(prompts, stop, callbacks, **kwargs)

    async def agenerate(
        self, prompts: list[str], stop: Stop = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        """Do the same without blocking the event loop."""
        with _called_with(self, kwargs):
            return await super().agenerate(prompts, stop, callbacks, **kwargs)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        # LangChain forgets a call's options in the key of its cache, and a text of three tokens
        # would be the answer to whoever wants thirty.
        owner, options = _call.get()
        call = {"call_options": options} if owner is self and options else {}
        return {**super()._identifying_params, **call}

    def _generate(
        self, prompts: list[str], stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> LLMResult:
        start = time.perf_counter()
        return self._result(self.answers(prompts, stop, **kwargs), start)

    async def _agenerate(
        self, prompts: list[str], stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> LLMResult:
        start = time.perf_counter()
        return self._result(await self.aanswers(prompts, stop, **kwargs), start)

    def _stream(
        self, prompt: str, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> Iterator[GenerationChunk]:
        with closing(self.pieces(prompt, stop, **kwargs)) as pieces:
            for piece in pieces:
                chunk = _chunk(piece)
                if run_manager and chunk.text:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self, prompt: str, stop: Stop = None, run_manager: AsyncManager = None, **kwargs: Any
    ) -> AsyncIterator[GenerationChunk]:
        async with aclosing(self.apieces(prompt, stop, **kwargs)) as pieces:
            async for piece in pieces:
                chunk = _chunk(piece)
                if run_manager and chunk.text:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: Stop = None,
        **kwargs: Any,
    ) -> Iterator[str]:
        """Give the answer's text as it comes; no piece is empty."""
        check_no_token(kwargs)  # LangChain shows them to callbacks before it asks us
        # The last chunk has the figures and no text: callbacks want it, readers do not.
        with closing(super().stream(input, config, stop=stop, **kwargs)) as texts:  # type: ignore[type-var]
            yield from filter(None, texts)

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        *,
        stop: Stop = None,
        **kwargs: Any,
    ) -> AsyncIterator[str]:
        """Give the answer's text as it comes, without blocking the event loop."""
        check_no_token(kwargs)
        async with aclosing(super().astream(input, config, stop=stop, **kwargs)) as texts:  # type: ignore[type-var]
            async for text in texts:
                if text:
                    yield text

    def batch(
        self,
        inputs: Inputs,
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer many prompts, `batch_size` at a time.

        Args:
            inputs: The prompts.
            config: LangChain's configuration; `max_concurrency` limits what runs at a time.
            return_exceptions: Give an error in the place of an answer instead of raising it. A
                prompt that cannot be answered does not keep the others from being answered.
            kwargs: What `invoke` takes.
        """
        outputs: dict[int, str] = {}
        for places, arguments in self._plan(inputs, config, return_exceptions, kwargs):
            outputs.update(zip(places, super().batch(**arguments), strict=True))
        return [outputs[place] for place in range(len(inputs))]

    async def abatch(
        self,
        inputs: Inputs,
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Do the same without blocking the event loop."""
        outputs: dict[int, str] = {}
        for places, arguments in self._plan(inputs, config, return_exceptions, kwargs):
            outputs.update(zip(places, await super().abatch(**arguments), strict=True))
        return [outputs[place] for place in range(len(inputs))]

    def _plan(
        self, inputs: Inputs, config: Configs, return_exceptions: bool, kwargs: dict[str, Any]
    ) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """The calls that a batch is made of: the places of their prompts, and their arguments."""
        # LangChain would make a call of its own for every `max_concurrency` prompts. Here it limits
        # the rows of a batch, so that one call has all answers, also when it is stopped.
        configs = get_config_list(config, len(inputs))
        most = configs[0].get("max_concurrency") if configs else None
        if most is not None:
            most = whole_number("max_concurrency", most)
            kwargs = {**kwargs, "batch_size": min(self._batch_size(kwargs), most)}
        places = self._groups(inputs, kwargs) if return_exceptions else [list(range(len(inputs)))]
        for group in places:
            arguments = {
                "inputs": [inputs[place] for place in group],
                "config": [{**configs[place], "max_concurrency": None} for place in group],
                "return_exceptions": return_exceptions,
            }
            yield group, arguments | kwargs

    def _groups(self, inputs: Inputs, kwargs: dict[str, Any]) -> list[list[int]]:
        """The inputs that can be answered together, then each of the others alone."""
        places = list(range(len(inputs)))
        if self._is_answerable(inputs, kwargs):  # tokenized once, not one by one
            return [places]
        good = [place for place in places if self._is_answerable([inputs[place]], kwargs)]
        return [good] * bool(good) + [[place] for place in sorted({*places} - {*good})]

    def _is_answerable(self, inputs: Inputs, kwargs: dict[str, Any]) -> bool:
        try:
            prompts = [self._convert_input(each).to_string() for each in inputs]
            for prompt in prompts:
                check_text(prompt)
            self._check_prompts(prompts, templated=bool(kwargs.get("templated")))
        except (LocalPipelinesError, ValueError):
            return False
        return True

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        refuse_bytes(model_input)
        return super()._convert_input(model_input)

    def _result(self, answers: list[GeneratedAnswer], start: float) -> LLMResult:
        read = sum(answer.input_tokens for answer in answers)
        written = sum(answer.output_tokens for answer in answers)
        usage = token_figures(read, written, time.perf_counter() - start)
        return LLMResult(
            generations=[[Generation(text=a.text, generation_info=a.info())] for a in answers],
            llm_output={"model_name": self._model_name, "token_usage": usage},
        )


@contextmanager
def _called_with(llm: LocalLLM, kwargs: dict[str, Any]) -> Iterator[None]:
    options = {name: kwargs[name] for name in sorted(set(kwargs) - _IDLE)}
    check_no_token(options)  # LangChain shows them to callbacks before it asks us
    # And writes them into its cache's key, which some numbers are too long for.
    check_generation_options({n: v for n, v in options.items() if n in GENERATION_OPTIONS})
    token = _call.set((llm, options))
    try:
        yield
    finally:
        _call.reset(token)


def _chunk(piece: str | GeneratedAnswer) -> GenerationChunk:
    if isinstance(piece, str):
        return GenerationChunk(text=piece)
    return GenerationChunk(text="", generation_info=piece.info())
