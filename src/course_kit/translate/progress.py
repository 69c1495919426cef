"""How far the translation of a page is, and whether it is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from course_kit.translate.catalogue import entries
from course_kit.translate.languages import Language
from course_kit.translate.links import translated_place
from course_kit.translate.sources import Source, find_sources

__all__ = ["LEAST_PER_CENT", "Progress", "progress", "published"]

LEAST_PER_CENT = 80  # per cent; below that a page is not published


@dataclass(frozen=True)
class Progress:
    """How far the translation of a page is.

    Attributes:
        source: The English page.
        language: The language.
        total: Number of units.
        done: Units that are translated.
        fuzzy: Units whose English has changed since.
    """

    source: Source
    language: Language
    total: int
    done: int
    fuzzy: int

    @property
    def per_cent(self) -> int:
        """How much is translated in per cent, rounded down: 100 means all."""
        return 100 * self.done // self.total if self.total else 100

    @property
    def is_published(self) -> bool:
        """Whether enough is translated for a learner to read it."""
        return self.per_cent >= LEAST_PER_CENT

    @property
    def page(self) -> Path:
        """Where the translated page is."""
        return self.source.root / translated_place(self.source.place, self.language)


def progress(language: Language, source: Source) -> Progress:
    """Count a page's units and those that its catalogue has.

    Args:
        language: The language.
        source: The English page.
    """
    texts = [unit.text for _, unit in source.units()]
    catalogue = entries(language.catalogue(source.domain))
    finished = {entry.msgid for entry in catalogue if entry.translated()}
    fuzzy = {entry.msgid for entry in catalogue if entry.fuzzy}
    done, old = (sum(text in known for text in texts) for known in (finished, fuzzy))
    return Progress(source, language, len(texts), done, old)


def published(root: Path, language: Language) -> set[str]:
    """List the English pages that have a translation good enough to be read."""
    pages = (progress(language, source) for source in find_sources(root))
    return {page.source.place for page in pages if page.is_published}
