"""What is said about an answer."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

from local_pipelines.widgets.quiz import inline_html

State = Literal["right", "wrong", "unanswered"]
_MARKS = {"right": "✓", "wrong": "✗", "unanswered": "○"}


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether an answer is right, and why; true in an `if` where it is right."""

    id: str
    state: State
    text: str
    note: str = ""

    def __bool__(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        note = f"\n{self.note}" if self.note else ""
        return f"{_MARKS[self.state]} {self.id}: {self.text}{note}"

    def _repr_html_(self) -> str:
        parts = [f"{_MARKS[self.state]} <b>{escape(self.id)}</b> {inline_html(self.text)}"]
        parts += [escape(self.note)] if self.note else []
        return "".join(f"<p>{part}</p>" for part in parts)
