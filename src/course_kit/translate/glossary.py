"""The glossary of a language: one translation for a term, everywhere."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Term", "faults_in", "read_glossary", "terms_in"]

COLUMNS = ["term", "translation", "pattern", "note"]


@dataclass(frozen=True)
class Term:
    """A line of a glossary.

    Attributes:
        english: The term in the singular.
        translation: The one word, or words, for it.
        pattern: A regular expression for its inflected forms; the translation's stems by default.
        note: What a translator should know.
    """

    english: str
    translation: str
    pattern: str = ""
    note: str = ""

    @cached_property
    def _english(self) -> re.Pattern[str]:
        words = re.escape(self.english).replace(r"\ ", r"\s+")
        plural = re.sub(r"y$", "(?:y|ies)", words) if words.endswith("y") else f"{words}(?:e?s)?"
        flags = 0 if self.english.isupper() else re.IGNORECASE
        return re.compile(rf"(?<![\w-]){plural}(?![\w-])", flags)

    @cached_property
    def _translation(self) -> re.Pattern[str]:
        return re.compile(self.pattern or stems(self.translation), re.IGNORECASE)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Find the term in an English text."""
        return [match.span() for match in self._english.finditer(text)]

    def is_used(self, text: str) -> bool:
        """Tell whether the translation stands in a text."""
        return bool(self._translation.search(text))


def stems(translation: str) -> str:
    """Make a pattern of a translation: of long words the end may change, for number and gender."""

    def stem(word: str) -> str:
        if not word.isalpha() or len(word) < 5 or re.search(r"[\u3040-\uffef]", word):
            return re.escape(word) + ("" if re.search(r"[\u3040-\uffef]", word) else "[sx]?")
        return re.escape(word[:-1] if len(word) < 7 else word[:-2]) + r"\w*"

    return r"[\s\u00a0]+".join(stem(word) for word in translation.split())


def read_glossary(path: Path) -> tuple[Term, ...]:
    """Read a glossary; none where there is no file.

    Args:
        path: The file, with tabs between its columns.

    Returns:
        The terms that have a translation, the longest first.
    """
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    terms = (Term(*((row.get(name) or "").strip() for name in COLUMNS)) for row in rows)
    return tuple(sorted((t for t in terms if t.translation), key=lambda t: -len(t.english)))


def terms_in(text: str, terms: Sequence[Term]) -> Iterator[Term]:
    """Find the terms of a text; `chat template` hides the `template` within it."""
    for term in terms:
        found = term.spans(text)
        if found:
            yield term
        for start, end in found:
            text = text[:start] + "\0" * (end - start) + text[end:]


def faults_in(path: Path) -> list[str]:
    """Check a glossary itself: a term twice, a pattern that does not fit its own translation."""
    terms = read_glossary(path)
    names = [term.english.lower() for term in terms]
    faults = [f"the term “{name}” stands there twice" for name in sorted({*names})
              if names.count(name) > 1]  # fmt: skip
    for term in terms:
        try:
            if not term.is_used(term.translation):
                faults.append(f"the pattern of “{term.english}” does not fit its translation")
        except re.error as error:
            faults.append(f"the pattern of “{term.english}” is wrong: {error}")
    return faults
