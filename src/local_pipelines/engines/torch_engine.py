"""Answers a request with transformers, in batches or, where that was chosen, in continuous ones."""

from __future__ import annotations

from local_pipelines.engines.request import GeneratedAnswer
from local_pipelines.engines.torch_continuous import ContinuousRun, why_not
from local_pipelines.engines.torch_run import TorchRun


def answer_request(run: TorchRun, *, continuous: bool = False) -> list[GeneratedAnswer]:
    """Answer all prompts of a request, in their order; `run.report` tells how."""
    run.set_seed()
    rows = run.tokenize()
    engine = "continuous" if continuous and len(rows) > 1 else "static"
    reason = ""
    try:
        if engine == "continuous" and (reason := why_not(run) or ContinuousRun(run, rows).answer()):
            engine = "static"
        run.answer_batches(run.unanswered(rows))
    finally:
        run.report = run.reported(engine=engine, reason=reason)
    return run.collected.in_order()
