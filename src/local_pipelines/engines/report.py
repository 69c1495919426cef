"""What `last_batch` tells: how a call's prompts were really computed, and what they gave."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from local_pipelines.engines.growing import EndedAnswer
from local_pipelines.engines.request import GeneratedAnswer, GenerationRequest, tokens_per_second
from local_pipelines.engines.stopping import warn_of_empty_answer
from local_pipelines.wording.messages import ntr, tr

Engine = Literal["static", "continuous"]


class Interrupted(KeyboardInterrupt):
    """Somebody stopped a long call. In a notebook it shows as its sentence."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True, repr=False)
class BatchReport:
    """How the last call of a model went.

    Attributes:
        prompts: How many prompts there were.
        requested: The `batch_size` that was asked for.
        answers: The text of each answer, in the prompts' order; None where there is none, because
            the call was interrupted or failed.
        sizes: The rows of each static batch that was computed to its end, in the order they ran.
        halvings: How often the batch was halved because memory ran out.
        engine: "static" for batches that end with their last row, "continuous" for batches in
            which the next prompt takes the place of one that is done.
        reason: Why continuous batching was not used although it was asked for; else empty.
        seconds: How long it took.
        input_tokens: Tokens of all prompts that were answered.
        output_tokens: Tokens of all answers.
    """

    prompts: int
    requested: int
    answers: tuple[str | None, ...] = ()
    sizes: tuple[int, ...] = ()
    halvings: int = 0
    engine: Engine = "static"
    reason: str = ""
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def answered(self) -> int:
        """How many prompts have an answer."""
        return sum(answer is not None for answer in self.answers)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the answers, for each second."""
        return tokens_per_second(self.output_tokens, self.seconds)

    def __repr__(self) -> str:
        lines = [self._batches()]
        if self.halvings:
            form = ntr(
                "Memory ran out, so the batch was halved once.",
                "Memory ran out, so the batch was halved {number} times.",
                self.halvings,
            )
            lines.append(form.format(number=self.halvings))
        if self.answered < self.prompts:
            form = tr("It ended early: {number} of {total} prompts have an answer.")
            lines.append(form.format(number=self.answered, total=self.prompts))
        return "\n".join(filter(None, [*lines, self.reason]))

    def _batches(self) -> str:
        counted = [(size, len(list(group))) for size, group in groupby(self.sizes)]
        runs = [f"{size}" if count == 1 else f"{count} × {size}" for size, count in counted]
        if self.engine == "continuous":
            form = ntr(
                "{number} prompt with batch_size={size}, in continuous batching.",
                "{number} prompts with batch_size={size}, in continuous batching: when one was"
                " done, the next took its place.",
                self.answered,
            )
        else:
            form = ntr(
                "{number} prompt with batch_size={size}, computed in batches of {sizes}.",
                "{number} prompts with batch_size={size}, computed in batches of {sizes}.",
                self.answered,
            )
        sizes = ", ".join(runs) or "0"
        return form.format(number=self.answered, size=self.requested, sizes=sizes)


class AnswerCollector:
    """The answers to one request, by the places of their prompts."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._answers: dict[int, GeneratedAnswer] = {}
        self._start = time.perf_counter()

    def __contains__(self, index: int) -> bool:
        return index in self._answers

    def keep(self, index: int, ids: Sequence[int], ended: EndedAnswer, seconds: float) -> None:
        """Keep the answer to the prompt with this place and these tokens."""
        self._answers[index] = GeneratedAnswer(
            ended.text, len(ids), ended.count, seconds, ended.reason or "length", ended.stopped_at
        )
        if ended.stopped_at and not ended.text.strip():
            warn_of_empty_answer()

    def in_order(self) -> list[GeneratedAnswer]:
        """All answers in the prompts' order; empty ones if nobody waits for them any more."""
        nothing = GeneratedAnswer("", 0, 0, 0.0, "stop")
        return [self._answers.get(i, nothing) for i in range(len(self._request.prompts))]

    def report(self, **facts: Any) -> BatchReport:
        """Say how the call went; `facts` are what only the engine knows."""
        places = range(len(self._request.prompts))
        texts = [self._answers[i].text if i in self else None for i in places]
        answers = self._answers.values()
        return BatchReport(
            prompts=len(texts),
            requested=self._request.batch_size,
            answers=tuple(texts),
            seconds=time.perf_counter() - self._start,
            input_tokens=sum(answer.input_tokens for answer in answers),
            output_tokens=sum(answer.output_tokens for answer in answers),
            **facts,
        )
