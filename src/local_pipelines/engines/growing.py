"""One answer while it is being generated: tokens in, safe text out, until something ends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from local_pipelines.engines.decoding import CONTEXT, Decode, TokenText
from local_pipelines.engines.stopping import StopScanner, find_stop

Reason = Literal["", "stop", "eos"]
"""Why an answer has ended; empty while it has not, and where the limit has ended it."""


@dataclass(frozen=True, slots=True)
class EndedAnswer:
    """The text of an answer, its number of tokens, why it has ended, and at which stop string."""

    text: str
    count: int
    reason: Reason
    stopped_at: str = ""


@dataclass(frozen=True)
class Ends:
    """What ends an answer."""

    strings: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()  # stop strings that no text shows: special tokens
    end_tokens: frozenset[int] = frozenset()  # with which the model itself ends a text
    names: Mapping[int, str] = field(default_factory=dict, compare=False)  # of the stop tokens

    @classmethod
    def of(
        cls, stop: Iterable[str], special_tokens: Mapping[str, int], end_tokens: Iterable[int]
    ) -> Ends:
        r"""Tell stop strings that are special tokens from the others.

        >>> Ends.of(["\n", "<|end|>"], {"<|end|>": 7}, [0]).stop_tokens
        frozenset({7})
        """
        strings = tuple(sorted(set(stop)))
        names = {special_tokens[each]: each for each in strings if each in special_tokens}
        return cls(strings, frozenset(names), frozenset(end_tokens), names)

    def first_end(self, tokens: Sequence[int]) -> tuple[int, Reason]:
        """How many tokens there are up to the first that ends the answer, and why it does.

        >>> Ends(end_tokens=frozenset({0})).first_end([5, 6, 0, 7])
        (3, 'eos')
        """
        for count, token in enumerate(tokens, 1):
            if token in self.stop_tokens:
                return count, "stop"
            if token in self.end_tokens:
                return count, "eos"
        return len(tokens), ""


def ended_answers(
    prompts: Sequence[list[int]], tokens: Sequence[list[int]], decode: Decode, ends: Ends
) -> list[EndedAnswer]:
    """Cut answers that nobody followed as they grew where something ends them."""
    firsts = [ends.first_end(row) for row in tokens]
    before = [ids[-CONTEXT:] for ids in prompts]
    wholes = [b + row[:n] for b, row, (n, _) in zip(before, tokens, firsts, strict=True)]
    ended = []
    texts = zip(decode(before), decode(wholes), tokens, firsts, strict=True)
    for head, whole, row, (count, reason) in texts:
        text = whole[len(head) :]
        if found := find_stop(text, ends.strings):
            ended.append(EndedAnswer(text[: found[0]], count, "stop", found[1]))
        else:
            stopped_at = ends.names.get(row[count - 1], "") if reason else ""
            ended.append(EndedAnswer(text, count, reason, stopped_at))
    return ended


class GrowingAnswer:
    """An answer that grows token by token, behind the tokens of its prompt."""

    def __init__(self, prompt: Sequence[int], decode: Decode, ends: Ends) -> None:
        self.reason: Reason = ""
        self.stopped_at = ""
        self.count = 0
        self._ends = ends
        self._decode = decode
        self._text = TokenText(prompt, decode)
        self._scanner = StopScanner(ends.strings)
        self._pieces: list[str] = []

    @property
    def ended(self) -> EndedAnswer:
        """The answer as it stands, with the text that is safe."""
        return EndedAnswer("".join(self._pieces), self.count, self.reason, self.stopped_at)

    def push(self, tokens: Sequence[int]) -> list[int]:
        """Add tokens and give those that have to be decoded for `grow`."""
        count, self.reason = self._ends.first_end(tokens)
        self.count += count
        if self.reason:
            self.stopped_at = self._ends.names.get(tokens[count - 1], "")
        return self._text.push(tokens[:count])

    def grow(self, decoded: str, *, last: bool = False) -> str:
        """Add the text of the tokens that `push` gave; give what is new and safe to show."""
        last = last or bool(self.reason)
        safe = self._scanner.feed(self._text.new_text(decoded, last=last))
        if self._scanner.stopped_at:
            self.reason, self.stopped_at = "stop", self._scanner.stopped_at
        elif last:
            safe += self._scanner.flush()
        self._pieces.append(safe)
        return safe

    def finish(self) -> str:
        """Give what was held back; no token follows."""
        return "" if self.reason else self.grow(self._decode([self._text.window])[0], last=True)


def grow_together(
    answers: Sequence[GrowingAnswer], tokens: Iterable[Sequence[int]], decode: Decode
) -> Iterator[str]:
    """Add new tokens to answers, decode them all at once, and give each answer's new text."""
    windows = [answer.push(new) for answer, new in zip(answers, tokens, strict=True)]
    for answer, text in zip(answers, decode(windows), strict=True):
        yield answer.grow(text)
