"""What an engine is asked for and what it gives back. No LangChain here, and no engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from local_pipelines.engines.grammar import Grammar
from local_pipelines.engines.turns import Emit

FinishReason = Literal["stop", "length", "eos"]


def tokens_per_second(tokens: int, seconds: float) -> float:
    """Tokens for each second; 0 where no time has passed.

    >>> tokens_per_second(96, 1.5), tokens_per_second(5, 0.0)
    (64.0, 0.0)
    """
    return tokens / seconds if seconds > 0 else 0.0


def token_figures(read: int, written: int, seconds: float) -> dict[str, Any]:
    """What an answer, or several, cost: tokens and time."""
    return {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "seconds": seconds,
        "tokens_per_second": tokens_per_second(written, seconds),
    }


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """One answer and what it cost."""

    text: str  # without the prompt and without the stop string
    input_tokens: int
    output_tokens: int  # the last one included even if no text shows it
    seconds: float  # the same for all answers of one batch
    finish_reason: FinishReason  # "length" the limit, "eos" the model's own end
    stopped_at: str = ""  # the stop string that ended it

    def info(self) -> dict[str, Any]:
        """What LangChain keeps as `generation_info`."""
        figures = token_figures(self.input_tokens, self.output_tokens, self.seconds)
        ended = {"stopped_at": self.stopped_at} if self.stopped_at else {}
        return {"finish_reason": self.finish_reason} | figures | ended


@dataclass(kw_only=True)
class GenerationRequest:
    """What an engine is asked to do, already checked."""

    prompts: list[str]
    stop: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)  # by transformers' names
    batch_size: int = 1
    templated: bool = False  # out of a chat template: no special tokens are to be added
    grammar: Grammar | None = None  # what every answer has to look like
    echo: bool | None = None  # begin with the prompt; None leaves it to the engine's configuration
    progress: bool = False
    emit: Emit | None = None  # takes the text of the only prompt as it comes
    stopped: threading.Event = field(default_factory=threading.Event)  # nobody waits any more
    advance: Callable[[int], object] = lambda _: None  # is told how many more prompts are done

    def show(self, text: str) -> None:
        """Give new text to whoever reads it as it comes."""
        if text and self.emit is not None:
            self.emit(text)
