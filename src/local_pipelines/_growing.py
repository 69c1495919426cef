"""One answer while it is being generated: tokens in, safe text out, until something ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from local_pipelines._decoding import Decode, TokenText
from local_pipelines._stopping import StopScanner, StopStrings

__all__ = ["Ends", "GrowingAnswer", "Reason"]

Reason = Literal["", "stop", "eos"]
"""Why an answer has ended; empty while it has not."""


@dataclass(frozen=True)
class Ends:
    """What ends an answer.

    Args:
        strings: Stop strings, found in the text.
        stop_tokens: Stop strings that are special tokens: no text shows them.
        end_tokens: Tokens with which the model itself ends a text.
    """

    strings: StopStrings = field(default_factory=lambda: StopStrings(()))
    stop_tokens: frozenset[int] = frozenset()
    end_tokens: frozenset[int] = frozenset()

    def first(self, tokens: Sequence[int]) -> tuple[int, Reason]:
        """How many tokens there are up to the first that ends the answer, and why it does."""
        for count, token in enumerate(tokens, 1):
            if token in self.stop_tokens:
                return count, "stop"
            if token in self.end_tokens:
                return count, "eos"
        return len(tokens), ""

    def cut(self, text: str) -> tuple[str, bool]:
        """Cut a whole text before the first stop string, and say whether there was one."""
        scanner = StopScanner(self.strings)
        safe = scanner.feed(text)
        return safe + scanner.flush(), scanner.stopped


class GrowingAnswer:
    """An answer that grows token by token.

    Args:
        prompt: The tokens of its prompt.
        decode: Decodes lists of token ids.
        ends: What ends it.
    """

    def __init__(self, prompt: Sequence[int], decode: Decode, ends: Ends) -> None:
        self.reason: Reason = ""
        self.count = 0
        self._ends = ends
        self._decode = decode
        self._text = TokenText(prompt, decode)
        self._scanner = StopScanner(ends.strings)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The text so far, as far as it is safe."""
        return "".join(self._pieces)

    def push(self, tokens: Sequence[int]) -> list[int]:
        """Add tokens and give those that have to be decoded for `take`."""
        count, self.reason = self._ends.first(tokens)
        self.count += count
        return self._text.push(tokens[:count])

    def take(self, decoded: str, *, last: bool = False) -> str:
        """Take the decoded tokens and give the new text that is safe to show.

        Args:
            decoded: The text of the tokens that `push` gave.
            last: Nothing follows.
        """
        last = last or bool(self.reason)
        safe = self._scanner.feed(self._text.take(decoded, last=last))
        if self._scanner.stopped:
            self.reason = "stop"
        elif last:
            safe += self._scanner.flush()
        if safe:
            self._pieces.append(safe)
        return safe

    def finish(self) -> str:
        """Give what was held back; no token follows."""
        return "" if self.reason else self.take(self._decode([self._text.window])[0], last=True)
