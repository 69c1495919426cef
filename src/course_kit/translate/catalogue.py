"""The catalogues: written by polib, merged and checked by GNU gettext's own programs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import polib

from course_kit.translate.gettext import gettext, merge
from course_kit.translate.languages import Language, find_languages, plural_forms
from course_kit.translate.sources import Source, find_sources
from course_kit.translate.weblate import components

__all__ = ["begin", "entries", "extract", "orphans", "template", "translations", "update"]


def template(source: Source) -> Path:
    """Return the file with a page's English units."""
    return source.root / "i18n/templates" / f"{source.domain}.pot"


def extract(root: Path) -> list[Path]:
    """Write the templates of all pages, and remove those of pages that are gone.

    Args:
        root: The repository.

    Returns:
        The templates.
    """
    written = []
    for source in find_sources(root):
        path = template(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(_template(source)) + "\n", encoding="utf-8", newline="\n")
        written.append(path)
    for path in set((root / "i18n/templates").glob("*.pot")) - set(written):
        path.unlink()
    components(root)
    return written


def _template(source: Source) -> polib.POFile:
    catalogue = polib.POFile(wrapwidth=0)
    catalogue.header = f"Texts of {source.place}.\nDistributed under the licence of the course."
    catalogue.metadata = _metadata()
    entries: dict[str, polib.POEntry] = {}
    for reference, unit in source.units():
        entry = entries.setdefault(unit.text, polib.POEntry(msgid=unit.text))
        kinds = [kind for kind in entry.comment.split(", ") if kind]
        entry.comment = ", ".join(dict.fromkeys([*kinds, unit.kind]))
        if (reference, "") not in entry.occurrences:
            entry.occurrences.append((reference, ""))
    catalogue.extend(entries.values())
    return catalogue


def _metadata() -> dict[str, str]:
    return {
        "Project-Id-Version": "local-pipelines",
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
    }


def update(root: Path, languages: Collection[str] = ()) -> None:
    """Merge the templates into the catalogues of all languages.

    A unit whose English changed becomes fuzzy and keeps its old English beside it. A unit whose
    English stands, or stood, on another page gets the translation of that one; a page that was
    renamed takes its catalogue along.

    Args:
        root: The repository.
        languages: Their codes; all by default.

    Raises:
        GettextMissingError: GNU gettext is not installed.
    """
    sources = find_sources(root)
    for language in find_languages(root):
        if languages and language.code not in languages:
            continue
        memory = _memory(language, sources)  # before merging, which drops what moved elsewhere
        for source in sources:
            _merge(language, source, sources)
        for source in sources:
            _remember(language.catalogue(source.domain), memory)
        _remove_orphans(language, sources)


def orphans(language: Language, sources: list[Source]) -> list[Path]:
    """List the catalogues whose page is gone: it was deleted, or renamed and changed at once.

    Args:
        language: The language.
        sources: All pages.
    """
    wanted = {language.catalogue(source.domain) for source in sources}
    return sorted(set((language.folder / "LC_MESSAGES").glob("*.po")) - wanted)


def _memory(language: Language, sources: list[Source]) -> dict[str, str]:
    """Collect every finished translation there is, also of pages and units that are gone."""
    memory: dict[str, str] = {}
    paths = [language.catalogue(source.domain) for source in sources]
    for path in [*filter(Path.is_file, paths), *orphans(language, sources)]:
        gone = polib.pofile(str(path)).obsolete_entries()
        old = {entry.msgid: entry.msgstr for entry in gone if entry.msgstr and not entry.fuzzy}
        memory = old | translations(path) | memory
    return memory


def _merge(language: Language, source: Source, sources: list[Source]) -> None:
    path = language.catalogue(source.domain)
    if not path.exists():
        _begin_page(path, language, source, orphans(language, sources))
    merge(path, template(source))


def _begin_page(path: Path, language: Language, source: Source, old: list[Path]) -> None:
    """Begin a catalogue: with that of the page's old name, where more than half of it fits."""
    units = {unit.text for _, unit in source.units()}
    catalogue = polib.POFile(wrapwidth=0)
    for orphan in old:
        known = translations(orphan).keys()
        if 2 * len(known & units) > len(known):
            catalogue = polib.pofile(str(orphan), wrapwidth=0)
            orphan.unlink()
            page = language.folder / "notebooks" / f"{orphan.stem}.ipynb"
            if page.is_file():
                page.replace(page.with_stem(path.stem))  # for its outputs
            break
    begin(path, language.code, f"{source.place} in {language.name}.", catalogue)


def begin(path: Path, code: str, title: str, catalogue: polib.POFile | None = None) -> None:
    """Write a catalogue under a language's header.

    Args:
        path: The file.
        code: The language.
        title: What it is, for its first line.
        catalogue: Its entries; none yet if not given.
    """
    catalogue = polib.POFile(wrapwidth=0) if catalogue is None else catalogue
    catalogue.header = title
    own = {"Language": code, "Plural-Forms": plural_forms(code)}
    catalogue.metadata = {**catalogue.metadata, **_metadata(), **own}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(catalogue) + "\n", encoding="utf-8", newline="\n")


def _remember(path: Path, memory: dict[str, str]) -> None:
    catalogue = polib.pofile(str(path), wrapwidth=0)
    # What was translated word for word is better than what msgmerge found to be like it.
    found = [e for e in catalogue if e.msgid in memory and (not e.msgstr or e.previous_msgid)]
    if found:
        for entry in found:
            entry.msgstr, entry.previous_msgid = memory[entry.msgid], None
            entry.flags = [flag for flag in entry.flags if flag != "fuzzy"]
        catalogue.save(str(path))
        gettext("msgattrib", "--no-wrap", "--output-file", path, path)


def _remove_orphans(language: Language, sources: list[Source]) -> None:
    for path in orphans(language, sources):
        if not polib.pofile(str(path)).translated_entries():
            path.unlink()  # work that somebody did is never thrown away


def translations(path: Path) -> dict[str, str]:
    """Read the finished translations of a catalogue: not the fuzzy ones, not the missing ones.

    Args:
        path: The catalogue.

    Returns:
        The translations by their English; nothing where there is no file.
    """
    return {entry.msgid: entry.msgstr for entry in entries(path) if entry.translated()}


def entries(path: Path) -> list[Any]:
    """Read the entries of a catalogue that are in use."""
    if not path.is_file():
        return []
    return [entry for entry in polib.pofile(str(path)) if not entry.obsolete]
