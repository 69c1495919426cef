"""A conversation with any chain of LangChain: what it is given, what it said, and stopping it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_origin

from local_pipelines.errors import LocalPipelinesError, ParameterError, failure
from local_pipelines.wording.messages import tr

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.prompts import BasePromptTemplate
    from langchain_core.runnables import Runnable


@dataclass(eq=False)
class Turn:
    """A question and what became of it."""

    question: str
    answer: str = ""  # what has been answered up to now
    state: str = "running"  # then "done", "stopped" or "failed"
    error: str = ""  # what went wrong, in a sentence or two
    halt: threading.Event = field(default_factory=threading.Event)  # set, it ends the answer


class Conversation:
    """Asks a chain, remembers, and lets itself be stopped; safe to use from several threads."""

    def __init__(self, chain: Any) -> None:
        from langchain_core.runnables.base import coerce_to_runnable

        try:
            self._chain: Runnable[Any, Any] = coerce_to_runnable(chain)
        except TypeError:
            raise failure("no-chain", kind=type(chain).__name__) from None
        self.remembers, self._pack = _input_of(self._chain)
        self.turns: list[Turn] = []
        self._lock = threading.Lock()

    @property
    def running(self) -> Turn | None:
        """The turn that is being answered, if one is."""
        return next((turn for turn in list(self.turns) if turn.state == "running"), None)

    def messages(self) -> list[BaseMessage]:
        """What has been said, as messages; questions without an answer are left out."""
        with self._lock:
            return _messages(self.turns)

    def begin(self, question: str) -> Turn:
        """Note a question down, unless the last one is being answered; `answer` does the rest."""
        if not isinstance(question, str) or not question.strip():
            raise failure("no-question", question=question)
        with self._lock:
            if self.running:
                raise failure("question-running")
            turn = Turn(_clean(question.strip()))
            self.turns.append(turn)
        return turn

    def answer(self, turn: Turn) -> None:
        """Have the chain answer, and write down piece by piece what comes, errors included."""
        try:
            self._stream(turn)
        except Exception as error:
            turn.error, turn.state = first_sentence(error), "failed"
            raise
        finally:  # Ctrl-C comes here too
            if turn.state == "running":
                turn.state = "stopped"

    def _stream(self, turn: Turn) -> None:
        with self._lock:
            past = [each for each in self.turns if each is not turn]
        brake = _brake(turn.halt)
        stream = self._chain.stream(self._pack(past, turn.question), config={"callbacks": [brake]})
        try:
            for piece in stream:
                if not turn.halt.is_set():
                    text = getattr(piece, "text", piece)  # of a message, of text, or an object
                    turn.answer += _clean(str(text if isinstance(text, str) else piece))
                elif not brake.has_model:
                    return
            turn.state = "done"
        except _Halted:
            pass
        finally:
            turn.halt.set()  # after Ctrl-C: closing may read on, see _brake
            with suppress(AttributeError, _Halted):  # some chains give a mere iterator
                stream.close()  # type: ignore[attr-defined]

    def halt(self) -> None:
        """End the running answer, at the model's next token; what is there is kept."""
        if turn := self.running:
            turn.halt.set()

    def clear(self) -> None:
        """End the running answer and forget everything."""
        with self._lock:
            for turn in self.turns:
                turn.halt.set()
            self.turns = []


class _Halted(BaseException):  # an Exception would be logged, and the chain might try again
    """The answer is to end; raised in the chain, where the model gives its next token."""


def _brake(halt: threading.Event) -> Any:
    """Make what stops a model inside of a chain.

    Closing the stream of `model | parser` does not: LangChain's parsers then read on to the end of
    what the model writes (`Runnable._transform_stream_with_config`). A callback that raises does,
    through any number of steps.
    """
    from langchain_core.callbacks import BaseCallbackHandler

    class Handler(BaseCallbackHandler):
        has_model = False

        def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
            self.has_model = True
            if halt.is_set():
                raise _Halted

    return Handler()


def first_sentence(error: BaseException) -> str:
    """Say in short what went wrong: our own sentences, of other errors the first line."""
    if isinstance(error, LocalPipelinesError):
        return str(error)
    lines = str(error).strip().splitlines()
    return _clean(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)


def _clean(text: str) -> str:
    """Text that can be sent: half of a surrogate pair cannot."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


_Pack = Callable[[Sequence[Turn], str], Any]


def _input_of(chain: Runnable[Any, Any]) -> tuple[bool, _Pack]:
    """Whether a chain takes the whole conversation, and how to make its input."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.prompts import BasePromptTemplate

    first = _first_step(chain)
    if isinstance(first, BasePromptTemplate):
        return _input_of_prompt(first)
    if isinstance(first, BaseChatModel) or _takes_list(first):
        return True, _messages
    return False, lambda past, question: question


def _first_step(chain: Any) -> Any:
    """What of a chain takes the input: the first step, without what is wrapped around it."""
    from langchain_core.runnables import RunnableSequence, RunnableWithFallbacks
    from langchain_core.runnables.base import RunnableBindingBase

    while True:
        match chain:
            case RunnableSequence():
                chain = chain.first
            case RunnableBindingBase():
                chain = chain.bound
            case RunnableWithFallbacks():
                chain = chain.runnable
            case _:
                return chain


def _takes_list(step: Any) -> bool:
    """Whether a function says that it takes a list, in its annotation."""
    kind = None
    with suppress(Exception):  # some steps have no input type, and say so in ways of their own
        kind = step.InputType
    if isinstance(kind, str):  # from __future__ import annotations
        return re.match(r"([a-z.]*\.)?([Ll]ist|Sequence)\b", kind) is not None
    return kind is list or get_origin(kind) in {list, Sequence}


def _input_of_prompt(prompt: BasePromptTemplate[Any]) -> tuple[bool, _Pack]:
    known = prompt.input_types
    names = [*prompt.input_variables, *prompt.optional_variables]
    histories = [name for name in names if get_origin(known.get(name)) is list]
    texts = [name for name in names if name not in histories]
    match histories, texts:
        case [], [text]:
            return False, lambda past, question: {text: question}
        case [history], []:
            return True, lambda past, question: {history: _messages(past, question)}
        case [history], [text]:
            return True, lambda past, question: {history: _messages(past), text: question}
    raise ParameterError(
        tr("The chain's prompt asks for {names}.").format(names=", ".join(names) or tr("nothing")),
        tr("A conversation gives it one text, one list of messages, or one of each."),
        tr("Fill in the others before: prompt.partial(name=value).")
        if names
        else tr("Put the question into it: {question}."),
    )


def _messages(turns: Sequence[Turn], question: str = "") -> list[BaseMessage]:
    from langchain_core.messages import AIMessage, HumanMessage

    # Models want questions and answers in turn: one that has no answer is not passed on.
    said: list[BaseMessage] = [
        message
        for turn in turns
        if turn.answer and turn.state in {"done", "stopped"}
        for message in (HumanMessage(turn.question), AIMessage(turn.answer))
    ]
    return [*said, HumanMessage(question)] if question else said
