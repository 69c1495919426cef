"""Continuous batching by transformers: when one answer ends, the next prompt takes its place.

Whether that is faster depends on the GPU, the model and the kernels that are installed. So it is
tried in the middle of a long call, and then the faster way is kept. On a CPU it is not tried:
there it took five to seven times as long as batches that end with their last row.

Whatever goes wrong here costs no answer. The prompts without one are computed in ordinary batches,
and `last_batch.reason` says why.
"""

from __future__ import annotations

import copy
import logging
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from local_pipelines._growing import GrowingAnswer
from local_pipelines._memory import free_memory
from local_pipelines._messages import tr
from local_pipelines._turns import is_wanted

if TYPE_CHECKING:
    from local_pipelines._torch_engine import Row, TorchRun

__all__ = ["Verdict", "share"]

choice: Literal["auto", "always", "never"] = "auto"
"""Tests set "always" to run this where it would not be chosen."""

_TRIAL = 5  # batches: one to warm up, one to time, two to time here, and some to gain from
_BETTER = 1.1  # times as fast: less than that is noise
_BLOCK = 32  # tokens that the memory for keys and values is handed out by
_STEP_TOKENS = 1024  # of all prompts together in one step
_GLANCE = 0.2  # seconds
# These look at one step's scores alone. Others need a row's earlier tokens, which are not here.
_STEPWISE = frozenset(
    {
        "MinPLogitsWarper",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
    }
)


@dataclass(frozen=True)
class Verdict:
    """Whether a model is to be run this way, and why."""

    use: bool
    reason: str


_verdicts: weakref.WeakKeyDictionary[object, Verdict] = weakref.WeakKeyDictionary()


def share(run: TorchRun, waiting: deque[list[Row]]) -> Verdict | None:
    """Answer those batches that are better answered this way; the others stay in `waiting`.

    Args:
        run: The request.
        waiting: Its batches.

    Returns:
        What was found out about this model; None if there was no question.
    """
    if choice == "never" or not waiting or not _is_possible(run):
        return None
    known = Verdict(True, "") if choice == "always" else _verdicts.get(run.model)
    if known is None and len(waiting) >= _TRIAL:
        known = _verdicts[run.model] = _tried(run, waiting)
    elif known and known.use and len(waiting) == 1 and choice == "auto":
        return None  # no prompt waits for a place
    if known and known.use:
        failure = _answer(run, waiting, len(waiting))
        if failure:
            known = _verdicts[run.model] = Verdict(False, failure)
    return known


def _is_possible(run: TorchRun) -> bool:
    if choice == "auto" and (
        run.device.type != "cuda"
        or len(set(getattr(run.model, "hf_device_map", None) or {"": 0})) > 1
    ):
        return False
    config = run.config
    plain = (config.num_beams or 1) == 1 and (config.num_return_sequences or 1) == 1
    return (
        plain
        and not run.is_special
        and hasattr(run.model, "init_continuous_batching")
        and _is_stepwise(run)
    )


def _is_stepwise(run: TorchRun) -> bool:
    """Whether the next token of a row depends on nothing but the scores for it."""
    if run.config.min_new_tokens or run.config.begin_suppress_tokens:
        return False  # made only where the prompt's length is known
    try:
        processors = run.model._get_logits_processor(copy.deepcopy(run.config))
    except Exception:  # noqa: BLE001 - such options belong to the other way
        return False
    return all(type(each).__name__ in _STEPWISE for each in processors)


def _tried(run: TorchRun, waiting: deque[list[Row]]) -> Verdict:
    """Answer a few batches each way, and say which was faster."""
    run.answer_batches(waiting, most=1)  # the first batch ever is slow
    static = _rate(run, lambda: run.answer_batches(waiting, most=1))
    failures: list[str] = []
    continuous = _rate(run, lambda: failures.append(_answer(run, waiting, 2)))
    if failures[0]:
        return Verdict(False, failures[0])
    reason = tr("Continuous batching is {ratio:.1f} times as fast as other batches here.").format(
        ratio=continuous / static
    )
    return Verdict(continuous > _BETTER * static, reason)


def _rate(run: TorchRun, work: Any) -> float:
    before, start = run.written, time.perf_counter()
    work()
    return max(1, run.written - before) / (time.perf_counter() - start)


