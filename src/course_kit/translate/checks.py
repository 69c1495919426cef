"""`translations check`: everything that may keep a translation from landing."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from course_kit.notebooks.pages import read_as_stored
from course_kit.translate.build import build
from course_kit.translate.catalogue import entries, extract, orphans, update
from course_kit.translate.gettext import gettext
from course_kit.translate.glossary import Term, faults_in, read_glossary
from course_kit.translate.languages import Language, find_languages, plural_forms
from course_kit.translate.links import translated_place
from course_kit.translate.parity import compare_notebooks
from course_kit.translate.sources import Source, find_sources
from course_kit.translate.unit_checks import Entry, find_faults
from course_kit.translate.weblate import MESSAGES

__all__ = ["TranslationFault", "check"]


_ORPHAN = "rename it as its page was renamed, or delete it if the page is gone for good"


@dataclass(frozen=True)
class TranslationFault:
    """Something that must be mended before a translation lands.

    Attributes:
        place: The file.
        sentence: What is wrong.
        text: The English text that it is about, if it is about one.
    """

    place: str
    sentence: str
    text: str = ""

    def __str__(self) -> str:
        excerpt = f"\n    {self.text[:100]}" if self.text else ""
        return f"{self.place}: {self.sentence}{excerpt}"


def check(
    root: Path, languages: tuple[str, ...] = (), *, stale: bool = True
) -> list[TranslationFault]:
    """Look for faults in the catalogues, the glossaries and the translated pages.

    Args:
        root: The repository.
        languages: Their codes; all by default.
        stale: Look also for pages and catalogues that are not what the tool would write.

    Returns:
        The faults.
    """
    chosen = [one for one in find_languages(root) if not languages or one.code in languages]
    faults = [fault for language in chosen for fault in _language_faults(root, language)]
    return faults + (list(stale_files(root, languages)) if stale else [])


def _language_faults(root: Path, language: Language) -> Iterator[TranslationFault]:
    glossary = language.folder / "glossary.tsv"
    place = glossary.relative_to(root).as_posix()
    wrong = faults_in(glossary)
    yield from (TranslationFault(place, f"[glossary] {fault}") for fault in wrong)
    terms = () if wrong else read_glossary(glossary)
    sources = find_sources(root)
    for source in sources:
        yield from _catalogue_faults(language, source, terms)
        yield from _page_faults(language, source)
    for orphan in orphans(language, sources):
        text = f"[orphan] no page has this name: {_ORPHAN}"
        yield TranslationFault(orphan.relative_to(root).as_posix(), text)


def _catalogue_faults(
    language: Language, source: Source, terms: tuple[Term, ...]
) -> Iterator[TranslationFault]:
    path = language.catalogue(source.domain)
    if not path.is_file():
        return
    place = path.relative_to(source.root).as_posix()
    try:
        gettext("msgfmt", "--check", f"--output-file={os.devnull}", path)
    except subprocess.CalledProcessError as error:
        yield TranslationFault(place, f"[msgfmt] {error.stderr.strip()}")
        return
    yield from _header_faults(language, path, place)
    for entry in entries(path):
        if entry.translated():
            kinds = frozenset(entry.comment.split(", "))
            unit = Entry(language, kinds, entry.msgid, entry.msgstr, terms)
            for fault in find_faults(unit, _overruled(entry.tcomment)):
                yield TranslationFault(place, fault, entry.msgid)


def _overruled(comment: str) -> frozenset[str]:
    lines = (line.removeprefix("ok:") for line in comment.splitlines() if line.startswith("ok:"))
    return frozenset(word.strip(",") for line in lines for word in line.split())


def _header_faults(language: Language, path: Path, place: str) -> Iterator[TranslationFault]:
    import polib

    header = polib.pofile(str(path)).metadata
    wanted = {"Language": language.code, "Plural-Forms": plural_forms(language.code)}
    for name, value in wanted.items():
        if header.get(name, "").rstrip(";") != value.rstrip(";"):
            yield TranslationFault(place, f"[header] {name} must be “{value}”")


def _page_faults(language: Language, source: Source) -> Iterator[TranslationFault]:
    page = source.root / translated_place(source.place, language)
    if source.is_notebook and page.is_file():
        place = page.relative_to(source.root).as_posix()
        for fault in compare_notebooks(source.notebook, read_as_stored(page), language):
            yield TranslationFault(place, fault)


# --- stale or edited by hand --------------------------------------------------------------------


def stale_files(root: Path, languages: tuple[str, ...] = ()) -> Iterator[TranslationFault]:
    """Run extract, update and build on a copy, and tell what they would change.

    Args:
        root: The repository.
        languages: The languages to look at; all by default.
    """
    with TemporaryDirectory(prefix="translations-") as folder:
        copy = Path(folder)
        _copy(root, copy)
        extract(copy)
        try:
            update(copy)
        except subprocess.CalledProcessError as error:
            yield TranslationFault(
                "i18n", f"[stale] the catalogues cannot be merged: {error.stderr.strip()}"
            )
            return
        build(copy)
        for place in sorted(_files(root) | _files(copy)):
            here, there = root / place, copy / place
            parts = Path(place).parts
            other = parts[0] == "i18n" and parts[1] != "templates" and languages
            if (not other or parts[1] in languages) and not _same(here, there):
                yield TranslationFault(
                    place, "[stale] run `make translations`: it is not what the tool writes"
                )


def _copy(root: Path, copy: Path) -> None:
    for name in ("pyproject.toml", "README.md", ".env.example"):
        if (root / name).is_file():
            shutil.copy(root / name, copy / name)
    if (root / MESSAGES).is_dir():
        (copy / MESSAGES).mkdir(parents=True)
    for place in _files(root):
        (copy / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / place, copy / place)


def _files(root: Path) -> set[str]:
    found = [*root.glob("notebooks/[0-9]*.ipynb"), root / "README.md"]
    found += [path for path in root.glob("i18n/**/*") if path.is_file()
              and ".ipynb_checkpoints" not in path.parts]  # fmt: skip
    return {path.relative_to(root).as_posix() for path in found if path.is_file()}


def _same(here: Path, there: Path) -> bool:
    return here.is_file() and there.is_file() and filecmp.cmp(here, there, shallow=False)
