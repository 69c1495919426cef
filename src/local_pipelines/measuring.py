"""Times a callable honestly: several runs, their spread, and candidates in turn, not one by one.

A machine's speed drifts while it works, by a factor of two and more where somebody else uses it,
too. Hence a median with its quartiles instead of one number, and ratios of runs that stood side by
side in time instead of ratios of two medians.
"""

from __future__ import annotations

import math
import statistics
import textwrap
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

from local_pipelines._columns import align
from local_pipelines._grammar import paragraph
from local_pipelines._messages import ntr, tr
from local_pipelines.errors import LocalPipelinesError, ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Measurement", "Measurements", "measure", "measure_in_turn", "plot_measurements"]

Label = str | int | float
Count = float | Callable[[Any], float] | None


# --- what was measured -------------------------------------------------------------------------


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
        return _quartiles(self.seconds)

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
        return tuple(_divide(n, s) for n, s in zip(self.counts, self.seconds, strict=False))

    @property
    def rate(self) -> float | None:
        """Items per second, the median; None if nothing was counted."""
        return statistics.median(self.rates) if self.counts else None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the first candidate, the median; None if measured alone."""
        return statistics.median(self.ratios) if self.ratios else None

    def __repr__(self) -> str:
        text = ntr(
            "{median} in the median of {number} run ({fastest} to {slowest})",
            "{median} in the median of {number} runs ({fastest} to {slowest})",
            len(self.seconds),
        ).format(
            median=_time(self.median),
            number=len(self.seconds),
            fastest=_time(self.fastest),
            slowest=_time(self.slowest),
        )
        if self.label != "":
            text = tr("{label}: {text}").format(label=self.label, text=text)
        if self.rate is not None:
            text = tr("{text}, {rate} {unit} per second").format(
                text=text, rate=_number(self.rate), unit=_unit(self.unit)
            )
        if self.ratio is not None:
            text = tr("{text}, {ratio} times as fast as the first").format(
                text=text, ratio=_number(self.ratio)
            )
        return tr("{text}, interrupted").format(text=text) if self.interrupted else text


class Measurements(list[Measurement]):
    """Measurements side by side: a list that shows itself as a table."""

    def __repr__(self) -> str:
        return align(_table(self))

    def _repr_html_(self) -> str:
        head, *body = _table(self)
        return (
            f"<table><thead><tr>{_cells('th', head)}</tr></thead><tbody>"
            + "".join(f"<tr>{_cells('td', row)}</tr>" for row in body)
            + "</tbody></table>"
        )


def _cells(tag: str, row: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in row)


def _table(results: Sequence[Measurement]) -> list[list[str]]:
    units = {result.unit for result in results if result.counts}
    rate = (
        tr("{unit} per second").format(unit=_unit(units.pop()))
        if len(units) == 1
        else tr("per second")
    )
    columns: list[tuple[str, Callable[[Measurement], str]]] = [
        (tr("label"), lambda result: str(result.label)),
        (tr("median"), lambda result: _time(result.median)),
        (tr("middle half"), lambda result: _spread(*result.quartiles)),
        (tr("fastest"), lambda result: _time(result.fastest)),
        (tr("slowest"), lambda result: _time(result.slowest)),
    ]
    if any(result.counts for result in results):
        columns.append((rate, lambda r: "" if r.rate is None else _number(r.rate)))
    if any(result.ratios for result in results):
        columns.append((tr("times as fast"), lambda r: "" if r.ratio is None else _number(r.ratio)))
    columns.append((tr("runs"), _runs))
    return [[name for name, _ in columns]] + [
        [show(result) for _, show in columns] for result in results
    ]


def _runs(result: Measurement) -> str:
    number = str(len(result.seconds))
    return tr("{text}, interrupted").format(text=number) if result.interrupted else number


def _spread(low: float, high: float) -> str:
    return tr("{low} to {high}").format(low=_time(low), high=_time(high))


def _unit(unit: str) -> str:
    """What was counted; the name that it has where the learner gave none."""
    return tr("items") if unit == "items" else unit


def _time(seconds: float) -> str:
    for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= size:
            return f"{_number(seconds / size)} {name}"
    return f"{seconds * 1e9:.0f} ns"


def _number(value: float) -> str:
    """Three digits that count, which is more than most measurements are worth."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _divide(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else math.inf


