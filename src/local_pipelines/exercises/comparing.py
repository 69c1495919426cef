"""Whether two answers are the same: blanks, quotes, tuples and numpy's numbers do not count."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

_QUOTES = "\"'`“”„‘’«»「」"
_DEEPEST = 20


class UnreadableError(Exception):
    """The value is of no kind that an answer can have."""


def plain(value: Any) -> Any:
    """Give a value as Python's own numbers, texts, lists and dictionaries.

    >>> plain((1, "a"))
    [1, 'a']

    Raises:
        UnreadableError: It is something else, or lists lie too deep in each other.
    """
    try:
        return _plain(value, 0)
    except Exception as error:  # an object of a learner's own may raise whatever it likes
        raise UnreadableError from error


def attribute(value: Any, name: str) -> Any:
    """Look up an attribute of an object that may raise anything; None where there is none."""
    try:
        return getattr(value, name, None)
    except Exception:  # noqa: BLE001 - see above
        return None


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise UnreadableError
    if type(value).__module__.partition(".")[0] in {"numpy", "torch"} and hasattr(value, "tolist"):
        value = value.tolist()
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(content := attribute(value, "content"), str):  # LangChain's messages
        return content
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise UnreadableError


def same(given: Any, wanted: Any, tolerance: float = 0.0, *, loose: bool = True) -> bool:
    """Say whether a plain value is the wanted one.

    Args:
        given: What a learner gave.
        wanted: What is to be found there.
        tolerance: By how much numbers may differ.
        loose: Overlook blanks, capitals and quotes in texts, and take "45" for 45.
    """
    if isinstance(wanted, bool) or wanted is None:
        return type(given) is type(wanted) and given == wanted
    if isinstance(wanted, int | float):
        number = _number(given, loose)
        return number is not None and math.isclose(number, wanted, rel_tol=1e-9, abs_tol=tolerance)
    if isinstance(wanted, str):
        if not isinstance(given, str):
            return False
        return _bare(given) == _bare(wanted) if loose else given == wanted
    if isinstance(wanted, list):
        return (
            isinstance(given, list)
            and len(given) == len(wanted)
            and all(same(a, b, tolerance, loose=loose) for a, b in zip(given, wanted, strict=True))
        )
    return (
        isinstance(given, dict)
        and given.keys() == wanted.keys()
        and all(same(given[key], wanted[key], tolerance, loose=loose) for key in wanted)
    )


def _number(given: Any, loose: bool) -> float | None:
    if isinstance(given, str) and loose:
        text = given.strip().strip(_QUOTES).strip()
        if not re.fullmatch(r"[+-]?\d{1,15}([.,]\d{1,15})?", text):
            return None
        return float(text.replace(",", "."))
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    try:
        return float(given)
    except OverflowError:
        return math.inf


def _bare(text: str) -> str:
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    stripped = text.strip(_QUOTES + " ").rstrip(".。").strip(_QUOTES + " ")
    return (stripped or text).casefold()
