"""Checks of single values that several rooms ask for: whole numbers and other numbers."""

from __future__ import annotations

import math
import reprlib
from numbers import Real

from local_pipelines.errors import failure


def is_whole(value: object, low: int, high: int | None = None) -> bool:
    """Whether a value is a whole number within limits; True and False are none.

    >>> is_whole(8, 1), is_whole(0, 1), is_whole(9, 1, 8), is_whole(True, 0), is_whole("8", 1)
    (True, False, False, False, False)
    """
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return low <= value and (high is None or value <= high)


def is_finite(value: object) -> bool:
    """Whether a value is a number that can be computed with; True and False are none.

    >>> is_finite(0.9), is_finite(2), is_finite(float("nan")), is_finite(True), is_finite("1")
    (True, True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def whole_number(
    name: str, value: object, low: int = 1, *, high: int | None = None, example: int | None = None
) -> int:
    """Give back a whole number that is within its limits.

    Args:
        name: What the number is called where it was written.
        value: What was written there.
        low: The smallest that works.
        high: The largest that works; None if there is no limit.
        example: A number that works, for the error; `low` unless given.

    Raises:
        ParameterError: It is something else.

    >>> whole_number("batch_size", 8)
    8
    >>> whole_number("batch_size", "8", example=4)
    Traceback (most recent call last):
        ...
    local_pipelines.errors.ParameterError: batch_size='8' cannot work: it is a whole number from \
1 upward. Write batch_size=4.
    """
    if isinstance(value, int) and is_whole(value, low, high):
        return value
    limits = {"low": low, "high": high, "number": low if example is None else example}
    reason = "number-from" if high is None else "number-within"
    raise failure(reason, name=name, value=_shown(value), **limits)


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "…"


def checked_size(size: object) -> int:
    """Give a batch size that can work, or raise ParameterError."""
    return whole_number("batch_size", size, example=8)
