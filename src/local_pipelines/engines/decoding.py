r"""Turns tokens into text one by one, without ever showing half a character.

A token of a byte-level tokenizer may be a part of a character: an emoji takes up to four of them.
Decoding each alone would show `\ufffd`. And a sentencepiece tokenizer drops the blank before the
first token it decodes. So a few tokens are decoded together, and only what is new is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[list[list[int]]], list[str]]
"""Decodes several lists of token ids at once."""

CONTEXT = 6
"""How many tokens before the first new one are decoded with it."""

_WINDOW = 32  # tokens decoded together at most, unless a character takes longer to be complete


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
        self.window = list(prompt[-CONTEXT:])
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
        border = max(b for b in self._borders if b <= len(self.window) - CONTEXT or b == 0)
        self.window = self.window[border:]
        self._borders = [b - border for b in self._borders if b >= border]
        self._seen = self._decode([self.window])[0]
