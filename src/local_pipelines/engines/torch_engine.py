"""Answers a request with transformers: in batches or, where that was chosen, in continuous ones.

In continuous batching the next prompt takes the place of one that is done. Whether that is faster
depends on the GPU, the model and the kernels that are installed, so it is chosen by hand:
`batching="continuous"`. On a CPU it is refused: there it took five to seven times as long.

Whatever goes wrong with it costs no answer. The prompts without one are computed in ordinary
batches, and `last_batch.reason` says why.
"""

from __future__ import annotations

import copy
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local_pipelines.engines.growing import GrowingAnswer, grow_together
from local_pipelines.engines.memory import free_memory
from local_pipelines.engines.request import GeneratedAnswer
from local_pipelines.engines.torch_run import TokenizedPrompt, TorchRun
from local_pipelines.engines.turns import is_wanted
from local_pipelines.errors import failure
from local_pipelines.wording.messages import tr

_BLOCK = 32  # tokens that the memory for keys and values is handed out by
_STEP_TOKENS = 1024  # of all prompts together in one step
_GLANCE = 0.2  # seconds
# These look at one step's scores alone. Others need a row's earlier tokens, which are not here.
_STEPWISE = frozenset(
    {"MinPLogitsWarper", "TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper"}
)


def answer_request(run: TorchRun, *, continuous: bool = False) -> list[GeneratedAnswer]:
    """Answer all prompts of a request, in their order; `run.report` tells how."""
    run.set_seed()
    rows = run.tokenize()
    continuous = continuous and len(rows) > 1
    reason = ""
    try:
        if continuous:
            reason = _answer_continuously(run, rows)
        run.answer_batches(run.unanswered(rows))
    finally:
        engine = "continuous" if continuous and not reason else "static"
        run.report = run.reported(engine=engine, reason=reason)
    return run.collected.in_order()


def check_device(pipeline: Any) -> None:
    """Raise ParameterError if a pipeline's model is not whole on one GPU of CUDA's."""
    places = set((getattr(pipeline.model, "hf_device_map", None) or {"": 0}).values())
    if kind_of_device(pipeline) != "cuda" or len(places) > 1:
        raise failure("continuous-needs-gpu")


def kind_of_device(pipeline: Any) -> str:
    """The kind of device a model is on: cpu, cuda, xpu, mps."""
    return str(pipeline.device.type)


def _answer_continuously(run: TorchRun, rows: list[TokenizedPrompt]) -> str:
    """Answer prompts; give the reason if some have no answer."""
    attention = run.model.config._attn_implementation  # the manager puts in another
    with _errors_of_its_log() as errors:
        try:
            if not _is_stepwise(run):
                return tr("Continuous batching cannot do what these options ask for.")
            manager = _manager(run, rows)
            manager.start()
            try:
                _answer_all(run, deque(rows), manager)
            finally:
                manager.stop(block=True)
            return ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the other way is open
            # If its thread has died, only the log knows of what.
            cause = next(iter([*errors, str(error), type(error).__name__]))
        finally:
            if run.model.config._attn_implementation != attention:
                run.model.set_attn_implementation(attention)
    free_memory()
    line = cause.partition("\n")[0].rstrip(".")
    return tr("Continuous batching was given up: {error}.").format(error=line)


def _is_stepwise(run: TorchRun) -> bool:
    """Whether the next token of a row depends on nothing but the scores for it."""
    config = run.config
    if not run.is_single or run.is_special or config.min_new_tokens or config.begin_suppress_tokens:
        return False
    processors = run.model._get_logits_processor(copy.deepcopy(config))
    return all(type(each).__name__ in _STEPWISE for each in processors)


def _manager(run: TorchRun, rows: list[TokenizedPrompt]) -> Any:
    from transformers import ContinuousBatchingConfig

    config = copy.deepcopy(run.config)
    if config.eos_token_id is None:
        config.eos_token_id = -1  # else transformers warns, and writes the same
    size = run.request.batch_size
    most = [len(row.ids) + run.longest_answer(row) for row in rows]
    blocks = sorted((-(-tokens // _BLOCK) + 1 for tokens in most), reverse=True)
    return run.model.init_continuous_batching(
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(
            block_size=_BLOCK,
            # Enough for all: a row that is put off and taken up again miscounts its tokens.
            num_blocks=sum(blocks[:size]),
            max_batch_tokens=max(_STEP_TOKENS, size),
            use_async_batching=False,  # a row that stops is to stop at once
            allow_block_sharing=False,
        ),
    )


def _answer_all(run: TorchRun, waiting: deque[TokenizedPrompt], manager: Any) -> None:
    """Keep as many rows at work as the batch size allows, until all are answered."""
    active: dict[str, tuple[TokenizedPrompt, GrowingAnswer, float]] = {}
    try:
        while (waiting or active) and is_wanted(run.request.stopped):
            while waiting and len(active) < run.request.batch_size:
                row, name = waiting.popleft(), f"row {len(waiting)}"
                growing = GrowingAnswer(row.ids, run.decode, run.ends)
                active[name] = (row, growing, time.perf_counter())
                most = run.longest_answer(row)
                manager.add_request(row.ids, name, max_new_tokens=most, streaming=True)
            output = manager.get_result(timeout=_GLANCE)
            if output is None and not manager.is_running():
                raise RuntimeError("its thread has ended")
            if output is None or output.request_id not in active:
                continue  # nothing yet, or of a row that a stop string ended a moment ago
            row, growing, start = active[output.request_id]
            if _has_ended(run, growing, output):
                del active[output.request_id]
                if not output.is_finished():
                    manager.cancel_request(output.request_id)
                run.keep([row], [growing.ended], time.perf_counter() - start)
    finally:
        for name in active:  # it would compute them to their end
            manager.cancel_request(name)


def _has_ended(run: TorchRun, growing: GrowingAnswer, output: Any) -> bool:
    """Add a row's new tokens to its answer, and say whether that has ended."""
    if output.error:
        raise RuntimeError(output.error)
    for token in output.generated_tokens[growing.count :]:
        list(grow_together([growing], [[token]], run.decode))
    if output.is_finished():
        list(grow_together([growing], [[]], run.decode, last=True))
    return bool(growing.reason) or output.is_finished()


@contextmanager
def _errors_of_its_log() -> Iterator[list[str]]:
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
