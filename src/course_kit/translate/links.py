"""Links of a translated page: to pages of its language where there are some, else English."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from course_kit.notebooks.pages import repository_url
from course_kit.translate.languages import Language
from course_kit.translate.units import CODE_SPAN

__all__ = ["adjust_links", "translated_place"]

_FENCE = re.compile(r"^[ \t>]*(```|~~~).*?^[ \t>]*\1", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"""(\]\(\s*<?|^\[[^\]]+\]:\s*<?|\b(?:href|src)\s*=\s*["'])([^)\s>"']+)""",
                     re.MULTILINE)  # fmt: skip
_HOSTED = re.compile(r"https://(?P<host>colab\.research\.google\.com/github|github\.com)"
                     r"/(?P<repository>[\w.-]+/[\w.-]+)/blob/\w+/(?P<place>[^?#]+)")  # fmt: skip


def translated_place(place: str, language: Language) -> str:
    """Return where the translation of a page stands, from the repository's root."""
    return f"i18n/{language.code}/{place}"


def adjust_links(
    markdown: str, place: str, language: Language, published: Collection[str], root: Path
) -> str:
    """Make the links of an English page right for its translation.

    Args:
        markdown: The text.
        place: The English page, from the repository's root.
        language: The language.
        published: The English pages that have a translation.
        root: The repository.

    Returns:
        The text with other targets; code is left alone.
    """
    code = [m.span() for pattern in (_FENCE, CODE_SPAN) for m in pattern.finditer(markdown)]
    own = repository_url(root).removeprefix("https://github.com/")

    def adjust(match: re.Match[str]) -> str:
        if any(start <= match.start(2) < end for start, end in code):
            return match[0]
        return match[1] + _adjust(match[2], place, language, published, own)

    return _TARGET.sub(adjust, markdown)


def _adjust(
    target: str, place: str, language: Language, published: Collection[str], own: str
) -> str:
    hosted = _HOSTED.match(target)
    if hosted and hosted["repository"] == own and hosted["place"] in published:
        moved = target[: hosted.start("place")] + translated_place(hosted["place"], language)
        return moved if hosted["host"] == "github.com" else f"{moved}?hl={language.tag}"
    if re.match(r"[a-z][a-z0-9+.-]*:|#|//", target, re.IGNORECASE):
        return target
    path, mark, fragment = target.partition("#")
    there = os.path.normpath(PurePosixPath(place).parent / unquote(path)).replace(os.sep, "/")
    if there in published:
        there = translated_place(there, language)
    here = PurePosixPath(translated_place(place, language)).parent
    relative = os.path.relpath(there, here).replace(os.sep, "/")
    return quote(relative) + mark + fragment
