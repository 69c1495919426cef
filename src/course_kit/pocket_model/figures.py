"""The figures of the model card, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    by_language_and_form: dict[str, dict[str, float]]
    by_language_and_topic: dict[str, dict[str, float]]
    held_out: dict[str, float]
    refused_unknown: dict[str, float]
    refused_known: dict[str, float]
    asked: int
    unknown_asked: int
    engine: str

    def as_markdown(self) -> str:
        """Return the figures as two Markdown tables."""
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
                f"{self.asked} questions asked.",
            )
        )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.1f}"
