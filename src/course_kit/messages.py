"""The catalogues of the package's messages: collect them from the source, merge, check, count.

`extract` writes the template, `update` merges it into each language's catalogue, and `check` says
what is missing or wrong. A translator edits `local_pipelines.po`; the package reads it as it is.
"""

from __future__ import annotations

import argparse
import io
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_kit.notebooks.pages import find_root

__all__ = ["Fault", "catalogues", "extract", "faults", "main", "template_text", "update"]

DOMAIN = "local_pipelines"
_TO_TRANSLATORS = "Translators:"
KEYWORDS = {"tr": None, "mark": None, "ntr": (1, 2)}
_WITHOUT_BLANKS = "、。，；：！？（）"  # Chinese marks bring their own space
_HEADER = """\
# Messages of the package local_pipelines.
# This file is distributed under the licence of the package.
#"""


@dataclass(frozen=True)
class Fault:
    """Something wrong in a catalogue.

    Args:
        language: The catalogue's language.
        message: The English message; empty if it is about the whole file.
        reason: What is wrong.
    """

    language: str
    message: str
    reason: str

    def __str__(self) -> str:
        return f"{self.language}: {self.reason}" + (f": {self.message!r}" if self.message else "")


def _folder() -> Path:
    return find_root() / "src" / DOMAIN / "locale"


def template() -> Path:
    """The file that all catalogues are merged with."""
    return _folder() / f"{DOMAIN}.pot"


def catalogues() -> dict[str, Path]:
    """Each language's catalogue."""
    found = sorted(_folder().glob(f"*/LC_MESSAGES/{DOMAIN}.po"))
    return {path.parts[-3]: path for path in found}


# --- extracting ---------------------------------------------------------------------------------


def template_text() -> str:
    """Collect the messages of the package as the text of a template."""
    from babel.messages.catalog import Catalog
    from babel.messages.extract import extract_from_file
    from babel.messages.pofile import write_po

    package = find_root() / "src" / DOMAIN
    catalogue = Catalog(project=DOMAIN, header_comment=_HEADER, fuzzy=False, charset="utf-8")
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).as_posix()
        for line, message, comments, context in extract_from_file(
            "python",
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
    stream = io.BytesIO()
    # Places without line numbers, and no date: a template changes when a message does.
    write_po(stream, catalogue, width=0, include_lineno=False, omit_header=True)
    return f'{_HEADER}\nmsgid ""\nmsgstr ""\n{_FIELDS}\n{stream.getvalue().decode("utf-8")}'


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

    Args:
        text: A message or its translation.
    """
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:
        return set()
    return names if all(name.isidentifier() for name in names) else set()


def extract() -> Path:
    """Write the template."""
    template().parent.mkdir(parents=True, exist_ok=True)
    template().write_text(template_text(), encoding="utf-8", newline="\n")
    return template()


# --- merging ------------------------------------------------------------------------------------


def update(languages: Sequence[str] = ()) -> None:
    """Merge the template into the catalogues: a changed message becomes fuzzy, with its old text.

    Args:
        languages: Languages to begin, beside those that there are.

    Raises:
        FileNotFoundError: GNU gettext is not installed.
        subprocess.CalledProcessError: One of its programs failed.
    """
    for language in languages:
        path = _folder() / language / "LC_MESSAGES" / f"{DOMAIN}.po"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _gettext(
                "msginit", "--no-translator", "--no-wrap", "--input", str(template()),
                "--locale", language, "--output-file", str(path),
            )  # fmt: skip
    for path in catalogues().values():
        _gettext(
            "msgmerge", "--quiet", "--update", "--backup=none", "--previous", "--no-wrap",
            str(path), str(template()),
        )  # fmt: skip
        _gettext("msgattrib", "--no-obsolete", "--no-wrap", "--output-file", str(path), str(path))


def _gettext(program: str, *words: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"{program} is missing: install GNU gettext (package gettext).")
    done = subprocess.run(
        [found, *words], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return done.stdout + done.stderr


# --- checking -----------------------------------------------------------------------------------


def faults() -> Iterator[Fault]:
    """Look for what is wrong: an old template, missing, fuzzy or broken translations."""
    if not template().exists() or template().read_text(encoding="utf-8") != template_text():
        yield Fault("en", "", "the template is not that of the source: run messages extract")
    for language, path in catalogues().items():
        yield from _faults_of(language, path)


def _faults_of(language: str, path: Path) -> Iterator[Fault]:
    import polib

    catalogue, source = polib.pofile(str(path)), polib.pofile(str(template()))
    wanted = {(entry.msgid, entry.msgid_plural) for entry in source}
    here = {(e.msgid, e.msgid_plural): e for e in catalogue if not e.obsolete}
    for key in sorted(wanted ^ here.keys()):
        yield Fault(language, key[0], "not merged: run messages update")
    for entry in here.values():
        if entry.fuzzy:
            yield Fault(language, entry.msgid, "fuzzy")
        elif not entry.translated():
            yield Fault(language, entry.msgid, "not translated")
        else:
            for text in entry.msgstr_plural.values() or [entry.msgstr]:
                if reason := _wrong(entry, text):
                    yield Fault(language, entry.msgid, reason)
    if shutil.which("msgfmt"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                _gettext("msgfmt", "--check", "-o", str(Path(folder) / "out.mo"), str(path))
            except subprocess.CalledProcessError as error:
                yield Fault(language, "", str(error.stderr).strip())


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


def statistics() -> str:
    """How much of the package's messages each language has, a line a language."""
    import polib

    lines = []
    for language, path in catalogues().items():
        catalogue = polib.pofile(str(path))
        done, total = len(catalogue.translated_entries()), len(catalogue)
        lines.append(f"{language:<7}{done:>5} of {total}  {100 * done // max(total, 1):>3} %")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m course_kit messages …`.

    Args:
        argv: The words after the command.

    Returns:
        0, or 1 if `check` found something.
    """
    parser = argparse.ArgumentParser(prog="course_kit messages", description=__doc__)
    parser.add_argument("action", choices=["extract", "update", "check", "stat"])
    parser.add_argument("languages", nargs="*", help="with update: languages to begin")
    choice = parser.parse_args(argv)
    if choice.action in {"extract", "update"}:
        print(f"wrote {extract().relative_to(find_root())}")
    if choice.action == "update":
        update(choice.languages)
    if choice.action in {"update", "stat"}:
        print(statistics())
    if choice.action == "check":
        found = list(faults())
        print(*found, sep="\n", file=sys.stderr) if found else print("all messages are translated")
        return int(bool(found))
    return 0
