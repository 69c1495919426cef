"""Strings of JSON as a grammar: any, of a length, of a format, or of a regular expression."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from re import _constants as codes  # type: ignore[attr-defined] # Python's own names
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from local_pipelines.engines.grammar import EMPTY, Chars, Either, Node, Seq, Text, Times

MOST_CHARACTERS = 500  # of a string whose schema has no maxLength
MOST_REPEATS = 1000  # a longer string is one of the shorter ones as well, as far as a schema cares

_QUOTE = Text('"')
# Letters that stand for themselves: no control characters, no halves of characters, and neither
# quote nor backslash.
_PLAIN: tuple[tuple[int, int], ...] = (
    *((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0xA0, 0xD7FF)),
    *((0xE000, 0xFFFC), (0x10000, 0x10FFFF)),
)
_ESCAPED = Seq((Text("\\"), Chars(((0x22, 0x22), (0x5C, 0x5C), (0x6E, 0x6E), (0x74, 0x74)))))
_CLASSES: dict[Any, tuple[tuple[int, int], ...]] = {
    codes.CATEGORY_DIGIT: ((48, 57),),
    codes.CATEGORY_WORD: ((48, 57), (65, 90), (95, 95), (97, 122)),
    codes.CATEGORY_SPACE: ((32, 32),),
}
# A day up to the 28th is a day of every month.
_DAY = "(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
FORMATS = {
    "date": _DAY,
    "date-time": f"{_DAY}T{_TIME}Z",
    "time": f"{_TIME}Z",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "email": "[a-z][a-z0-9]{0,20}@[a-z][a-z0-9]{0,20}[.](com|net|org)",
    "uri": "https://[a-z][a-z0-9]{0,30}[.](com|net|org)(/[a-z0-9]{1,20}){0,3}",
    "ipv4": "(1[0-9]{2}|[1-9][0-9]|[1-9])(([.](1[0-9]{2}|[1-9][0-9]|[0-9])){3})",
}


class PatternError(Exception):
    """A regular expression holds what no grammar can: its message is what."""


def any_string(least: int = 0, most: int | None = None) -> Node:
    """A string with so many characters."""
    one = Either((Chars(_PLAIN), _ESCAPED))
    # A small model often says the same again and again, and would never come to the quote.
    longest = MOST_CHARACTERS if most is None else min(most, MOST_REPEATS)
    most = max(least, longest)
    return Seq((_QUOTE, Times(one, least, most), _QUOTE)) if most != 0 else Text('""')


def literal(value: Any) -> Text:
    """A value as JSON writes it."""
    return Text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def width(pattern: str) -> tuple[int, int]:
    """How many characters a string may have that a regular expression fits from end to end.

    Raises:
        PatternError: It is none.
    """
    least, most = _parsed(pattern).getwidth()
    return int(least), int(most)


def string_like(pattern: str) -> Node:
    """A string that a regular expression fits from its beginning to its end.

    A pattern of a JSON schema may fit anywhere in a string: these are some of them.

    Raises:
        PatternError: No grammar can hold it.
    """
    return Seq((_QUOTE, _sequence(list(_parsed(pattern)), edges=True), _QUOTE))


def _parsed(pattern: str) -> Any:
    try:
        parsed = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError, TypeError) as error:
        raise PatternError(str(error)) from error
    if parsed.state.flags & ~re.UNICODE.value:
        raise PatternError("flags")
    return parsed


def _sequence(items: Sequence[Any], *, edges: bool = False) -> Node:
    parts = []
    for place, (code, value) in enumerate(items):
        if code is codes.AT and edges and place in {0, len(items) - 1}:
            begins = value in {codes.AT_BEGINNING, codes.AT_BEGINNING_STRING}
            if begins == (place == 0) or len(items) == 1:
                continue
        parts.append(_item(code, value))
    return Seq(tuple(parts)) if parts else EMPTY


def _item(code: Any, value: Any) -> Node:
    makers: dict[Any, Callable[[Any], Node]] = {
        codes.LITERAL: lambda number: Text(json.dumps(chr(number), ensure_ascii=False)[1:-1]),
        codes.ANY: lambda _: Chars(_PLAIN),
        codes.IN: _one_of,
        codes.NOT_LITERAL: lambda number: _chars(_without(((number, number),))),
        codes.BRANCH: lambda branch: Either(tuple(map(_sequence, branch[1]))),
        codes.SUBPATTERN: _group,
        codes.MAX_REPEAT: _repeat,
        codes.MIN_REPEAT: _repeat,
    }
    if code not in makers:
        raise PatternError(str(code).lower())
    return makers[code](value)


def _group(value: Any) -> Node:
    _, added, removed, items = value
    if added or removed:
        raise PatternError("flags")
    return _sequence(items)


def _repeat(value: Any) -> Node:
    least, most, items = value
    unlimited = most is codes.MAXREPEAT
    if least > MOST_REPEATS:
        raise PatternError(f"{{{least}}}")
    bound = None if unlimited else min(int(most), MOST_REPEATS)
    return Times(_sequence(items), int(least), bound) if bound != 0 else EMPTY


def _one_of(items: Sequence[Any]) -> Node:
    negated = items[0][0] is codes.NEGATE
    ranges: list[tuple[int, int]] = []
    for code, value in items[negated:]:
        if code is codes.LITERAL:
            ranges.append((value, value))
        elif code is codes.RANGE:
            ranges.append((value[0], value[1]))
        elif code is codes.CATEGORY and value in _CLASSES:
            ranges += _CLASSES[value]
        else:
            raise PatternError(str(value).lower())
    return _chars(_without(tuple(ranges)) if negated else tuple(ranges))


def _chars(ranges: tuple[tuple[int, int], ...]) -> Node:
    """The letters of the ranges that a string may hold as they are, or those that it may not."""
    plain = _common(ranges, _PLAIN)
    if plain:
        return Chars(plain)
    letters = [chr(number) for low, high in ranges for number in range(low, high + 1)][:40]
    if not letters:
        raise PatternError("[]")
    return Either(tuple(Text(json.dumps(letter)[1:-1]) for letter in letters))


def _common(
    some: tuple[tuple[int, int], ...], others: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    both = [(max(a, c), min(b, d)) for a, b in some for c, d in others]
    return tuple(sorted({(low, high) for low, high in both if low <= high}))


def _without(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    left = list(_PLAIN)
    for low, high in ranges:
        parts = [[(a, min(b, low - 1)), (max(a, high + 1), b)] for a, b in left]
        left = [(a, b) for part in parts for a, b in part if a <= b]
    return tuple(left)
