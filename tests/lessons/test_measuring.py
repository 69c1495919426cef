"""Measuring: runs and their spread, candidates in turn, the table and the picture."""

from __future__ import annotations

import math
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local_pipelines import measure, measure_in_turn, plot_measurements
from local_pipelines.errors import ParameterError
from local_pipelines.lessons import measuring, plots
from local_pipelines.lessons.measurements import Measurement, Measurements


class Clock:
    """A clock that stands still unless somebody works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def work(self, *seconds: float, name: str = "", result: Any = None) -> Callable[[], Any]:
        """A function that takes these times, call by call, the last one from then on."""
        times = iter(seconds)
        last = seconds[-1]

        def function() -> Any:
            self.now += next(times, last)
            self.log.append(name)
            return result

        return function


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock.now)
    return clock


def interrupted_at(call: int, clock: Clock, seconds: float = 1.0) -> Callable[[], None]:
    calls = 0

    def function() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        clock.now += seconds

    return function


# --- one callable ------------------------------------------------------------------------------


def test_warm_up_runs_do_not_count(clock: Clock) -> None:
    """The slow first call is made, and is in no figure."""
    result = measure(clock.work(100.0, 1.0, 2.0, 3.0, name="run"), repeat=3)
    assert result.seconds == (1.0, 2.0, 3.0)
    assert len(clock.log) == 4


def test_no_warm_up_counts_the_first_run(clock: Clock) -> None:
    """With warm_up=0 the first call counts."""
    assert measure(clock.work(100.0, 1.0), repeat=2, warm_up=0).seconds == (100.0, 1.0)


def test_the_spread_is_kept(clock: Clock) -> None:
    """One slow run moves the maximum and leaves the median and the quartiles alone."""
    result = measure(clock.work(1.0, 2.0, 3.0, 4.0, 90.0), warm_up=0)
    assert (result.median, result.quartiles) == (3.0, (2.0, 4.0))
    assert (result.fastest, result.slowest) == (1.0, 90.0)


def test_one_run_is_its_own_quartiles(clock: Clock) -> None:
    """A single run has no spread, and no error either."""
    assert measure(clock.work(2.0), repeat=1).quartiles == (2.0, 2.0)


def test_the_last_result_is_kept(clock: Clock) -> None:
    """What the callable answered can be looked at afterwards."""
    assert measure(clock.work(1.0, result="Paris")).result == "Paris"


def test_the_clock_is_monotonic_and_real() -> None:
    """Without a stand-in the times are those of the real clock."""
    result = measure(lambda: sum(range(10_000)), repeat=3)
    assert all(0 < seconds < 60 for seconds in result.seconds)


@pytest.mark.parametrize("count", [12, lambda answer: len(answer.split()) * 6])
def test_a_rate_comes_from_a_number_or_from_the_result(clock: Clock, count: Any) -> None:
    """Items per second are counted by a number, or by a function of what came back."""
    result = measure(clock.work(2.0, 4.0, result="a b"), count=count, unit="tokens", warm_up=0)
    assert result.rates[:2] == (6.0, 3.0)
    assert result.rate == 3.0
    assert "tokens per second" in repr(result)


def test_a_list_counts_itself(clock: Clock) -> None:
    """What `batch` returns needs no count."""
    result = measure(clock.work(2.0, result=["a", "b", "c", "d"]))
    assert (result.rate, result.unit) == (2.0, "items")


def test_a_text_is_not_counted(clock: Clock) -> None:
    """An answer's characters are not taken for items."""
    assert measure(clock.work(2.0, result="Paris")).rate is None


def test_a_clock_too_coarse_gives_infinity_not_an_error(clock: Clock) -> None:
    """A run of no time at all has an infinite rate."""
    assert measure(clock.work(0.0), count=1).rate == math.inf


def test_stopping_keeps_the_runs_that_are_over(clock: Clock) -> None:
    """An interrupted measurement has its finished runs and says that it was interrupted."""
    result = measure(interrupted_at(4, clock), repeat=5)
    assert result.seconds == (1.0, 1.0)
    assert result.interrupted
    assert "interrupted" in repr(result)


@pytest.mark.parametrize("call", [1, 2])
def test_stopping_before_the_first_run_stops(clock: Clock, call: int) -> None:
    """Where nothing was measured there is nothing to keep, and the cell stops."""
    with pytest.raises(KeyboardInterrupt):
        measure(interrupted_at(call, clock))


def test_an_error_keeps_its_type_and_names_the_candidate() -> None:
    """`except` finds the error it expects, and the traceback says which candidate failed."""

    def broken() -> None:
        raise MemoryError("too large")

    with pytest.raises(MemoryError) as caught:
        measure(broken, label=64)
    text = "".join(traceback.format_exception(caught.value))
    assert "The measurement of 64 failed in its warm-up." in text


