"""Times a callable honestly: several runs, their spread, and candidates in turn, not one by one.

A machine's speed drifts while it works, by a factor of two and more where somebody else uses it,
too. Hence a median with its quartiles instead of one number, and ratios of runs that stood side by
side in time instead of ratios of two medians.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from local_pipelines.errors import LocalPipelinesError, ParameterError, failure
from local_pipelines.lessons.measurements import Label, Measurement, Measurements, divide
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.wording.sentences import told
from local_pipelines.workbench.checks import whole_number

Count = float | Callable[[Any], float] | None


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
    (result,) = _measure_all({label: function}, repeat, warm_up, count, unit)
    return result


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
    results = _measure_all(functions, repeat, warm_up, count, unit)
    first = results[0]
    return Measurements(replace(result, ratios=_ratios(first, result)) for result in results)


def _ratios(first: Measurement, other: Measurement) -> tuple[float, ...]:
    if first.counts and other.counts:
        return tuple(map(divide, other.rates, first.rates))
    return tuple(map(divide, first.seconds, other.seconds))


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
        place = "failed-in-warm-up" if self.label == "" else "label-failed-in-warm-up"
        with _naming(told(place, label=self.label)):
            _check_result(self.function())

    def run(self) -> None:
        place = "failed-in-run" if self.label == "" else "label-failed-in-run"
        with _naming(told(place, label=self.label, number=len(self.seconds) + 1)):
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
    functions: Mapping[Label, Callable[[], Any]], repeat: int, warm_up: int, count: Count, unit: str
) -> list[Measurement]:
    whole_number("repeat", repeat, example=3)
    whole_number("warm_up", warm_up, 0, example=1)
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
        raise failure("count-gave", number=number)
    return float(number)


_LAZY = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, map, filter, zip)


def _check_result(result: Any) -> None:
    if not isinstance(result, _LAZY):
        return
    reason = "returned-generator"
    if isinstance(result, types.CoroutineType):
        result.close()  # else Python warns that nobody awaited it
        reason = "returned-coroutine"
    raise failure(reason, kind=type(result).__name__)


def _check_callable(label: Label, function: object) -> None:
    if callable(function):
        return
    reason = "no-function" if label == "" else "no-function-under-label"
    raise failure(reason, label=label, kind=type(function).__name__)


def _check_count(count: object) -> None:
    if isinstance(count, int | float) and not isinstance(count, bool):
        _counted(count, None)
    elif count is not None and not callable(count):
        raise failure("count-value", count=count)
