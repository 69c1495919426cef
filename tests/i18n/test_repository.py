"""The translations of this repository, and what happens to them when somebody works on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polib
import pytest

from course_kit.notebooks.execute import execute, write
from course_kit.notebooks.pages import read_as_stored
from course_kit.translate.page import MARK
from course_kit.translate.checks import check
from course_kit.translate.cli import main
from course_kit.translate.glossary import faults_in, read_glossary
from course_kit.translate.languages import Language, find_languages
from course_kit.translate.sources import find_sources
from course_kit.translate.stat import format_table, overview

ROOT = Path(__file__).parents[2]
LANGUAGES = find_languages(ROOT)
Course = Any  # the fixture of conftest.py

each_language = pytest.mark.parametrize("language", LANGUAGES, ids=lambda one: one.code)


def test_the_translations_have_no_fault() -> None:
    """No catalogue, glossary or page is broken, stale or edited by hand."""
    if shutil.which("msgmerge") is None:
        pytest.skip("GNU gettext is not installed: no msgmerge")
    faults = check(ROOT)
    assert not faults, "\n".join(map(str, faults))


@each_language
def test_a_glossary_has_one_word_for_a_term(language: Language) -> None:
    """Each language has at least 40 terms, none of them twice."""
    path = language.folder / "glossary.tsv"
    assert len(read_glossary(path)) >= 40
    assert faults_in(path) == []


def test_weblate_finds_every_catalogue() -> None:
    """Each page is a component, with files that are there."""
    components = json.loads((ROOT / "i18n/weblate.json").read_text(encoding="utf-8"))
    masks = {component["filemask"] for component in components}
    assert {f"i18n/*/LC_MESSAGES/{source.domain}.po" for source in find_sources(ROOT)} <= masks
    for component in components:
        assert (ROOT / component["new_base"]).is_file()
        assert component["file_format"] == "po"
        assert len(list(ROOT.glob(component["filemask"]))) >= len(LANGUAGES)
    linked = f"weblate://local-pipelines/{components[0]['slug']}"
    assert {component["repo"] for component in components[1:]} == {linked}


def test_one_changed_sentence_is_one_fuzzy_unit(
    repository: Course, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make translations` marks it in each language, shows it in English, and blocks nothing."""
    codes = [language.code for language in LANGUAGES]
    for code in codes:
        repository.fill(code)
    before = {str(fault) for fault in repository.faults()}
    old, new = "besides its weights.", "besides all its weights."
    repository.change(repository.lesson("00_setup"), "estimate-read", old, new)
    monkeypatch.chdir(repository.root)
    assert main([]) == 0
    assert "1 fuzzy" in capsys.readouterr().out
    for code in codes:
        fuzzy = [
            entry
            for path in (repository.root / "i18n" / code).glob("LC_MESSAGES/*.po")
            for entry in polib.pofile(str(path))
            if entry.fuzzy
        ]
        assert [entry.previous_msgid for entry in fuzzy] == [fuzzy[0].msgid.replace(new, old)]
        text = repository.source(repository.page(code, "00_setup"), "estimate-read")
        assert f"{MARK} The helper adds the disk" in text
        assert new in text
    assert format_table(overview(repository.root)).splitlines()[-1].count("99 %") == len(codes)
    assert {str(fault) for fault in repository.faults()} <= before


@pytest.mark.slow
def test_a_new_language_goes_all_the_way(
    repository: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added with one command and translated, a language has notebooks that run in it."""
    monkeypatch.chdir(repository.root)
    assert main(["add", "qps"]) == 0
    repository.fill("qps")
    page = repository.page("qps", "00_setup")
    write(execute(page), page)
    ran = {cell.id: cell for cell in read_as_stored(page).cells}
    assert "á míssíñg fílé gívés" in ran["dotenv-load"].outputs[0].text
    assert "qps" in json.dumps(ran["report"].outputs)
    before = page.read_bytes()
    assert main([]) == 0
    assert page.read_bytes() == before
    assert [fault for fault in repository.faults("qps") if "qps" in fault.place] == []
