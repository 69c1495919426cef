"""Pictures of measurements: a line over numbers, or bars."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from local_pipelines.errors import ParameterError, failure
from local_pipelines.lessons.measurements import Measurement, quartiles
from local_pipelines.wording.messages import mark, tr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The axes that are no rate, for `tr` in `_axis_name`.
_AXES = (mark("seconds"), mark("milliseconds"), mark("times as fast"))
_BEYOND_THE_FONT = "\u2e80"  # from here on: Chinese, Japanese, Korean
_BLUE, _ORANGE, _DARK = "#56b4e9", "#d55e00", "#333333"  # Okabe and Ito: for every kind of eyes


def plot_measurements(
    results: Iterable[Measurement],
    *,
    x: str = "",
    y: str | None = None,
    mark_best: bool = True,
    title: str = "",
) -> Figure:
    """Draw measurements: a line where all labels are numbers, bars otherwise.

    A point or bar is the median, its whiskers hold the middle half of the runs, and each small
    dot is a run.

    Args:
        results: What `measure` or `measure_in_turn` gave.
        x: What the labels are, such as "batch_size".
        y: What to draw: "seconds", "milliseconds", "times as fast", or "… per second" with the
            name of what was counted. Not given, the rate if there is one for all, else seconds.
        mark_best: Mark the fastest.
        title: The heading.

    Returns:
        The figure. As the last line of a cell it is shown once; `.savefig("plot.png")` keeps it.

    Raises:
        ParameterError: There is nothing to draw, or `y` was not measured.
    """
    import matplotlib.pyplot as plt

    results = list(results)
    if not results:
        raise failure("nothing-to-draw")
    y = _default_y(results) if y is None else y
    values, more_is_better = _values(results, y)
    figure: Figure
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    try:
        draw = _draw_line if _are_numbers(results) else _draw_bars
        places = draw(axes, results, values)
        for place, runs in zip(places, values, strict=True):
            axes.plot([place] * len(runs), runs, ".", markersize=4, color=_DARK, zorder=3)
        if mark_best and len(results) > 1:
            _mark_best(axes, places, values, more_is_better)
        top = _top(values)
        axes.set(xlabel=x, ylabel=_axis_name(y), title=title, ylim=(0, top))
        axes.set_axisbelow(True)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        figure.supxlabel(_legend(results, values, top), fontsize="small", color="#555555")
    finally:
        plt.close(figure)  # else the notebook shows it a second time at the cell's end
    return figure


def _default_y(results: Sequence[Measurement]) -> str:
    units = {result.unit for result in results}
    if all(result.counts for result in results):
        return f"{units.pop() if len(units) == 1 else 'items'} per second"
    return "seconds"


def _drawn(text: str) -> str:
    """A message for the picture, in English where matplotlib's own font lacks the letters."""
    told = tr(text)
    return told if all(letter < _BEYOND_THE_FONT for letter in told) else text


def _axis_name(y: str) -> str:
    unit = y.removesuffix(" per second")
    if unit != y:
        unit = _drawn(mark("items")) if unit == "items" else unit
        return _drawn(mark("{unit} per second")).format(unit=unit)
    return _drawn(y)


def _values(results: Sequence[Measurement], y: str) -> tuple[list[tuple[float, ...]], bool]:
    """Each candidate's runs in the unit of the axis, and whether more is better."""
    if y in {"seconds", "milliseconds"}:
        scale = 1.0 if y == "seconds" else 1000.0
        return [tuple(scale * s for s in result.seconds) for result in results], False
    if y == "times as fast":
        if all(result.ratios for result in results):
            return [result.ratios for result in results], True
        raise ParameterError(
            tr('y="times as fast" compares candidates that were measured in turn; these were not.'),
            next_step=tr("Measure them with measure_in_turn({…})."),
        )
    if not y.endswith(" per second"):
        raise failure("not-measured", y=y)
    _check_unit(results, y.removesuffix(" per second"))
    return [result.rates for result in results], True


