"""Small rules of writing that all messages share: lists, sentences, sizes, the nearest word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from local_pipelines.wording.messages import tr


def listed(words: Sequence[str]) -> str:
    """Write words as a list: `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    others = tr(", ").join(words[:-1])
    return tr("{others} and {last}").format(others=others, last=words[-1])


def sentence(part: str) -> str:
    """Make a sentence of its words: with a full stop."""
    return tr("{sentence}.").format(sentence=part)


def paragraph(*sentences: str) -> str:
    """Put sentences one after another; Chinese puts no blank after its full stop."""
    said = (each if each.endswith("。") else f"{each} " for each in sentences if each)
    return "".join(said).rstrip(" ")


def capitalised(text: str) -> str:
    """Write the first letter as a capital, and leave the others as they are."""
    return text[:1].upper() + text[1:]


def fragment(text: str) -> str:
    """Take the full stop off a sentence that is to stand inside another."""
    return text.rstrip(".。")


def gigabytes(size: int | None) -> str:
    """A size in bytes for people: decimal units, as the Hub's pages have them."""
    if size is None:
        return "?"
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 100 * unit else f"{size / unit:.0f} {name}"
    return f"{size / 1e3:.0f} kB"


def nearest(word: object, words: Iterable[str]) -> str | None:
    """The one of `words` that was probably meant by a misspelt one; None if none is near."""
    found = difflib.get_close_matches(str(word), list(words), n=1)
    return found[0] if found else None
