"""Every kind of fault that a translator, an author or a careless hand can make is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat import v4

from course_kit.notebooks.execute import write
from course_kit.notebooks.pages import read_as_stored
from course_kit.translate.page import KIT
from course_kit.translate.languages import Language
from course_kit.translate.parity import anchors
from course_kit.translate.unit_checks import Entry, find_faults

Course = Any  # the fixture of conftest.py
Plant = Callable[[Course], None]


def says(start: str, text: str, code: str = "de") -> Plant:
    """Plant a wrong translation of the unit that begins so."""
    return lambda course: course.put(code, start, text)


def edited(change: Callable[[Any], None], name: str = "00_first") -> Plant:
    """Plant a change in a built notebook, as if somebody had edited it by hand."""

    def plant(course: Course) -> None:
        nb = read_as_stored(course.page("de", name))
        change(nb)
        write(nb, course.page("de", name))

    return plant


def cell(nb: Any, name: str) -> Any:
    return next(one for one in nb.cells if one.id == name)


def swapped(name: str, old: str, new: str) -> Plant:
    def change(nb: Any) -> None:
        assert old in cell(nb, name).source
        cell(nb, name).source = cell(nb, name).source.replace(old, new)

    return edited(change)


def glossary(lines: str) -> Plant:
    def plant(course: Course) -> None:
        path = course.root / "i18n/de/glossary.tsv"
        path.write_text("term\ttranslation\tpattern\tnote\n" + lines, encoding="utf-8")

    return plant


def other_catalogue(old: str, new: str) -> Plant:
    def plant(course: Course) -> None:
        path = course.catalogue("de")
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return plant


def changed_english(course: Course) -> None:
    course.change(course.lesson(), "words", "The first point", "The very first point")


def removed_page(course: Course) -> None:
    course.page("de").unlink()


MODEL = "Das Modell hat ein *kurzes* Gedächtnis, kostet $a^2$, ruft `run()` <br> auf."
FAULTS: dict[str, tuple[str, Plant]] = {
    "a code span is changed": ("[code]", says("The model has", MODEL.replace("run", "laufe"))),
    "a code span is lost": ("[code]", says("The model has", MODEL.replace("`", ""))),
    "a backtick stands alone": ("[code]", says("Take a token", "Nimm ein `Token.")),
    "emphasis is lost": ("[emphasis]", says("The model has", MODEL.replace("*", ""))),
    "a link leads elsewhere": (
        "[links]", says("see [the help]", "siehe [Hilfe](https://x.org) und [Warum](#why).")),
    "a link is lost": ("[links]", says("see [the help]", "siehe die Hilfe und [Warum](#why).")),
    "a link target is translated": (
        "[links]", says("**What you", "**Du baust:** Sieh [die nächste](01_zweite.ipynb).")),
    "a formula is changed": ("[math]", says("The model has", MODEL.replace("a^2", "a^3"))),
    "a tag is lost": ("[html]", says("The model has", MODEL.replace(" <br>", ""))),
    "a block becomes a list": ("[block]", says("Take a token", "- Nimm\n- ein Token")),
    "an image appears": ("[images]", says("Take a token", "Nimm ein ![Token](t.png).")),
    "a placeholder is changed": (
        "[placeholders]", says("What is the capital", "Wie heißt die Hauptstadt von {land}?")),
    "a placeholder is lost": (
        "[placeholders]", says("What is the capital", "Wie heißt die Hauptstadt?")),
    "spaces at an end of a string": ("[ends]", says("The number:", "Die Zahl: ")),
    "spaces at an end of a formatted string": (
        "[ends]", says("What is the capital", "Wie heißt die Hauptstadt von {name}? ")),
    "a line break within a block": ("[lines]", says("The first point", "Der erste\nPunkt `a|b`;")),
    "a term of the glossary is not used": (
        "[glossary]", glossary("token\tMarke\t\t\n")),
    "a term has two translations": (
        "[glossary]", glossary("point\tpóíñt\t\t\npoint\tStelle\t\t\n")),
    "a pattern that is no pattern": ("[glossary]", glossary("point\tPunkt\t(\t\n")),
    "a paragraph left in English": (
        "[identical]", says("**What you", "**What you will build:** a lesson that goes over two "
                            "lines, and see [the next one](01_second.ipynb).")),
    "code is edited by hand": ("[program]", swapped("plain", "print", "display")),
    "an untagged string is translated": ("[program]", swapped("plain", "This string", "Das")),
    "a key of a tagged cell is translated": ("[program]", swapped("ask", "first key", "Wort")),
    "code that does not parse": ("[program]", swapped("plain", '")', '"')),
    "the language is another one": ("[program]", swapped("environment", '"de"', '"fr"')),
    "a magic is changed": ("[magics]", swapped("ask", "%pip install", "%pip uninstall")),
    "a tag is removed": ("[tags]", edited(lambda nb: cell(nb, "ask").metadata.clear())),
    "a cell is removed": ("[cells]", edited(lambda nb: nb.cells.pop(2))),
    "an id is changed": ("[cells]", edited(lambda nb: cell(nb, "words").update(id="other"))),
    "another kernel": (
        "[kernel]", edited(lambda nb: nb.metadata.kernelspec.update(name="python-of-mine"))),
    "metadata of another language": (
        "[language]", edited(lambda nb: nb.metadata[KIT].update(language="fr"))),
    "a page is edited by hand": ("[stale]", swapped("words", "ŵ", "w")),
    "the English has changed": ("[stale]", changed_english),
    "a page is missing": ("[stale]", removed_page),
    "a catalogue that is broken": ("[msgfmt]", other_catalogue('msgstr "Why', 'msgstr "Why\\q')),
    "plural forms of another language": (
        "[header]", other_catalogue("nplurals=2; plural=(n != 1)", "nplurals=1; plural=0")),
    "an anchor without its heading": ("[anchor]", swapped("words", "## Why", "## Who")),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(course: Course, fault: str) -> None:
    """The check names the kind of the fault that was planted, and it names it before landing."""
    kind, plant = FAULTS[fault]
    plant(course)
    found = [str(each) for each in course.faults("de")]
    assert any(kind in each for each in found), found


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("fr", "Le modèle a une *courte* mémoire : $a^2$, `run()` <br>.", "[french]"),
        ("fr", "Le modèle a une *courte* mémoire; $a^2$, `run()` <br>.", "[french]"),
        ("fr", "Le modèle a une *courte* mémoire «oui» $a^2$, `run()` <br>.", "[french]"),
        ("fr", 'Le "modèle" a une *courte* mémoire $a^2$, `run()` <br>.', "[french]"),
        ("fr", "Le modèle\u00a0: *courte* $a^2$\u202f; «\u202foui\u202f» `run()` <br>\u202f!", ""),
        ("zh_CN", "模型的记忆*很短*,成本是 $a^2$，调用 `run()` <br> 两次。", "[cjk]"),
        ("zh_CN", "模型model的记忆 *很短*，成本是 $a^2$，调用 `run()` <br> 两次。", "[cjk]"),
        ("zh_CN", "模型的记忆*“很短”*的，成本是 $a^2$，调用 `run()` <br> 两次。", "[emphasis]"),
        ("zh_CN", "模型的记忆\n*很短*，成本是 $a^2$，调用 `run()` <br> 两次。", "[lines]"),
        ("zh_CN", "模型的记忆 *很短*，成本是 $a^2$，调用 `run()` <br> 两次。", ""),
    ],
)
def test_a_language_has_its_own_rules(course: Course, code: str, text: str, kind: str) -> None:
    """French spaces and quotation marks, Chinese punctuation, spacing and emphasis are checked."""
    course.add(code)
    course.put(code, "The model has", text)
    found = [str(fault) for fault in course.faults(code)]
    assert any(kind in fault for fault in found) if kind else found == []


def faults_of(english: str, text: str) -> list[str]:
    """What is wrong with a paragraph's Chinese translation."""
    language = Language("zh_CN", Path(), "中文")
    return find_faults(Entry(language, frozenset({"paragraph"}), english, text))