def test_a_sentence_of_ours_names_the_candidate_in_the_sentence() -> None:
    """A notebook shows only an error's sentences, so the label stands there."""
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise ParameterError("The prompt is empty.", next_step="Write one.")

    with pytest.raises(ParameterError) as caught:
        measure(broken, label="torch")
    assert caught.value.fact == ("The measurement of 'torch' failed in run 2. The prompt is empty.")
    assert caught.value.next_step == "Write one."


def _generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> None: ...


@pytest.mark.parametrize("function", [_generator, _coroutine, lambda: map(str, [1])])
def test_what_has_done_nothing_yet_is_not_timed(function: Callable[[], Any]) -> None:
    """`llm.stream(…)` returns at once: timing it would measure nothing."""
    with pytest.raises(ParameterError, match="done nothing yet"):
        measure(function)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"repeat": 0}, "repeat=0"),
        ({"repeat": 2.5}, "repeat=2.5"),
        ({"warm_up": -1}, "warm_up=-1"),
        ({"count": "words"}, "neither a number nor a function"),
        ({"count": -1}, "no number of items"),
        ({"count": lambda _: "many"}, "'many', which is no number"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], words: str) -> None:
    """A number of runs or a count that cannot be is refused by its name."""
    with pytest.raises(ParameterError, match=words):
        measure(lambda: None, **arguments)


def test_a_forgotten_lambda_is_explained() -> None:
    """The result of a call instead of a function gets the word that is missing."""
    with pytest.raises(ParameterError, match="Write `lambda:` before it"):
        measure("Paris", label="x")  # type: ignore[arg-type]


# --- candidates in turn ------------------------------------------------------------------------


def test_candidates_take_turns(clock: Clock) -> None:
    """Runs alternate, so that a machine that slows down slows all candidates."""
    measure_in_turn({"A": clock.work(1.0, name="A"), "B": clock.work(1.0, name="B")}, repeat=2)
    assert clock.log == ["A", "B"] * 3


def test_ratios_are_taken_pair_by_pair(clock: Clock) -> None:
    """A machine that becomes four times slower does not change the ratio."""
    slow, fast = (1.0, 1.0, 4.0, 4.0, 4.0), (0.5, 0.5, 2.0, 2.0, 2.0)
    results = measure_in_turn(
        {"slow": clock.work(*slow), "fast": clock.work(*fast)}, repeat=5, warm_up=0
    )
    assert results[0].ratio == 1.0
    assert results[1].ratios == (2.0,) * 5


def test_ratios_compare_rates_where_items_are_counted(clock: Clock) -> None:
    """Twice the tokens in the same time is twice as fast."""
    results = measure_in_turn(
        {"a": clock.work(1.0, result="x"), "b": clock.work(1.0, result="x x")},
        count=lambda answer: len(answer.split()),
        unit="tokens",
    )
    assert results[1].ratio == 2.0


def test_stopping_keeps_all_candidates_runs(clock: Clock) -> None:
    """An interrupted round keeps what was measured of every candidate."""
    functions: dict[Any, Any] = {"A": clock.work(1.0), "B": interrupted_at(3, clock, 0.5)}
    results = measure_in_turn(functions, repeat=5, warm_up=0)
    assert [len(result.seconds) for result in results] == [3, 2]
    assert results[1].ratios == (2.0, 2.0)
    assert all(result.interrupted for result in results)


def test_nothing_to_measure_is_an_error() -> None:
    """No candidate at all is told, not measured."""
    with pytest.raises(ParameterError, match="nothing to measure"):
        measure_in_turn({})


# --- the table ---------------------------------------------------------------------------------


@pytest.fixture
def results(clock: Clock) -> Measurements:
    return measure_in_turn(
        {"torch <fp32>": clock.work(2.0), "GenAI": clock.work(0.5, 0.25)}, count=8, unit="tokens"
    )


def test_measurements_are_a_table(results: Measurements) -> None:
    """Each candidate is a row with its median, spread, rate and ratio."""
    head, first, second = repr(results).splitlines()
    assert head.split()[:2] == ["label", "median"]
    assert "tokens per second" in head
    assert first.startswith("torch <fp32>  2.00 s")
    assert second.split()[:3] == ["GenAI", "250", "ms"]
    assert "8.00" in second


def test_the_table_in_a_notebook_is_escaped(results: Measurements) -> None:
    """Labels are text in the notebook's table, whatever characters they have."""
    html = results._repr_html_()
    assert "torch &lt;fp32&gt;" in html
    assert html.count("<tr>") == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1234.5, "1,234 s"),
        (1.5, "1.50 s"),
        (0.0123, "12.3 ms"),
        (4.5e-6, "4.50 µs"),
        (2e-9, "2 ns"),
    ],
)
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    """A time has three digits and the unit that suits it."""
    assert repr(Measurement(label="", seconds=(seconds,))).startswith(text)


# --- the picture -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")


