"""The catalogues of the package's messages: collected from its source, merged, checked, counted.

A translator edits `local_pipelines.po`; the package reads it as it is.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import string
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import polib

from course_kit.translate.catalogue import begin
from course_kit.translate.checks import TranslationFault
from course_kit.translate.gettext import GettextMissingError, gettext, merge
from course_kit.translate.progress import LEAST_PER_CENT
from course_kit.translate.weblate import MESSAGES
from local_pipelines.exercises.data import sentences as sentences_of_exercises
from local_pipelines.lessons.diagrams import wordings

__all__ = ["catalogues", "extract", "faults", "format_messages", "template_text", "update"]

DOMAIN = "local_pipelines"
KEYWORDS = {"tr": None, "mark": None, "ntr": (1, 2)}
_METHODS = {".py": "python", ".html": "jinja2"}  # how Babel reads files of a kind
# Tables beside the code, and the keys under which their rows have sentences.
_TABLES = {
    "*/sentences.toml": ("fact", "cause", "more", "next_step"),
    "lessons/explaining.toml": ("cause", "next_step", "fact"),
    "models/catalogue.toml": ("languages", "note"),
}
_WITHOUT_BLANKS = "、。，；：！？（）"  # Chinese marks bring their own space
_HEADER = """\
# Messages of the package local_pipelines.
# This file is distributed under the licence of the package.
#"""


def _folder(root: Path) -> Path:
    return root / MESSAGES


def template(root: Path) -> Path:
    """Return the file that all catalogues are merged with."""
    return _folder(root) / f"{DOMAIN}.pot"


def catalogues(root: Path) -> dict[str, Path]:
    """Find each language's catalogue."""
    found = sorted(_folder(root).glob(f"*/LC_MESSAGES/{DOMAIN}.po"))
    return {path.parts[-3]: path for path in found}


def template_text(root: Path) -> str:
    """Collect the messages of the package as the text of a template."""
    from babel.messages.catalog import Catalog
    from babel.messages.extract import extract_from_file
    from babel.messages.pofile import write_po

    package = root / "src" / DOMAIN
    catalogue = Catalog(project=DOMAIN, header_comment=_HEADER, fuzzy=False, charset="utf-8")
    for path in sorted(path for kind in _METHODS for path in package.rglob(f"*{kind}")):
        place = path.relative_to(package).as_posix()
        for line, message, comments, context in extract_from_file(
            _METHODS[path.suffix],
            path,
            keywords=KEYWORDS,
            comment_tags=["Translators:"],
            strip_comment_tags=True,
        ):
            catalogue.add(
                message,
                locations=[(place, line)],
                auto_comments=comments,
                flags=_flags(message),
                context=context,
            )
    for pattern, keys in _TABLES.items():
        for table in sorted(package.glob(pattern)):
            place = table.relative_to(package).as_posix()
            for message in _sentences(table, keys):
                catalogue.add(message, locations=[(place, 1)], flags=_flags(message))
    for table in sorted(package.glob("exercises/lessons/*.toml")):
        place = table.relative_to(package).as_posix()
        for message in sentences_of_exercises(table):
            catalogue.add(message, locations=[(place, 1)], flags=_flags(message))
    for path in sorted(package.rglob("*.svg")):
        for element in wordings(ET.parse(path).getroot()):  # noqa: S314 - our own
            place = path.relative_to(package).as_posix()
            catalogue.add(element.text, locations=[(place, 1)], flags=_flags(element.text or ""))
    stream = io.BytesIO()
    # Places without line numbers, and no date: a template changes when a message does.
    write_po(stream, catalogue, width=0, include_lineno=False, omit_header=True)
    return f'{_HEADER}\nmsgid ""\nmsgstr ""\n{_FIELDS}\n{stream.getvalue().decode("utf-8")}'


def _sentences(table: Path, keys: Collection[str]) -> Iterator[str]:
    """What stands under some keys in the rows of a table, lists of language codes left out."""
    content = tomllib.loads(table.read_text("utf-8"))
    tables = (each if isinstance(each, list) else [each] for each in content.values())
    for row in itertools.chain.from_iterable(tables):
        for text in filter(None, map(row.get, keys)):
            if not re.fullmatch(r"[a-z]{2}(, [a-z]{2})*", text):
                yield text


_FIELDS = """"Project-Id-Version: local-pipelines\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"""


def _flags(message: str | tuple[str, ...]) -> set[str]:
    text = message if isinstance(message, str) else message[0]
    return {"python-brace-format"} if placeholders(text) else set()


