"""Checks the arguments that count something: they are whole numbers, and no booleans."""

from __future__ import annotations

from local_pipelines._messages import tr
from local_pipelines.errors import ParameterError

__all__ = ["checked_whole"]


def checked_whole(name: str, value: object, low: int, example: int) -> int:
    """Give a whole number that can work, or say what would.

    >>> checked_whole("batch_size", 8, low=1, example=8)
    8

    Args:
        name: The argument, as a caller writes it.
        value: What was given.
        low: The lowest number that can work.
        example: A number that works, for the sentence.

    Raises:
        ParameterError: It is no whole number, or too low.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ParameterError(
            tr("{name} = {value!r} cannot work: it is a whole number from {low} upward.").format(
                name=name, value=value, low=low
            ),
            next_step=tr("Write {name}={low}.").format(name=name, low=example),
        )
    return value
