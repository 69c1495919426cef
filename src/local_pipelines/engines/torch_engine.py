"""Answers a request with transformers, in batches or, where that was chosen, in continuous ones."""

from __future__ import annotations

from local_pipelines.engines.request import GeneratedAnswer
from local_pipelines.engines.torch_continuous import ContinuousRun, why_not
from local_pipelines.engines.torch_run import TokenizedPrompt, TorchRun

__all__ = ["answer_request"]


def answer_request(run: TorchRun, *, continuous: bool = False) -> list[GeneratedAnswer]:
    """Answer all prompts of a request, in their order; `run.report` tells how.

    Args:
        run: The request, and the pipeline that answers it.
        continuous: Let the next prompt take the place of an answer that has ended.
    """
    run.set_seed()
    rows = run.tokenize()
    engine = "continuous" if continuous and len(rows) > 1 else "static"
    reason = ""
    try:
        if engine == "continuous" and (reason := _answer_continuously(run, rows)):
            engine = "static"
        run.answer_batches(run.unanswered(rows))
    finally:
        run.report = run.reported(engine=engine, reason=reason)
    return run.collected.in_order()


def _answer_continuously(run: TorchRun, rows: list[TokenizedPrompt]) -> str:
    """Answer what can be answered so; give the reason if something cannot."""
    return why_not(run) or ContinuousRun(run, rows).answer()
