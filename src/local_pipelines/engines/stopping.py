"""Finds stop strings in text that arrives in pieces, whatever the borders between the pieces are.

No engine and no tokenizer is needed here: text goes in, text that is safe to show comes out.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Iterable
from functools import cache

from local_pipelines.errors import failure
from local_pipelines.wording.messages import mark, tr

_STEP = mark('Write stop=["\\n\\n"], or leave stop out.')


class EmptyAnswerWarning(UserWarning):
    """A stop string was the first thing that a model wrote: nothing is left of its answer."""


@cache  # said once in a process: thousands of prompts may end so
def warn_of_empty_answer() -> None:
    """Say why an answer is empty, and what helps."""
    text = tr(
        "An answer is empty, as a stop string was the first thing that the model wrote. End the"
        " prompt with a word that begins the answer, call it without stop, or use LocalChat."
    )
    warnings.warn(text, EmptyAnswerWarning, stacklevel=2)


def checked_stop(stop: object) -> tuple[str, ...]:
    """Check what was given as `stop`, a list, a string or None; give it without repetitions."""
    if stop is None:
        return ()
    if isinstance(stop, str):
        stop = [stop]
    if isinstance(stop, bytes) or not isinstance(stop, Iterable):
        raise failure("stop-no-list", stop=stop)
    strings = tuple(dict.fromkeys(stop))
    for string in strings:
        if not isinstance(string, str):
            raise failure("stop-no-string", string=string)
        if not string:
            raise failure("stop-empty")
    return strings


def find_stop(text: str, stops: Iterable[str]) -> tuple[int, str] | None:
    """Where the stop string begins that is complete first, the longest of several, and which.

    >>> find_stop("the cat sat", ["sat", "cat s"])
    (4, 'cat s')
    >>> find_stop("the cat", ["dog"]) is None
    True
    """
    found = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in stops if stop in text]
    return min(found)[1:] if found else None


class StopScanner:
    r"""Lets one text pass until the first of the stop strings is complete.

    >>> scanner = StopScanner(["\n\n"])
    >>> scanner.feed("one\n"), scanner.feed("two\n"), scanner.feed("\nthree"), scanner.stopped_at
    ('one', '\ntwo', '', '\n\n')
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self.stopped_at = ""
        self._stops = sorted(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""

    def feed(self, text: str) -> str:
        """Take more text and give what is certain not to belong to a stop string."""
        whole = self._held + text
        found = find_stop(whole, self._stops)
        safe, self.stopped_at = found or (len(whole) - self._begun(whole), "")
        self._held = "" if self.stopped_at else whole[safe:]
        return whole[:safe]

    def flush(self) -> str:
        """Give what was held back: the text has ended and no stop string has come."""
        held, self._held = self._held, ""
        return held

    def _begun(self, text: str) -> int:
        """How many characters at the end of a text begin a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-length:]
            place = bisect_left(self._stops, end)  # what begins with it comes right behind it
            if place < len(self._stops) and self._stops[place].startswith(end):
                return length
        return 0
