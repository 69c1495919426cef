"""Finds stop strings in text that arrives in pieces, whatever the borders between the pieces are.

No engine and no tokenizer is needed here: text goes in, text that is safe to show comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from local_pipelines._messages import mark, tr
from local_pipelines.errors import ParameterError

__all__ = ["StopScanner", "StopStrings", "checked_stop"]

_STEP = mark('Write stop=["\\n\\n"], or leave stop out.')


def checked_stop(stop: object) -> tuple[str, ...]:
    """Check what was given as `stop` and give it without repetitions.

    Args:
        stop: A list of strings, one string, or None.

    Raises:
        ParameterError: It is something else, or a string is empty.
    """
    if stop is None:
        return ()
    if isinstance(stop, str):
        stop = [stop]
    if isinstance(stop, bytes) or not isinstance(stop, Iterable):
        raise ParameterError(
            tr("stop={stop!r} is no list of strings.").format(stop=stop), next_step=tr(_STEP)
        )
    strings = tuple(dict.fromkeys(stop))
    for string in strings:
        if not isinstance(string, str):
            raise ParameterError(
                tr("stop holds {string!r}, which is no string.").format(string=string),
                tr("Generation stops at text, not at numbers or bytes."),
                tr(_STEP),
            )
        if not string:
            raise ParameterError(
                tr("stop holds an empty string."),
                tr("Every text begins with it: nothing is left."),
                tr(_STEP),
            )
    return strings


class StopStrings:
    """Any number of stop strings as one automaton, so that a character costs one step.

    The method is Aho and Corasick's ("Efficient string matching", CACM 18, 1975). A state stands
    for the longest end of the text read so far that begins a stop string: its depth is how much
    of the text has to be held back.

    Args:
        strings: The stop strings, none of them empty.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        self.strings = tuple(strings)
        self.depth = [0]
        self.match = [0]  # length of the longest stop string that ends in this state, or 0
        self._next: list[dict[str, int]] = [{}]
        self._fallback = [0]
        for string in self.strings:
            self._add(string)
        self._link()

    def __bool__(self) -> bool:
        return bool(self.strings)

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while state and character not in self._next[state]:
            state = self._fallback[state]
        return self._next[state].get(character, 0)

    def _add(self, string: str) -> None:
        state = 0
        for character in string:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self.depth.append(self.depth[state] + 1)
                self.match.append(0)
                self._fallback.append(0)
            state = self._next[state][character]
        self.match[state] = len(string)

    def _link(self) -> None:
        states = deque(self._next[0].values())
        while states:
            state = states.popleft()
            for character, child in self._next[state].items():
                self._fallback[child] = self.step(self._fallback[state], character)
                self.match[child] = self.match[child] or self.match[self._fallback[child]]
                states.append(child)


class StopScanner:
    """Lets one text pass until the first of the stop strings is complete.

    Args:
        stops: What to stop at.
    """

    def __init__(self, stops: StopStrings) -> None:
        self.stopped = False
        self._stops = stops
        self._state = 0
        self._held = ""

    def feed(self, text: str) -> str:
        """Take more text and give what is certain not to belong to a stop string."""
        if not self._stops or not text:
            return text
        whole = self._held + text
        for position, character in enumerate(text, len(self._held) + 1):
            self._state = self._stops.step(self._state, character)
            if length := self._stops.match[self._state]:
                self.stopped = True
                self._held = ""
                return whole[: position - length]
        safe = len(whole) - self._stops.depth[self._state]
        self._held = whole[safe:]
        return whole[:safe]

    def flush(self) -> str:
        """Give what was held back: the text has ended and no stop string has come."""
        held, self._held = self._held, ""
        return held
