"""What was measured: the runs of a callable, their figures, and tables of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from local_pipelines.wording.columns import align, html_table
from local_pipelines.wording.messages import ntr, tr

Label = str | int | float


@dataclass(frozen=True, kw_only=True, repr=False)
class Measurement:
    """How long a callable took, run by run.

    Args:
        label: The name it was given.
        seconds: The time of each counted run, in their order.
        counts: What each run produced, such as tokens; empty if nothing was counted.
        unit: What was counted, in the plural, such as "tokens".
        ratios: How many times as fast as the first candidate it was, pair by pair; empty unless
            it was measured by `measure_in_turn`.
        interrupted: The measurement was stopped before its last run.
        result: What the last run returned.
    """

    label: Label
    seconds: tuple[float, ...]
    counts: tuple[float, ...] = ()
    unit: str = ""
    ratios: tuple[float, ...] = ()
    interrupted: bool = False
    result: Any = field(default=None, compare=False)

    @property
    def median(self) -> float:
        """Seconds of the run in the middle."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Seconds between which the middle half of the runs lies."""
        return quartiles(self.seconds)

    @property
    def fastest(self) -> float:
        """Seconds of the fastest run."""
        return min(self.seconds)

    @property
    def slowest(self) -> float:
        """Seconds of the slowest run."""
        return max(self.seconds)

    @property
    def rates(self) -> tuple[float, ...]:
        """Items per second of each run; empty if nothing was counted."""
        return tuple(divide(n, s) for n, s in zip(self.counts, self.seconds, strict=False))

    @property
    def rate(self) -> float | None:
        """Items per second, the median; None if nothing was counted."""
        return statistics.median(self.rates) if self.counts else None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the first candidate, the median; None if measured alone."""
        return statistics.median(self.ratios) if self.ratios else None

    def __repr__(self) -> str:
        number = len(self.seconds)
        times = {name: _time(getattr(self, name)) for name in ("median", "fastest", "slowest")}
        text = ntr(
            "{median} in the median of {number} run ({fastest} to {slowest})",
            "{median} in the median of {number} runs ({fastest} to {slowest})",
            number,
        ).format(number=number, **times)
        if self.label != "":
            text = tr("{label}: {text}").format(label=self.label, text=text)
        if self.rate is not None:
            rate, unit = _number(self.rate), _unit(self.unit)
            text = tr("{text}, {rate} {unit} per second").format(text=text, rate=rate, unit=unit)
        if self.ratio is not None:
            ratio = _number(self.ratio)
            text = tr("{text}, {ratio} times as fast as the first").format(text=text, ratio=ratio)
        return tr("{text}, interrupted").format(text=text) if self.interrupted else text


class Measurements(list[Measurement]):
    """Measurements side by side: a list that shows itself as a table."""

    def __repr__(self) -> str:
        return align(_table(self))

    def _repr_html_(self) -> str:
        head, *body = _table(self)
        return html_table(body, head=head)


def _table(results: Sequence[Measurement]) -> list[list[str]]:
    units = {_unit(result.unit) for result in results if result.counts}
    rate = tr("{unit} per second").format(unit=units.pop()) if len(units) == 1 else tr("per second")
    columns = [
        [tr("label"), *(str(result.label) for result in results)],
        [tr("median"), *(_time(result.median) for result in results)],
        [tr("middle half"), *map(_half, results)],
        [tr("fastest"), *(_time(result.fastest) for result in results)],
        [tr("slowest"), *(_time(result.slowest) for result in results)],
    ]
    if any(result.counts for result in results):
        columns.append([rate, *("" if r.rate is None else _number(r.rate) for r in results)])
    if any(result.ratios for result in results):
        ratios = ("" if r.ratio is None else _number(r.ratio) for r in results)
        columns.append([tr("times as fast"), *ratios])
    columns.append([tr("runs"), *map(_runs, results)])
    return [*map(list, zip(*columns, strict=True))]


def _half(result: Measurement) -> str:
    low, high = map(_time, result.quartiles)
    return tr("{low} to {high}").format(low=low, high=high)


def _runs(result: Measurement) -> str:
    number = str(len(result.seconds))
    return tr("{text}, interrupted").format(text=number) if result.interrupted else number


def _unit(unit: str) -> str:
    """What was counted; the name that it has where the learner gave none."""
    return tr("items") if unit == "items" else unit


def _time(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> _time(0.00123), _time(90)
    ('1.23 ms', '90.0 s')
    """
    for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= size:
            return f"{_number(seconds / size)} {name}"
    return f"{seconds * 1e9:.0f} ns"


def _number(value: float) -> str:
    """Three digits that count, which is more than most measurements are worth.

    >>> [_number(value) for value in (1234.5, 12.345, 0.012345)]
    ['1,234', '12.3', '0.0123']
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Between which the middle half of some values lies.

    >>> quartiles([1, 2, 3, 4, 5])
    (2.0, 4.0)
    """
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def divide(count: float, seconds: float) -> float:
    """How much a second; infinite where the clock saw no time pass."""
    return count / seconds if seconds > 0 else math.inf
