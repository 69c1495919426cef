"""What runs in each of Ray's processes: one chain, loaded once, that answers part after part."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from local_pipelines.chains.asking import Asking, error_text, storable
from local_pipelines.scale_out.inputs import Reader, Ticket
from local_pipelines.scale_out.parts import Form
from local_pipelines.scale_out.records import Record

_TOKENS = ("input_tokens", "output_tokens", "total_tokens")


@dataclass(frozen=True)
class Job:
    """What a worker has to do."""

    factory: Callable[[], Any]
    read: Reader
    form: Form
    retry_errors: bool


class Worker:
    """Answers the rows of tickets and writes each part before it reports it.

    Args:
        packed: A job, packed by Ray's pickle.
    """

    def __init__(self, packed: bytes) -> None:
        start = time.perf_counter()
        self._problem = ("", "")  # a table of sentences.toml, and what to say
        try:
            self._job: Job = pickle.loads(packed)  # noqa: S301 - the driver packed it
            self._chain = self._job.factory()
        except Exception as error:  # noqa: BLE001 - told in a sentence, not in Ray's two pages
            self._problem = ("factory-failed", f"{type(error).__name__}: {error_text(error)}")
        self._load_seconds = time.perf_counter() - start

    def __call__(self, tickets: Any) -> Any:
        """Work off one ticket; tell how many rows were done, or what went wrong."""
        import pyarrow as pa

        ticket: Ticket = pickle.loads(tickets["ticket"][0].as_py())  # noqa: S301 - likewise
        failed, (problem, said) = 0, self._problem
        try:
            failed = 0 if problem else self._work(ticket)
        except Exception as error:  # noqa: BLE001 - a full disk, a file that is gone
            problem, said = "workers-failed", f"{type(error).__name__}: {error_text(error)}"
        told = {
            "rows": ticket.rows,
            "failed": failed,
            "load_seconds": self._load_seconds,
            "problem": problem,
            "said": said,
        }
        return pa.table({name: [value] for name, value in told.items()})

    def _work(self, ticket: Ticket) -> int:
        form, kept = self._job.form, {}
        if form.path(ticket.number).is_file():
            if not self._job.retry_errors:  # Ray asks again for what a killed worker had reported
                return form.failed(ticket.number)
            written = enumerate(form.read(ticket.number))
            kept = {place: row for place, row in written if row["error"] is None}
        records = self._job.read(ticket)
        missing = [place for place in range(ticket.rows) if place not in kept]
        done = dict(zip(missing, self._answers([records[p] for p in missing]), strict=True))
        rows = [{**records[p].fields, **(kept.get(p) or done[p])} for p in range(ticket.rows)]
        form.write(ticket.number, rows)
        return sum(row["error"] is not None for row in rows)

    def _answers(self, records: list[Record]) -> list[dict[str, Any]]:
        """The columns that are added: an answer or an error for each row, and what it cost."""
        good = [each for each in records if not each.error]
        counters = [TokenCounter() for _ in good]
        configs = [{"callbacks": [counter]} for counter in counters]
        # answered=1: that all rows fail is no reason to end here; each row says why.
        outputs = Asking(self._chain, answered=1).outputs([each.asked for each in good], configs)
        answers = iter(zip(outputs, counters, strict=True))
        return [
            _result(error=each.error) if each.error else _answered(*next(answers))
            for each in records
        ]


def _answered(output: Any, counter: TokenCounter) -> dict[str, Any]:
    if isinstance(output, Exception):
        return _result(error=error_text(output), usage=counter.usage)
    return _result(output=storable(output), usage=counter.usage)


def _result(output: Any = None, usage: Any = None, error: str | None = None) -> dict[str, Any]:
    return {"output": output, "usage": usage, "error": error}


class TokenCounter(BaseCallbackHandler):
    """Adds up the tokens of one row, whatever its chain asks a model for."""

    def __init__(self) -> None:
        self.usage: dict[str, int] | None = None

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """Add what an answer cost, where the model says it."""
        for generation in (each for group in response.generations for each in group):
            message = getattr(generation, "message", None)
            told = getattr(message, "usage_metadata", None) or generation.generation_info or {}
            if all(name in told for name in _TOKENS):
                before = self.usage or dict.fromkeys(_TOKENS, 0)
                self.usage = {name: before[name] + int(told[name]) for name in _TOKENS}