# --- measuring ---------------------------------------------------------------------------------


def measure(
    function: Callable[[], Any],
    *,
    label: Label = "",
    repeat: int = 5,
    warm_up: int = 1,
    count: Count = None,
    unit: str = "",
) -> Measurement:
    """Time a callable: some runs that do not count, then some that do.

    Stopping the cell while it runs keeps the runs that are over; before the first is over, it
    stops as any cell does.

    Args:
        function: What to time; it takes nothing: `lambda: llm.invoke("Hello")`.
        label: Its name in tables and plots; a number where the plot shall be a line.
        repeat: Runs that count.
        warm_up: Runs before them, which fill caches and do not count.
        count: What a run produces: a number, or a function of its result, such as
            `lambda answer: len(answer.split())`. Not given, a list or tuple counts its entries,
            and anything else is not counted.
        unit: What is counted, in the plural, such as "tokens"; "items" if not given.

    Returns:
        The times, the rate if something was counted, and the last run's result.

    Raises:
        ParameterError: A number of runs or a count cannot be, or `function` returned a generator,
            which has done nothing yet.
    """
    return _measure_all({label: function}, repeat=repeat, warm_up=warm_up, count=count, unit=unit)[
        0
    ]


def measure_in_turn(
    functions: Mapping[Label, Callable[[], Any]],
    *,
    repeat: int = 5,
    warm_up: int = 1,
    count: Count = None,
    unit: str = "",
) -> Measurements:
    """Time several callables in turn, A B C A B C …, and compare each run with its neighbour.

    A machine that slows down for a while then slows down all candidates alike, and the ratios,
    taken round by round, stay true.

    Args:
        functions: What to time, by the labels for tables and plots. Ratios refer to the first.
        repeat: Rounds that count.
        warm_up: Rounds before them that do not.
        count: As in `measure`. If all candidates are counted, ratios compare rates, not times.
        unit: What is counted, in the plural.

    Returns:
        A measurement for each, in their order; in a notebook they are a table. Stopping the cell
        keeps the runs that are over.

    Raises:
        ParameterError: As in `measure`, or there is nothing to measure.
    """
    if not functions:
        raise ParameterError(
            tr("There is nothing to measure."),
            next_step=tr('Write measure_in_turn({"A": first, "B": second}).'),
        )
    results = _measure_all(functions, repeat=repeat, warm_up=warm_up, count=count, unit=unit)
    first = results[0]
    return Measurements(replace(result, ratios=_ratios(first, result)) for result in results)


def _ratios(first: Measurement, other: Measurement) -> tuple[float, ...]:
    if first.counts and other.counts:
        return tuple(_divide(b, a) for a, b in zip(first.rates, other.rates, strict=False))
    return tuple(_divide(a, b) for a, b in zip(first.seconds, other.seconds, strict=False))


@dataclass
class _Runs:
    """The runs of one candidate, while they are measured."""

    label: Label
    function: Callable[[], Any]
    count: Count
    seconds: list[float] = field(default_factory=list)
    counts: list[float] = field(default_factory=list)
    result: Any = None

    def warm_up(self) -> None:
        with _naming(
            tr("The measurement failed in its warm-up.")
            if self.label == ""
            else tr("The measurement of {label!r} failed in its warm-up.").format(label=self.label)
        ):
            _check_result(self.function())

    def run(self) -> None:
        number = len(self.seconds) + 1
        with _naming(
            tr("The measurement failed in run {number}.").format(number=number)
            if self.label == ""
            else tr("The measurement of {label!r} failed in run {number}.").format(
                label=self.label, number=number
            )
        ):
            start = time.perf_counter()
            result = self.function()
            seconds = time.perf_counter() - start
            _check_result(result)
            counted = _counted(self.count, result)
        # Nothing before this line is kept, so that an interruption cannot leave half a run.
        self.result = result
        self.counts += [] if counted is None else [counted]
        self.seconds.append(seconds)

    def finish(self, repeat: int, unit: str) -> Measurement:
        complete = len(self.counts) == len(self.seconds)
        return Measurement(
            label=self.label,
            seconds=tuple(self.seconds),
            counts=tuple(self.counts) if complete else (),
            unit=(unit or "items") if self.counts and complete else "",
            interrupted=len(self.seconds) < repeat,
            result=self.result,
        )


