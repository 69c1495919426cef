r"""One answer while it is being generated: tokens in, safe text out, until something ends it.

A token of a byte-level tokenizer may be a part of a character: an emoji takes up to four of them.
Decoding each alone would show `\ufffd`. And a sentencepiece tokenizer drops the blank before the
first token it decodes. So a few tokens are decoded together, and only what is new is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from local_pipelines.engines.stopping import StopScanner

Decode = Callable[[list[list[int]]], list[str]]
"""Decodes several lists of token ids at once."""

_CONTEXT = 6  # tokens before the first new one that are decoded with it
_WINDOW = 32  # tokens decoded together at most, unless a character takes longer to be complete

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


class TokenText:
    """The text of one row of tokens as it grows.

    Decoding is left to the caller, who can do it for many rows at once: `push` the new tokens,
    decode `window`, and ask for `new_text`.

    >>> def decode(rows):  # each byte is a token here
    ...     return [bytes(row).decode(errors="replace") for row in rows]
    >>> answer = TokenText(b"Prompt: ", decode)
    >>> [answer.new_text(decode([answer.push([byte])])[0]) for byte in "né".encode()]
    ['n', '', 'é']
    """

    def __init__(self, prompt: Sequence[int], decode: Decode) -> None:
        self.window = list(prompt[-_CONTEXT:])
        self._decode = decode
        self._seen = decode([self.window])[0]
        self._borders = [0, len(self.window)]  # where in the window a character is complete

    def push(self, tokens: Sequence[int]) -> list[int]:
        """Add tokens and give all that have to be decoded now."""
        self.window += tokens
        return self.window

    def new_text(self, text: str, *, last: bool = False) -> str:
        """Give what is new and complete in the window's text; nothing follows the `last`."""
        if text.endswith("\ufffd") and not last:
            return ""
        new, self._seen = text[len(self._seen) :], text
        self._borders.append(len(self.window))
        if len(self.window) > _WINDOW and not last:
            self._shrink()
        return new

    def _shrink(self) -> None:
        border = max(b for b in self._borders if b <= len(self.window) - _CONTEXT or b == 0)
        self.window = self.window[border:]
        self._borders = [b - border for b in self._borders if b >= border]
        self._seen = self._decode([self.window])[0]


class GrowingAnswer:
    """An answer that grows token by token, behind the tokens of its prompt."""

    def __init__(self, prompt: Sequence[int], decode: Decode, ends: Ends) -> None:
        self.reason: Reason = ""
        self.stopped_at = ""
        self.count = 0
        self._ends = ends
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


def grow_together(
    answers: Iterable[GrowingAnswer],
    tokens: Iterable[Sequence[int]],
    decode: Decode,
    *,
    last: bool = False,
) -> Iterator[str]:
    """Add new tokens to the answers that go on, decode them all at once, and give the new texts.

    After the `last` ones comes what was held back, too.
    """
    growing = [(a, new) for a, new in zip(answers, tokens, strict=True) if not a.reason]
    windows = [answer.push(new) for answer, new in growing]
    texts = decode(windows) if windows else []  # of no rows, transformers makes one empty text
    for (answer, _), text in zip(growing, texts, strict=True):
        yield answer.grow(text, last=last)