def line(clock: Clock) -> list[Measurement]:
    """What a lesson on batches measures: one size after the other."""
    return [
        measure(clock.work(1.0, 1.1, 0.9, result=["x"] * size), label=size)
        for size in (1, 2, 4, 8, 16)
    ]


def test_numbers_make_a_line(clock: Clock) -> None:
    """Growing batch sizes are a line with a mark at each size, in the order of the sizes."""
    axes = plot_measurements(line(clock)[::-1], x="batch_size", y="answers per second").axes[0]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 4, 8, 16]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["16", "8", "4", "2", "1"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch_size", "answers per second")
    assert axes.get_ylim()[0] == 0


def test_names_make_bars(results: Measurements) -> None:
    """Engines are bars, one each, whose height is the median rate."""
    axes = plot_measurements(results, title="Speed").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [4.0, 32.0]
    assert axes.get_ylabel() == "tokens per second"
    assert axes.get_title() == "Speed"


@pytest.mark.parametrize("y", ["seconds", "milliseconds", "times as fast", "tokens per second"])
def test_a_picture_speaks_the_learners_language(
    results: Measurements, y: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written in it goes through the catalogues: the axis, the mark and the legend."""
    monkeypatch.setattr(plots, "tr", lambda text: f"«{text}»")
    figure = plot_measurements(results, y=y)
    (axes,) = figure.axes
    said = [axes.get_ylabel(), figure.get_supxlabel(), *(text.get_text() for text in axes.texts)]
    assert len(said) == 3
    assert [text for text in said if "«" not in text] == []


def test_a_picture_holds_no_letters_that_its_font_lacks(
    results: Measurements, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Chinese its words stay English: matplotlib's font would draw boxes, and warn."""
    monkeypatch.setenv("LOCAL_PIPELINES_LANGUAGE", "zh_CN")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_measurements(results, y="seconds").canvas.draw()


@pytest.mark.parametrize(("y", "best"), [("tokens per second", 1.0), ("seconds", 1.0)])
def test_the_best_is_marked(results: Measurements, y: str, best: float) -> None:
    """The mark is at the highest rate, or at the shortest time."""
    axes = plot_measurements(results, y=y).axes[0]
    assert [(text.get_text(), text.xy[0]) for text in axes.texts] == [("best", best)]
    assert not plot_measurements(results, y=y, mark_best=False).axes[0].texts


def test_ratios_can_be_drawn(results: Measurements) -> None:
    """Candidates measured in turn can be drawn as multiples of the first."""
    bars = plot_measurements(results, y="times as fast").axes[0].patches
    assert [bar.get_height() for bar in bars] == [1.0, 8.0]


def test_times_are_drawn_where_nothing_was_counted(clock: Clock) -> None:
    """Without counts the picture shows seconds."""
    assert plot_measurements([measure(clock.work(1.0))]).axes[0].get_ylabel() == "seconds"


def test_a_run_far_off_does_not_stretch_the_axis(clock: Clock) -> None:
    """One run a hundred times slower is told below the picture and leaves the others visible."""
    result = measure(clock.work(1.0, 1.1, 1.2, 1.3, 100.0), warm_up=0, label="A")
    figure = plot_measurements([result])
    assert figure.axes[0].get_ylim()[1] < 3
    assert "1 above the picture" in figure._supxlabel.get_text()


def test_the_figure_is_shown_once(clock: Clock) -> None:
    """A notebook shows open figures at the cell's end, and the returned one: this one is closed."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    before = plt.get_fignums()
    assert isinstance(plot_measurements(line(clock)), Figure)
    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ("times as fast", "measure_in_turn"),
        ("answers", "nothing that was measured"),
        ("tokens per second", "answers were counted, not tokens"),
    ],
)
def test_what_was_not_measured_is_not_drawn(clock: Clock, y: str, words: str) -> None:
    """An axis that promises other figures than were measured is refused."""
    result = measure(clock.work(1.0), count=3, unit="answers")
    with pytest.raises(ParameterError, match=words):
        plot_measurements([result], y=y)


def test_a_rate_that_was_not_counted_is_not_drawn(clock: Clock) -> None:
    """A rate without counts is refused, with the argument that is missing."""
    with pytest.raises(ParameterError, match="count="):
        plot_measurements([measure(clock.work(1.0), label="A")], y="tokens per second")


def test_nothing_to_draw_is_an_error() -> None:
    """An empty list is told, not drawn."""
    with pytest.raises(ParameterError, match="nothing to draw"):
        plot_measurements([])


def test_the_public_name_is_the_function(run_python: Callable[..., str]) -> None:
    """`measure` stays the function, whichever of its neighbours is looked up first."""
    code = (
        "import local_pipelines; local_pipelines.plot_measurements; "
        "from local_pipelines import measure; print(callable(measure))"
    )
    assert run_python(code).strip() == "True"