def _measure_all(
    functions: Mapping[Label, Callable[[], Any]],
    *,
    repeat: int,
    warm_up: int,
    count: Count,
    unit: str,
) -> list[Measurement]:
    _check_whole("repeat", repeat, 1)
    _check_whole("warm_up", warm_up, 0)
    _check_count(count)
    runs = [_Runs(label, function, count) for label, function in functions.items()]
    for one in runs:
        _check_callable(one.label, one.function)
    try:
        for _ in range(warm_up):
            for one in runs:
                one.warm_up()
        for _ in range(repeat):
            for one in runs:
                one.run()
    except KeyboardInterrupt:
        if not runs[0].seconds:
            raise
    return [one.finish(repeat, unit) for one in runs if one.seconds]


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Let an error say which candidate it comes from; its type stays what a caller expects."""
    try:
        yield
    except LocalPipelinesError as error:  # a notebook shows nothing but its sentences
        raise type(error)(paragraph(where, error.fact), error.cause, error.next_step) from error
    except Exception as error:
        error.add_note(where)
        raise


def _counted(count: Count, result: Any) -> float | None:
    if count is None:
        return float(len(result)) if isinstance(result, list | tuple) else None
    number = count(result) if callable(count) else count
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
        raise ParameterError(
            tr("count gave {number!r}, which is no number of items.").format(number=number),
            next_step=tr("Write a function that returns a number, such as count=len."),
        )
    return float(number)


_LAZY = (
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    map,
    filter,
    zip,
)


def _check_result(result: Any) -> None:
    if not isinstance(result, _LAZY):
        return
    kind = type(result).__name__
    if isinstance(result, types.CoroutineType):
        result.close()  # else Python warns that nobody awaited it
        step = tr("Measure the synchronous method, or `lambda: asyncio.run(…)` in a script.")
    else:
        step = tr("Use it up inside: `lambda: list(…)`.")
    raise ParameterError(
        tr("It returned a {kind}, which has done nothing yet.").format(kind=kind), next_step=step
    )


def _check_callable(label: Label, function: object) -> None:
    if not callable(function):
        raise ParameterError(
            _is_called(label, type(function).__name__),
            next_step=tr("Write `lambda:` before it, as in measure(lambda: llm.invoke(prompt))."),
        )


def _is_called(label: Label, kind: str) -> str:
    if label == "":
        return tr(
            "What is to be measured is no function, but {kind}: it has been called already."
        ).format(kind=kind)
    return tr(
        "What is to be measured as {label!r} is no function, but {kind}: it has been"
        " called already."
    ).format(label=label, kind=kind)


def _check_count(count: object) -> None:
    if isinstance(count, int | float) and not isinstance(count, bool):
        _counted(count, None)
    elif count is not None and not callable(count):
        raise ParameterError(
            tr("count = {count!r} is neither a number nor a function.").format(count=count),
            next_step=tr("Write count=64, or a function of the result such as count=len."),
        )


def _check_whole(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ParameterError(
            tr("{name} = {value!r} cannot work: it is a whole number from {low} upward.").format(
                name=name, value=value, low=low
            ),
            next_step=tr("Write {name}={low}.").format(
                name=name, low=max(low, 3 if name == "repeat" else 1)
            ),
        )


# --- the picture -------------------------------------------------------------------------------

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
        raise ParameterError(
            tr("There is nothing to draw."), next_step=tr("Give a list of what measure() returned.")
        )
    y = _default_y(results) if y is None else y
    values, more_is_better = _values(results, y)
    figure: Figure
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    try:
        draw = _draw_line if _are_numbers(results) else _draw_bars
        places = draw(axes, results, values)
        if mark_best and len(results) > 1:
            _mark_best(axes, places, values, more_is_better)
        top = _top(values)
        axes.set(xlabel=x, ylabel=y, title=title, ylim=(0, top))
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
        raise ParameterError(
            tr("y = {y!r} is nothing that was measured.").format(y=y),
            next_step=tr('Write y="seconds", "milliseconds", "times as fast" or "… per second".'),
        )
    _check_unit(results, y.removesuffix(" per second"))
    return [result.rates for result in results], True


def _check_unit(results: Sequence[Measurement], name: str) -> None:
    for result in results:
        if not result.counts:
            raise ParameterError(
                tr("How many {unit} the measurement produced was not counted.").format(unit=name)
                if result.label == ""
                else tr(
                    "How many {unit} the measurement of {label!r} produced was not counted."
                ).format(unit=name, label=result.label),
                tr("Only a list counts itself."),
                tr(
                    'Write measure(…, count=…, unit="{name}") with a number or a function of the'
                    " result."
                ).format(name=name),
            )
        if result.unit not in {name, "items"}:
            raise ParameterError(
                tr("{unit} were counted, not {name}.").format(unit=result.unit, name=name),
                next_step=tr('Write y="{unit} per second".').format(unit=result.unit),
            )


def _are_numbers(results: Sequence[Measurement]) -> bool:
    labels = [result.label for result in results]
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) for n in labels)
    return plain and len(set(labels)) == len(labels) > 1


def _draw_line(
    axes: Any, results: Sequence[Measurement], values: Sequence[tuple[float, ...]]
) -> list[float]:
    places = [float(result.label) for result in results]
    order = sorted(range(len(places)), key=places.__getitem__)
    axes.errorbar(
        [places[i] for i in order],
        [statistics.median(values[i]) for i in order],
        yerr=_whiskers([values[i] for i in order]),
        marker="o",
        capsize=4,
        color=_BLUE,
    )
    if min(places) > 0 and max(places) >= 8 * min(places):
        axes.set_xscale("log", base=2)  # 1, 2, 4, 8, … at equal distances
    axes.set_xticks(places, [f"{result.label:g}" for result in results])
    axes.minorticks_off()
    _draw_runs(axes, places, values)
    return places


def _draw_bars(
    axes: Any, results: Sequence[Measurement], values: Sequence[tuple[float, ...]]
) -> list[float]:
    places = [float(i) for i in range(len(results))]
    axes.bar(
        places,
        [statistics.median(runs) for runs in values],
        yerr=_whiskers(values),
        width=0.6,
        capsize=4,
        color=_BLUE,
    )
    width = max(6, 72 // len(results))
    names = [textwrap.fill(str(result.label), width) for result in results]
    axes.set_xticks(places, names)
    axes.set_xlim(-0.6, len(results) - 0.4)
    _draw_runs(axes, places, values)
    return places


def _whiskers(values: Sequence[tuple[float, ...]]) -> list[list[float]]:
    """Distances from the median to the quartiles, below and above, as matplotlib takes them."""
    below, above = [], []
    for runs in values:
        middle, (low, high) = statistics.median(runs), _quartiles(runs)
        below.append(middle - low)
        above.append(high - middle)
    return [below, above]


def _draw_runs(axes: Any, places: Sequence[float], values: Sequence[tuple[float, ...]]) -> None:
    for place, runs in zip(places, values, strict=True):
        axes.plot([place] * len(runs), runs, ".", markersize=4, color=_DARK, zorder=3)


def _mark_best(
    axes: Any, places: Sequence[float], values: Sequence[tuple[float, ...]], more_is_better: bool
) -> None:
    medians = [statistics.median(runs) for runs in values]
    best = medians.index(max(medians) if more_is_better else min(medians))
    axes.annotate(
        "best",
        (places[best], _quartiles(values[best])[1]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        color=_ORANGE,
        fontweight="bold",
    )
    axes.plot(places[best], medians[best], "o", markersize=9, color=_ORANGE, zorder=4)


def _top(values: Sequence[tuple[float, ...]]) -> float:
    """Where the axis ends: a run far off, by Tukey's rule for box plots, does not stretch it."""
    fences = []
    for runs in values:
        low, high = _quartiles(runs)
        fences.append(min(max(runs), high + 1.5 * (high - low)))
    highest = max(fences)
    return 1.2 * highest if 0 < highest < math.inf else 1.0


def _legend(results: Sequence[Measurement], values: Sequence[tuple[float, ...]], top: float) -> str:
    numbers = sorted({len(result.seconds) for result in results})
    if numbers[-1] == 1:
        return "one run each"
    runs = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    above = sum(value > top for runs_of_one in values for value in runs_of_one)
    left_out = f" ({above} above the picture)" if above else ""
    return f"median of {runs} runs; whiskers: their middle half; dots: each run{left_out}"