def placeholders(text: str) -> set[str]:
    """The names in braces of a message; empty where its braces are Python's own.

    >>> sorted(placeholders("{done} of {total}")), placeholders("{'a': 1}")
    (['done', 'total'], set())

    Args:
        text: A message or its translation.
    """
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:
        return set()
    return names if all(name.isidentifier() for name in names) else set()


def extract(root: Path) -> list[Path]:
    """Write the template, where the repository has a package with messages."""
    if not _folder(root).is_dir():
        return []
    template(root).write_text(template_text(root), encoding="utf-8", newline="\n")
    return [template(root)]


def update(root: Path, languages: Collection[str] = ()) -> None:
    """Merge the template into the catalogues: a changed message becomes fuzzy, with its old text.

    Args:
        root: The repository.
        languages: Languages that get a catalogue if they have none.

    Raises:
        GettextMissingError: GNU gettext is not installed.
        subprocess.CalledProcessError: One of its programs failed.
    """
    if not template(root).is_file():
        return
    for code in languages:
        path = _folder(root) / code / "LC_MESSAGES" / f"{DOMAIN}.po"
        if not path.exists():
            begin(path, code, f"Messages of the package {DOMAIN}.")
    for path in catalogues(root).values():
        merge(path, template(root))


# --- checking -----------------------------------------------------------------------------------


def faults(root: Path, languages: Collection[str] = ()) -> Iterator[TranslationFault]:
    """Look for what is wrong: an old template, missing, fuzzy or broken translations.

    Args:
        root: The repository.
        languages: The languages to look at; all by default.
    """
    if not _folder(root).is_dir():
        return
    if not template(root).exists() or template(root).read_text("utf-8") != template_text(root):
        place = f"{MESSAGES}/{DOMAIN}.pot"
        yield TranslationFault(place, "[stale] run `make translations`: the source has changed")
    for language, path in catalogues(root).items():
        if not languages or language in languages:
            place = f"{MESSAGES}/{language}/LC_MESSAGES/{path.name}"
            for sentence, message in _faults_of(path, template(root)):
                yield TranslationFault(place, sentence, message)


def _faults_of(path: Path, template: Path) -> Iterator[tuple[str, str]]:
    catalogue, source = polib.pofile(str(path)), polib.pofile(str(template))
    wanted = {(entry.msgid, entry.msgid_plural) for entry in source}
    here = {(e.msgid, e.msgid_plural): e for e in catalogue if not e.obsolete}
    for key in sorted(wanted ^ here.keys()):
        yield "[stale] not merged: run `make translations`", key[0]
    due = [entry for entry in here.values() if not _may_wait(entry)]
    translated = sum(entry.translated() for entry in due)
    is_begun_only = translated < len(due) * LEAST_PER_CENT / 100  # stat tells how much it has
    for entry in due:
        if not entry.translated():
            if not is_begun_only:
                yield "[message] fuzzy" if entry.fuzzy else "[message] not translated", entry.msgid
            continue
        for text in entry.msgstr_plural.values() or [entry.msgstr]:
            if reason := _wrong(entry, text):
                yield f"[message] {reason}", entry.msgid
    try:
        gettext("msgfmt", "--check", f"--output-file={os.devnull}", path)
    except subprocess.CalledProcessError as error:
        yield f"[msgfmt] {error.stderr.strip()}", ""
    except GettextMissingError:
        pass  # the other checks hold without it


def _may_wait(entry: Any) -> bool:
    """Whether it is a sentence of an exercise that is not translated yet: its text says so."""
    places = [place for place, _ in entry.occurrences]
    return not entry.translated() and all(p.startswith("exercises/lessons/") for p in places)


def _wrong(entry: Any, text: str) -> str:
    """What a translation loses of its message; empty if nothing."""
    message = entry.msgid
    # A form for one may leave the number out, one for all numbers needs it.
    if placeholders(text) not in [placeholders(message), placeholders(entry.msgid_plural)]:
        return "other placeholders"
    if message.count("{{") != text.count("{{"):
        return "other braces"
    if message.count("`") != text.count("`"):
        return "other code spans"
    for end in (slice(1), slice(-1, None)):
        if (message[end] == " ") != (text[end] == " ") and text[end] not in _WITHOUT_BLANKS:
            return "other blanks at its ends"
    return ""


def format_messages(root: Path) -> str:
    """Write how much of the package's messages each language has, a line a language."""
    lines = []
    for language, path in catalogues(root).items():
        catalogue = polib.pofile(str(path))
        done, total = len(catalogue.translated_entries()), len(catalogue)
        lines.append(f"\nMessages of the package, {language}: {done} of {total}.")
    return "".join(lines)
