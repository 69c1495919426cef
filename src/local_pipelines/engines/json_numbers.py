r"""Numbers of a range as a grammar, digit by digit.

>>> from local_pipelines.engines.grammar import Grammar, Leaf
>>> Grammar.of({"root": Leaf(whole_numbers(8, 12))}).lark.splitlines()[1]
'T1: /([\\x{38}-\\x{39}]|1[\\x{30}-\\x{32}])/'
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from local_pipelines.engines.grammar import Chars, Either, Node, Seq, Text, Times, optional

_MOST_DIGITS = 15  # a float of Python holds them all
_FRACTION = 6
_DIGIT = Chars(((48, 57),))
_MINUS = Text("-")


def whole_numbers(low: int | None, high: int | None) -> Node | None:
    """The whole numbers from `low` to `high`; None stands for no bound. None: there are none."""
    largest = 10**_MOST_DIGITS - 1
    low = max(-largest, -largest if low is None else low)
    high = min(largest, largest if high is None else high)
    choices: list[Node] = []
    if low < 0 <= high or high < 0:
        below = _naturals(max(1, -high), -low)
        choices += [Seq((_MINUS, below))] if below else []
    if high >= 0 and (above := _naturals(max(0, low), high)):
        choices.append(above)
    return _one(choices)


def decimals(low: Decimal | None, high: Decimal | None, *, above: bool, below: bool) -> Node | None:
    """The numbers from `low` to `high` with a few decimal places.

    `above` and `below` say that the bounds themselves do not belong to them.
    """
    step = Decimal(1).scaleb(-_FRACTION)
    if low is not None:
        low = _rounded(low, ROUND_CEILING, step if above else Decimal(0))
    if high is not None:
        high = _rounded(high, ROUND_FLOOR, -step if below else Decimal(0))
    largest = Decimal(10 ** (_MOST_DIGITS - _FRACTION) - 1)
    low = -largest if low is None else max(low, -largest)
    high = largest if high is None else min(high, largest)
    choices: list[Node] = []
    if low < 0:
        negative = _positive(max(step, -high), -low)
        choices += [Seq((_MINUS, negative))] if negative else []
    if high >= 0 and (positive := _positive(max(Decimal(0), low), high)):
        choices.append(positive)
    return _one(choices)


def _rounded(number: Decimal, way: str, step: Decimal) -> Decimal:
    places = Decimal(1).scaleb(-_FRACTION)
    rounded = number.quantize(places, rounding=way)
    return rounded + step if rounded == number else rounded


def _positive(low: Decimal, high: Decimal) -> Node | None:
    """Numbers that are not negative, as whole part and fraction."""
    if low > high:
        return None
    first, start = _split(low)
    last, end = _split(high)
    if first == last:
        return _with_fraction(first, start, end)
    choices: list[Node | None] = [_with_fraction(first, start, "9" * _FRACTION)]
    if last - first > 1 and (inner := _naturals(first + 1, last - 1)):
        fraction = Seq((Text("."), Times(_DIGIT, 1, _FRACTION)))
        choices.append(Seq((inner, optional(fraction))))
    choices.append(_with_fraction(last, "0" * _FRACTION, end))
    return _one([choice for choice in choices if choice])


def _split(number: Decimal) -> tuple[int, str]:
    whole, _, fraction = f"{number:.{_FRACTION}f}".partition(".")
    return int(whole), fraction


def _with_fraction(whole: int, start: str, end: str) -> Node | None:
    """One whole number with the fractions from `start` to `end`."""
    choices: list[Node] = []
    if not start.strip("0"):
        choices.append(Text(str(whole)))
        if start == "0" * _FRACTION and end == "9" * _FRACTION:
            fraction = Seq((Text("."), Times(_DIGIT, 1, _FRACTION)))
            return Seq((Text(str(whole)), optional(fraction)))
    for length in range(1, _FRACTION + 1):  # 0.5 as well as 0.500000
        first = str(int(start[:length]) + bool(start[length:].strip("0"))).zfill(length)
        if len(first) == length:
            parts = _between(first, end[:length])
            choices += [Seq((Text(f"{whole}."), part)) for part in parts]
    return _one(choices)


def _naturals(low: int, high: int) -> Node | None:
    """Whole numbers that are not negative, without zeros in front."""
    choices: list[Node] = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 0 if length == 1 else 10 ** (length - 1))
        last = min(high, 10**length - 1)
        if first <= last:
            choices += _between(str(first), str(last))
    return _one(choices)


def _between(low: str, high: str) -> list[Node]:
    """Strings of digits of one length, from the one to the other."""
    if low > high:
        return []
    if not low:
        return [Text("")]
    if set(low) == {"0"} and set(high) == {"9"}:
        return [Times(_DIGIT, len(low), len(low)) if len(low) > 1 else _DIGIT]
    if len(low) == 1:
        return [Chars(((ord(low), ord(high)),))]
    if low[0] == high[0]:
        return [Seq((Text(low[0]), part)) for part in _between(low[1:], high[1:])]
    rest = len(low) - 1
    first, last = int(low[0]), int(high[0])
    choices: list[Node] = []
    if low[1:].strip("0"):
        choices += [Seq((Text(low[0]), p)) for p in _between(low[1:], "9" * rest)]
        first += 1
    tail: list[Node] = []
    if high[1:].strip("9"):
        tail = [Seq((Text(high[0]), part)) for part in _between("0" * rest, high[1:])]
        last -= 1
    if first <= last:
        middle = Chars(((48 + first, 48 + last),))
        choices.append(Seq((middle, *_between("0" * rest, "9" * rest))))
    return choices + tail


def _one(choices: list[Node]) -> Node | None:
    if not choices:
        return None
    return choices[0] if len(choices) == 1 else Either(tuple(choices))
