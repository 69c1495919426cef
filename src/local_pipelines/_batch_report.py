"""What `last_batch` tells: how a call's prompts were really computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from local_pipelines._messages import ntr

__all__ = ["BatchReport"]

Engine = Literal["static", "continuous"]


@dataclass(frozen=True, repr=False)
class BatchReport:
    """How the last call of a model went.

    Attributes:
        prompts: How many prompts there were.
        requested: The `batch_size` that was asked for.
        sizes: The rows of each static batch that was computed to its end, in the order they ran.
        halvings: How often the batch was halved because memory ran out.
        engine: "static" for batches that end with their last row, "continuous" for batches in
            which the next prompt takes the place of one that is done.
        reason: Why continuous batching was used or given up; empty where it was no question.
        seconds: How long it took.
        input_tokens: Tokens of all prompts.
        output_tokens: Tokens of all answers.
    """

    prompts: int
    requested: int
    sizes: tuple[int, ...] = ()
    halvings: int = 0
    engine: Engine = "static"
    reason: str = ""
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of the answers, for each second."""
        return self.output_tokens / self.seconds if self.seconds > 0 else 0.0

    def __repr__(self) -> str:
        return "\n".join(filter(None, (self._batches(), self._halved(), self.reason)))

    def _batches(self) -> str:
        if self.engine == "continuous" and not self.sizes:
            return self._continuous()
        form = ntr(
            "{number} prompt with batch_size={size}, computed in batches of {sizes}.",
            "{number} prompts with batch_size={size}, computed in batches of {sizes}.",
            self.prompts,
        )
        sizes = ", ".join(self._runs()) or "0"
        return form.format(number=self.prompts, size=self.requested, sizes=sizes)

    def _continuous(self) -> str:
        form = ntr(
            "{number} prompt with batch_size={size}, in continuous batching.",
            "{number} prompts with batch_size={size}, in continuous batching: when one was done,"
            " the next took its place.",
            self.prompts,
        )
        return form.format(number=self.prompts, size=self.requested)

    def _halved(self) -> str:
        form = ntr(
            "Memory ran out, so the batch was halved once.",
            "Memory ran out, so the batch was halved {number} times.",
            self.halvings,
        )
        return form.format(number=self.halvings) if self.halvings else ""

    def _runs(self) -> Iterator[str]:
        for size, group in groupby(self.sizes):
            count = len(list(group))
            yield f"{size}" if count == 1 else f"{count} × {size}"
