"""The package's sentences in the learner's language: gettext's catalogues, read when first needed.

A message is written in English where it is raised, `tr("{model} is gated.").format(model=…)`: a
plain text with names in braces, so that tools can collect it. English needs no catalogue, and
costs a look at the environment.

The languages are the folders of `locale/`. Their `.po` files are read as they are, by polib, in
place of compiled `.mo` files: nothing binary has to be committed, and nothing built before a clone
or an editable installation speaks the language of its newest translation.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gettext import NullTranslations

CHOICE = "LOCAL_PIPELINES_LANGUAGE"
"""The variable that `setup_environment(language=…)` sets, so that child processes have it too."""

# The order of the standard library's gettext, after our own.
_VARIABLES = (CHOICE, "LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
_FOLDER = Path(__file__).parents[1] / "locale"
_DOMAIN = "local_pipelines"
_ENGLISH = {"c", "posix", "en"}
# Chinese is written in two ways; a territory or a script says which.
_ALIASES = {"zh": "zh_CN", "zh_hans": "zh_CN", "zh_cn": "zh_CN", "zh_sg": "zh_CN"}
_TRADITIONAL = ("zh_hant", "zh_tw", "zh_hk", "zh_mo")
_lock = threading.Lock()


def tr(message: str) -> str:
    """Give a message in the language that is chosen now, or in English where it has no translation.

    Args:
        message: The English text, a literal; what varies stands in braces and is filled in
            afterwards, by `.format(…)`.
    """
    chosen = language()
    return message if chosen == "en" or not message else _catalogue(chosen).gettext(message)


def tr_marked(message: str) -> str:
    """Do as `tr`, and write "[EN]" before a message that has no translation yet, as pages do."""
    text = tr(message)
    return f"[EN] {text}" if text == message and language() != "en" else text


def ntr(one: str, many: str, number: int) -> str:
    """Give the form of a message that goes with a number: the first for 1, else the second."""
    chosen = language()
    if chosen == "en":
        return one if number == 1 else many
    return _catalogue(chosen).ngettext(one, many, number)


def mark(message: str) -> str:
    """Mark a literal for the catalogues without translating it yet: `tr` does, when it is shown."""
    return message


def language() -> str:
    """The language of the messages, as the environment stands now: "en", or a catalogue's name."""
    return _language(tuple(os.environ.get(name, "") for name in _VARIABLES))


@cache
def _language(values: tuple[str, ...]) -> str:
    for value in filter(None, values):
        # The first variable that is set decides, as in gettext; it may list several languages.
        found = (find_language(tag) for tag in value.split(":"))
        return next(filter(None, found), "en")
    return "en"


def find_language(tag: str) -> str | None:
    """Look up the catalogue for a language, written as people and systems do; None without one.

    >>> find_language("fr-CA"), find_language("zh_Hans"), find_language("es_ES.UTF-8")
    ('fr', 'zh_CN', 'es')
    """
    name = tag.partition(".")[0].partition("@")[0].strip().replace("-", "_").lower()
    if name.partition("_")[0] in _ENGLISH:
        return "en"  # without a look at the disk
    if name.startswith(_TRADITIONAL):
        return None
    known = {each.lower(): each for each in available_languages()}
    while name:
        found = _ALIASES.get(name, name).lower()
        if found in known:
            return known[found]
        name = name.rpartition("_")[0]
    return None


@cache
def available_languages() -> tuple[str, ...]:
    """List the languages that there are catalogues for, English first."""
    found = _FOLDER.glob(f"*/LC_MESSAGES/{_DOMAIN}.po")
    return ("en", *sorted(path.parts[-3] for path in found))


def _catalogue(name: str) -> NullTranslations:
    with _lock:  # two threads that show their first message at a time read it once
        return _read_catalogue(name)


@cache
def _read_catalogue(name: str) -> NullTranslations:
    import io
    from gettext import GNUTranslations, NullTranslations

    try:
        import polib

        text = (_FOLDER / name / "LC_MESSAGES" / f"{_DOMAIN}.po").read_text(encoding="utf-8")
        # As compiled by msgfmt, so that the plural rules are the standard library's work.
        return GNUTranslations(io.BytesIO(polib.pofile(text).to_binary()))
    except (ImportError, OSError, UnicodeError, ValueError):
        return NullTranslations()  # a message in English is better than none