def test_asterisks_that_are_shown_are_told_beside_the_lost_bold() -> None:
    """The sentence says how to mend it, also where the English has bold words of its own."""
    found = faults_of("**Important:** text", "**重要：**文字")
    assert any("`**` is shown as it is" in fault for fault in found), found


def test_spaces_beside_markup_are_a_matter_of_taste() -> None:
    """autocorrect would put one behind the bracket; that alone is no fault."""
    assert faults_of("It (`run()`) is called.", "它(`run()`)被调用。") == []


def test_a_link_may_lead_to_an_anchor_of_html() -> None:
    """`<a id=…>` is as good a place as a heading."""
    texts = ('<a id="x"></a>', "[y](#x)", "[z](#nowhere)")
    (fault,) = anchors(v4.new_notebook(cells=[v4.new_markdown_cell(text) for text in texts]))
    assert "#nowhere" in fault


def test_inflected_forms_are_the_glossarys(course: Course) -> None:
    """A plural or a feminine form of the glossary's word is that word."""
    course.add("fr")
    path = course.root / "i18n/fr/glossary.tsv"
    path.write_text("term\ttranslation\tpattern\tnote\ntoken\tjeton spécial\t\t\n", "utf-8")
    course.put("fr", "Take a token", "Prenez des jetons spéciaux.")
    assert course.faults("fr") == []


def test_a_translator_may_overrule_a_matter_of_taste(course: Course) -> None:
    """The comment `ok: glossary` silences that check in one entry, and no check of the code."""
    course.put("de", "Take a token", "Nimm `es`.")
    glossary("token\tMarke\t\t\n")(course)
    path = course.catalogue("de")
    text = path.read_text(encoding="utf-8")
    entry = next(part for part in text.split("\n\n") if "Take a token" in part)
    path.write_text(text.replace(entry, f"# ok: glossary, code\n{entry}"), encoding="utf-8")
    course.refresh()
    found = [fault.sentence for fault in course.faults("de") if fault.text == "Take a token."]
    assert len(found) == 1
    assert "[code]" in found[0]


def test_the_translated_course_has_no_fault(course: Course) -> None:
    """The checks are silent where nothing is wrong."""
    assert course.faults() == []