def _answer(run: TorchRun, waiting: deque[list[Row]], batches: int) -> str:
    """Take batches out of `waiting` and answer them.

    What has no answer in the end is put back.

    Returns:
        Why there are such; empty if there are none.
    """
    rows = [row for _ in range(batches) for row in waiting.popleft()]
    failure = ""
    with _quiet() as errors:
        try:
            with _paged(run.model):
                _Feed(run, rows).answer()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other way is open
            # If its thread has died, only the log knows of what.
            cause = next(iter([*errors, str(error), type(error).__name__]))
            line = cause.partition("\n")[0].rstrip(".")
            failure = tr("Continuous batching was given up: {error}.").format(error=line)
    if failure:
        free_memory()
        waiting.extendleft(reversed(list(run.batches(run.unanswered(rows)))))
    return failure


@dataclass(eq=False)
class _Seat:
    """A row that is being computed."""

    row: Row
    growing: GrowingAnswer
    start: float
    seen: int = 0


class _Feed:
    """Keeps as many rows at work as the batch size allows, until all are answered."""

    def __init__(self, run: TorchRun, rows: list[Row]) -> None:
        self._run = run
        self._rows = rows
        self._waiting = deque(rows)
        self._seats: dict[str, _Seat] = {}
        self._size = run.request.batch_size

    def answer(self) -> None:
        manager = self._manager()
        manager.start()
        try:
            while (self._waiting or self._seats) and is_wanted(self._run.request.stopped):
                self._fill(manager)
                output = manager.get_result(timeout=_GLANCE)
                if output is not None:
                    self._take(output, manager)
                elif not manager.is_running():
                    raise RuntimeError("its thread has ended")
        finally:
            for name in self._seats:  # it would compute them to their end
                manager.cancel_request(name)
            manager.stop(block=True)
        self._run.note_size(len(self._rows))

    def _manager(self) -> Any:
        from transformers import ContinuousBatchingConfig

        config = copy.deepcopy(self._run.config)
        if config.eos_token_id is None:
            config.eos_token_id = -1  # else transformers warns, and writes the same
        return self._run.model.init_continuous_batching(
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(
                block_size=_BLOCK,
                # Room for all: a row that is put off and taken up again loses count of its tokens.
                num_blocks=self._blocks(),
                max_batch_tokens=max(_STEP_TOKENS, self._size),
                use_async_batching=False,  # a row that stops is to stop at once
                allow_block_sharing=False,
            ),
        )

    def _blocks(self) -> int:
        needed = [-(-(len(row.ids) + self._run.room(row)) // _BLOCK) + 1 for row in self._rows]
        return sum(sorted(needed, reverse=True)[: self._size])

    def _fill(self, manager: Any) -> None:
        while self._waiting and len(self._seats) < self._size:
            row = self._waiting.popleft()
            growing = GrowingAnswer(row.ids, self._run.decode, self._run.ends)
            name = f"row {row.index}"
            self._seats[name] = _Seat(row, growing, time.perf_counter())
            manager.add_request(row.ids, name, max_new_tokens=self._run.room(row), streaming=True)

    def _take(self, output: Any, manager: Any) -> None:
        """Take the tokens of one row so far."""
        seat = self._seats.get(output.request_id)
        if seat is None:  # it has ended at a stop string a moment ago
            return
        if output.error:
            raise RuntimeError(output.error)
        tokens = list(output.generated_tokens[seat.seen :])
        seat.seen += len(tokens)
        finished = output.is_finished()
        self._grow(seat, tokens)
        if finished or seat.growing.reason:
            del self._seats[output.request_id]
            if not finished:
                manager.cancel_request(output.request_id)
            seat.growing.finish()
            ended = (seat.growing.text, seat.growing.count, seat.growing.reason)
            self._run.take([seat.row], [ended], time.perf_counter() - seat.start)

    def _grow(self, seat: _Seat, tokens: list[int]) -> None:
        for token in tokens:
            if seat.growing.reason:
                return
            window = seat.growing.push([token])
            seat.growing.take(self._run.decode([window])[0])


@contextmanager
def _paged(model: Any) -> Iterator[None]:
    """Give a model back its own attention; the manager puts in another."""
    before = model.config._attn_implementation
    try:
        yield
    finally:
        if model.config._attn_implementation != before:
            model.set_attn_implementation(before)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep its logger from writing to stderr, and give the errors that it would have written."""
    logger = logging.getLogger("ContinuousBatchingLogger")
    errors: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            errors.append(record.getMessage())
        return False

    logger.addFilter(keep)
    try:
        yield errors
    finally:
        logger.removeFilter(keep)
