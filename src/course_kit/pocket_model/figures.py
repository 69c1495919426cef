"""The figures of the model card, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from course_kit.pocket_model import forms

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """The figures of the model card.

    Args:
        by_language_and_form: Exact answers to trained phrasings.
        by_language_and_topic: The same answers, by topic.
        held_out: Exact answers to phrasings held out of training, by language.
        refused_unknown: Held-out unanswerable questions refused, by language.
        refused_known: Answerable questions wrongly refused, by language.
        asked: All questions asked.
        unknown_asked: Unanswerable questions asked in each language.
        engine: What computed the answers.
        ordinary: Exact answers to questions as people ask them, by language and form. Empty, as
            what follows is, where it was not asked: for weights of plan 1.
        ordinary_unknown: Unanswerable questions as people ask them, refused.
        ordinary_known_refused: Answerable ones as people ask them, wrongly refused.
        calls_right: Right calls where a tool on offer fits.
        calls_undue: Calls where none fits.
        json_right: Exact answers where a small JSON object is asked for.
    """

    by_language_and_form: dict[str, dict[str, float]]
    by_language_and_topic: dict[str, dict[str, float]]
    held_out: dict[str, float]
    refused_unknown: dict[str, float]
    refused_known: dict[str, float]
    asked: int
    unknown_asked: int
    engine: str
    ordinary: dict[str, dict[str, float]] = field(default_factory=dict)
    ordinary_unknown: dict[str, float] = field(default_factory=dict)
    ordinary_known_refused: dict[str, float] = field(default_factory=dict)
    calls_right: dict[str, float] = field(default_factory=dict)
    calls_undue: dict[str, float] = field(default_factory=dict)
    json_right: dict[str, float] = field(default_factory=dict)

    def as_markdown(self) -> str:
        """Return the figures as Markdown tables: two, and two more for what was asked besides."""
        by_form = [
            [language, *(_percent(row.get(form)) for form in forms.FORMS)]
            for language, row in self.by_language_and_form.items()
        ]
        topics = ("capitals", "numbers", "terms", "small_talk")
        others = (self.held_out, self.refused_unknown, self.refused_known)
        by_topic = [
            [
                language,
                *(_percent(row.get(topic)) for topic in topics),
                *(_percent(column[language]) for column in others),
            ]
            for language, row in self.by_language_and_topic.items()
        ]
        more = ("new phrasings", "unknown refused", "known refused")
        return "\n\n".join(
            (
                _markdown(("exact answers, %", *forms.FORMS), by_form),
                _markdown(("by topic, %", *topics, *more), by_topic),
                *self._more(),
                f"{self.asked} questions asked.",
            )
        )

    def _more(self) -> tuple[str, ...]:
        if not self.ordinary:
            return ()
        asked = [form for form in forms.FORMS if any(form in row for row in self.ordinary.values())]
        by_form = [
            [language, *(_percent(row.get(form)) for form in asked)]
            for language, row in self.ordinary.items()
        ]
        columns = {
            "unknown refused": self.ordinary_unknown,
            "known refused": self.ordinary_known_refused,
            "calls right": self.calls_right,
            "calls undue": self.calls_undue,
            "JSON right": self.json_right,
        }
        others = [
            [language, *(_percent(column.get(language)) for column in columns.values())]
            for language in self.ordinary
        ]
        return (
            _markdown(("ordinary questions, %", *asked), by_form),
            _markdown(("ordinary questions and tools, %", *columns), others),
        )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.1f}"
