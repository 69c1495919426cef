"""Continuous batching by transformers: when one answer ends, the next prompt takes its place.

Whether that is faster depends on the GPU, the model and the kernels that are installed, so it is
chosen by hand: `batching="continuous"`. On a CPU it is refused: there it took five to seven times
as long as batches that end with their last row.

Whatever goes wrong here costs no answer. The prompts without one are computed in ordinary batches,
and `last_batch.reason` says why.
"""

from __future__ import annotations

import copy
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from local_pipelines.engines.growing import GrowingAnswer, grow_together
from local_pipelines.engines.memory import free_memory
from local_pipelines.engines.torch_run import TokenizedPrompt, TorchRun
from local_pipelines.engines.turns import is_wanted
from local_pipelines.errors import ParameterError
from local_pipelines.wording.messages import tr

_BLOCK = 32  # tokens that the memory for keys and values is handed out by
_STEP_TOKENS = 1024  # of all prompts together in one step
_GLANCE = 0.2  # seconds
# These look at one step's scores alone. Others need a row's earlier tokens, which are not here.
_STEPWISE = frozenset(
    {"MinPLogitsWarper", "TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper"}
)


def check_device(pipeline: Any) -> None:
    """Raise ParameterError if a pipeline's model is not whole on one GPU of CUDA's."""
    places = set((getattr(pipeline.model, "hf_device_map", None) or {"": 0}).values())
    if kind_of_device(pipeline) != "cuda" or len(places) > 1:
        raise not_on_a_gpu()


def not_on_a_gpu() -> ParameterError:
    """The error for continuous batching where it does not help."""
    return ParameterError(
        tr('batching="continuous" is for a model that lies whole on one CUDA GPU.'),
        tr("Elsewhere it is slower than ordinary batches."),
        tr("Leave batching out."),
    )


def kind_of_device(pipeline: Any) -> str:
    """The kind of device a model is on: cpu, cuda, xpu, mps."""
    return str(pipeline.device.type)


def why_not(run: TorchRun) -> str:
    """Why a request cannot be answered this way; empty if it can."""
    is_there = hasattr(run.model, "init_continuous_batching")
    if run.is_single and not run.is_special and is_there and _is_stepwise(run):
        return ""
    return tr("Continuous batching cannot do what these options ask for.")


def _is_stepwise(run: TorchRun) -> bool:
    """Whether the next token of a row depends on nothing but the scores for it."""
    if run.config.min_new_tokens or run.config.begin_suppress_tokens:
        return False  # made only where the prompt's length is known
    try:
        processors = run.model._get_logits_processor(copy.deepcopy(run.config))
    except Exception:  # noqa: BLE001 - such options belong to the other way
        return False
    return all(type(each).__name__ in _STEPWISE for each in processors)


@dataclass(eq=False)
class _Seat:
    """A row that is being computed."""

    prompt: TokenizedPrompt
    growing: GrowingAnswer
    start: float
    seen: int = 0


class ContinuousRun:
    """Keeps as many rows at work as the batch size allows, until all are answered."""

    def __init__(self, run: TorchRun, rows: list[TokenizedPrompt]) -> None:
        self._run = run
        self._rows = rows
        self._waiting = deque(rows)
        self._seats: dict[str, _Seat] = {}
        self._size = run.request.batch_size

    def answer(self) -> str:
        """Answer the prompts; give the reason if some have no answer."""
        failure = ""
        with _quiet() as errors:
            try:
                with _own_attention(self._run.model):
                    self._answer()
            except Exception as error:  # noqa: BLE001 - whatever it is, the other way is open
                # If its thread has died, only the log knows of what.
                cause = next(iter([*errors, str(error), type(error).__name__]))
                line = cause.partition("\n")[0].rstrip(".")
                failure = tr("Continuous batching was given up: {error}.").format(error=line)
        if failure:
            free_memory()
        return failure

    def _answer(self) -> None:
        manager = self._manager()
        manager.start()
        try:
            while (self._waiting or self._seats) and is_wanted(self._run.request.stopped):
                self._add_requests(manager)
                output = manager.get_result(timeout=_GLANCE)
                if output is not None:
                    self._receive(output, manager)
                elif not manager.is_running():
                    raise RuntimeError("its thread has ended")
        finally:
            for name in self._seats:  # it would compute them to their end
                manager.cancel_request(name)
            manager.stop(block=True)

    def _manager(self) -> Any:
        from transformers import ContinuousBatchingConfig

        config = copy.deepcopy(self._run.config)
        if config.eos_token_id is None:
            config.eos_token_id = -1  # else transformers warns, and writes the same
        most = [len(row.ids) + self._run.longest_answer(row) for row in self._rows]
        blocks = sorted((-(-tokens // _BLOCK) + 1 for tokens in most), reverse=True)
        return self._run.model.init_continuous_batching(
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(
                block_size=_BLOCK,
                # Room for all: a row that is put off and taken up again loses count of its tokens.
                num_blocks=sum(blocks[: self._size]),
                max_batch_tokens=max(_STEP_TOKENS, self._size),
                use_async_batching=False,  # a row that stops is to stop at once
                allow_block_sharing=False,
            ),
        )

    def _add_requests(self, manager: Any) -> None:
        while self._waiting and len(self._seats) < self._size:
            row = self._waiting.popleft()
            growing = GrowingAnswer(row.ids, self._run.decode, self._run.ends)
            name = f"row {row.index}"
            self._seats[name] = _Seat(row, growing, time.perf_counter())
            most = self._run.longest_answer(row)
            manager.add_request(row.ids, name, max_new_tokens=most, streaming=True)

    def _receive(self, output: Any, manager: Any) -> None:
        """Take the tokens of one row so far."""
        seat = self._seats.get(output.request_id)
        if seat is None:  # it has ended at a stop string a moment ago
            return
        if output.error:
            raise RuntimeError(output.error)
        tokens = list(output.generated_tokens[seat.seen :])
        seat.seen += len(tokens)
        finished = output.is_finished()
        for token in tokens:
            if not seat.growing.reason:
                list(grow_together([seat.growing], [[token]], self._run.decode))
        if finished or seat.growing.reason:
            del self._seats[output.request_id]
            if not finished:
                manager.cancel_request(output.request_id)
            seat.growing.finish()
            self._run.keep([seat.prompt], [seat.growing.ended], time.perf_counter() - seat.start)


@contextmanager
def _own_attention(model: Any) -> Iterator[None]:
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
