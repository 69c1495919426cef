"""What `run_on_ray` gives back: what became of the rows, and the rows as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_pipelines.scale_out.inputs import Inputs, Ticket
from local_pipelines.scale_out.parts import Form
from local_pipelines.wording.messages import ntr, tr


class RayRun:
    """A run on Ray. Iterate over it for its rows, in the input's order.

    Attributes:
        folder: Where the answers are.
        rows: How many rows the input has.
        answered: How many have an answer.
        failed: How many have an error in an answer's place.
        resumed: How many of all these were done before this call.
        seconds: How long this call took.
        ray_seconds: Of these, until Ray stood.
        load_seconds: How long the slowest worker took to load its chain.
        first_seconds: How long it took until the first rows were reported.
    """

    def __init__(self, form: Form, inputs: Inputs, kept: Any = None) -> None:
        self.folder: Path = form.folder
        self.rows = inputs.rows
        self.answered = self.failed = self.resumed = 0
        self.seconds = self.ray_seconds = self.load_seconds = self.first_seconds = 0.0
        self._form, self._inputs = form, inputs
        self._kept = kept  # a temporary folder, which goes with this object

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for ticket in self._inputs.tickets:
            if self._is_there(ticket):
                yield from self._form.read(ticket.number)

    def missing(self, retry_errors: bool) -> list[Ticket]:
        """Count what is done, and give the tickets of what is not."""
        missing, there = [], {path.name for path in self.folder.iterdir()}
        for ticket in self._inputs.tickets:
            if self._form.path(ticket.number).name not in there:
                missing.append(ticket)
                continue
            failed = self._form.failed(ticket.number)
            again = retry_errors and failed > 0
            self.resumed += ticket.rows - (failed if again else 0)
            if again:
                missing.append(ticket)
            else:
                self.count({"rows": ticket.rows, "failed": failed, "load_seconds": 0.0})
        return missing

    def count(self, result: dict[str, Any]) -> None:
        """Add what a worker reports of a part."""
        self.answered += result["rows"] - result["failed"]
        self.failed += result["failed"]
        self.load_seconds = max(self.load_seconds, result["load_seconds"])

    @property
    def done(self) -> int:
        """How many rows are in the folder now, reported or not."""
        return sum(each.rows for each in self._inputs.tickets if self._is_there(each))

    def _is_there(self, ticket: Ticket) -> bool:
        return self._form.path(ticket.number).is_file()

    def stopped(self) -> str:
        """Say, after an interruption, what is kept and how to go on."""
        told = tr(
            "Stopped: {done} of {total} rows are done and kept in {folder}. "
            "Call run_on_ray again as before, and it goes on from there."
        )
        return told.format(done=self.done, total=self.rows, folder=self.folder.name)

    def __repr__(self) -> str:
        told = ntr(
            "{number} row of {name}, answered in {folder}.",
            "{number} rows of {name}, answered in {folder}.",
            self.rows,
        )
        names = {"name": self._inputs.name, "folder": self.folder.name}
        lines = [told.format(number=self.rows, **names)]
        if self.failed:
            told = ntr(
                '{number} has an "error" in place of an "output".',
                '{number} have an "error" in place of an "output".',
                self.failed,
            )
            lines.append(told.format(number=self.failed))
        if self.resumed:
            told = tr("{number} of them were done before this call.")
            lines.append(told.format(number=self.resumed))
        return "\n".join(lines)