def _check_unit(results: Sequence[Measurement], name: str) -> None:
    for result in results:
        if not result.counts:
            reason = "not-counted" if result.label == "" else "not-counted-under-label"
            raise failure(reason, name=name, unit=name, label=result.label)
        if result.unit not in {name, "items"}:
            raise failure("other-unit", unit=result.unit, name=name)


def _are_numbers(results: Sequence[Measurement]) -> bool:
    labels = [result.label for result in results]
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) for n in labels)
    return plain and len(set(labels)) == len(labels) > 1


def _draw_line(
    axes: Any, results: Sequence[Measurement], values: Sequence[tuple[float, ...]]
) -> list[float]:
    places = [float(result.label) for result in results]
    ordered = sorted(zip(places, values, strict=True))
    runs = [each for _, each in ordered]
    medians = [*map(statistics.median, runs)]
    look = {"marker": "o", "capsize": 4, "color": _BLUE}
    axes.errorbar([place for place, _ in ordered], medians, yerr=_whiskers(runs), **look)
    if min(places) > 0 and max(places) >= 8 * min(places):
        axes.set_xscale("log", base=2)  # 1, 2, 4, 8, … at equal distances
    axes.set_xticks(places, [f"{result.label:g}" for result in results])
    axes.minorticks_off()
    return places


def _draw_bars(
    axes: Any, results: Sequence[Measurement], values: Sequence[tuple[float, ...]]
) -> list[float]:
    places = [float(i) for i in range(len(results))]
    medians = [*map(statistics.median, values)]
    axes.bar(places, medians, yerr=_whiskers(values), width=0.6, capsize=4, color=_BLUE)
    width = max(6, 72 // len(results))
    axes.set_xticks(places, [textwrap.fill(str(result.label), width) for result in results])
    axes.set_xlim(-0.6, len(results) - 0.4)
    return places


def _whiskers(values: Sequence[tuple[float, ...]]) -> list[list[float]]:
    """Distances from the median to the quartiles, below and above, as matplotlib takes them."""
    halves = [(*quartiles(runs), statistics.median(runs)) for runs in values]
    below = [middle - low for low, _, middle in halves]
    above = [high - middle for _, high, middle in halves]
    return [below, above]


def _mark_best(
    axes: Any, places: Sequence[float], values: Sequence[tuple[float, ...]], more_is_better: bool
) -> None:
    medians = [statistics.median(runs) for runs in values]
    best = medians.index(max(medians) if more_is_better else min(medians))
    place = (places[best], quartiles(values[best])[1])
    look = {"ha": "center", "color": _ORANGE, "fontweight": "bold"}
    axes.annotate(_drawn(mark("best")), place, (0, 8), textcoords="offset points", **look)
    axes.plot(places[best], medians[best], "o", markersize=9, color=_ORANGE, zorder=4)


def _top(values: Sequence[tuple[float, ...]]) -> float:
    """Where the axis ends: a run far off, by Tukey's rule for box plots, does not stretch it."""
    halves = [(*quartiles(runs), max(runs)) for runs in values]
    highest = max(min(top, high + 1.5 * (high - low)) for low, high, top in halves)
    return 1.2 * highest if 0 < highest < math.inf else 1.0


def _legend(results: Sequence[Measurement], values: Sequence[tuple[float, ...]], top: float) -> str:
    numbers = sorted({len(result.seconds) for result in results})
    low, high = numbers[0], numbers[-1]
    if high == 1:
        return _drawn(mark("one run each"))
    runs = str(low) if low == high else _drawn(mark("{low} to {high}")).format(low=low, high=high)
    text = _drawn(mark("median of {runs} runs; whiskers: their middle half; dots: each run"))
    above = sum(value > top for runs_of_one in values for value in runs_of_one)
    left_out = _drawn(mark(" ({number} above the picture)")).format(number=above) if above else ""
    return text.format(runs=runs) + left_out
