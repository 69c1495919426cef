"""The translated pages: what they say, what they keep, and when there is none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polib
import pytest
from nbformat import v4

from course_kit.bootstrap import lab_steps
from course_kit.notebooks.execute import find_in_languages, write
from course_kit.notebooks.pages import read_as_stored, tags
from course_kit.translate import gettext as gettext_module
from course_kit.translate.page import KIT, MARK
from course_kit.translate.catalogue import extract, update
from course_kit.translate.gettext import GettextMissingError
from course_kit.translate.cli import main
from course_kit.translate.languages import add_language, find_languages, plural_forms

ROOT = Path(__file__).parents[2]
Course = Any  # the fixture of conftest.py


def run(path: Path) -> None:
    """Give each code cell an output, as a run does."""
    nb = read_as_stored(path)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        cell.execution_count = count
        cell.outputs = [v4.new_output("stream", name="stdout", text=f"run {count}\n")]
    write(nb, path)


def outputs(path: Path) -> list[Any]:
    return [cell.outputs for cell in read_as_stored(path).cells if cell.cell_type == "code"]


def test_a_built_notebook_is_the_source_with_other_words(course: Course) -> None:
    """Ids, tags, kernel and code are the source's; words, links and language are not."""
    source, page = read_as_stored(course.lesson()), read_as_stored(course.page("de"))
    assert [cell.id for cell in page.cells] == [cell.id for cell in source.cells]
    assert [tags(cell) for cell in page.cells] == [tags(cell) for cell in source.cells]
    assert page.metadata.kernelspec == source.metadata.kernelspec
    assert page.metadata[KIT]["language"] == "de"
    assert page.metadata[KIT]["source"] == "notebooks/00_first.ipynb"
    assert page.metadata[KIT]["translated"] == 100
    code = course.source(course.page("de"), "ask")
    assert '"Kéñyá ŵ"' in code
    assert 'key = {"first key": 1}["first key"]  # noqa: F841' in code
    assert "# value = compute(1)\n%pip install -q thing\n" in code
    assert 'f"Whát ís thé çápítál óf {name}? ŵ", end="\\n\\n"' in code
    assert course.source(course.page("de"), "plain") == course.source(course.lesson(), "plain")


def test_the_language_is_told_to_the_environment(course: Course) -> None:
    """`setup_environment()` of a translated page speaks the page's language."""
    assert 'setup_environment(language="de")' in course.source(course.page("de"), "environment")
    assert "setup_environment()" in course.source(course.lesson(), "environment")


def test_links_stay_within_the_language(course: Course) -> None:
    """Lessons and README lead to the translated ones, all else to the English repository."""
    title = course.source(course.page("de"), "title")
    assert "](01_second.ipynb)" in title
    badge = "/blob/main/i18n/de/notebooks/00_first.ipynb?hl=de)"
    assert f"https://colab.research.google.com/github/someone/course{badge}" in title
    assert "](../README.md#start)" in course.source(course.page("de"), "words")
    readme = (course.root / "i18n/de/README.md").read_text(encoding="utf-8")
    assert "](notebooks/00_first.ipynb)" in readme
    assert "](../../LICENSE)" in readme
    assert "](../../docs/window.png)" in readme


def test_a_link_to_an_unpublished_page_leads_to_the_english_one(course: Course) -> None:
    """A reader never follows a link to a page that is not there."""
    course.catalogue("de", "01_second").unlink()
    course.refresh()
    assert not course.page("de", "01_second").exists()
    assert "](../../../notebooks/01_second.ipynb)" in course.source(course.page("de"), "title")


def test_every_page_links_to_its_languages(course: Course) -> None:
    """English and translated pages name each other at the top, under the title."""
    course.add("fr")
    course.fill("fr")
    line = "English · [Deutsch](../i18n/de/notebooks/00_first.ipynb) · "
    line += "[Français](../i18n/fr/notebooks/00_first.ipynb) <!-- languages -->"
    assert course.source(course.lesson(), "title").splitlines()[2] == line
    line = "[English](../../../notebooks/00_first.ipynb) · Deutsch · "
    line += "[Français](../../../i18n/fr/notebooks/00_first.ipynb) <!-- languages -->"
    assert course.source(course.page("de"), "title").splitlines()[2] == line
    shutil.rmtree(course.root / "i18n/de")
    shutil.rmtree(course.root / "i18n/fr")
    course.refresh()
    assert "languages -->" not in course.source(course.lesson(), "title")


def test_what_is_missing_is_english_under_a_mark(course: Course) -> None:
    """A block without a finished translation is shown in English, and says so."""
    course.put("de", "The model has", "")
    assert f"\n{MARK} The model has a *short* memory" in course.source(course.page("de"), "words")
    course.put("de", "two countries", "")
    assert "# [EN] two countries" in course.source(course.page("de"), "ask")


def test_a_page_under_eighty_per_cent_is_not_published(course: Course) -> None:
    """A page that is half English is taken away, and stat says why."""
    path = course.catalogue("de")
    entries = polib.pofile(str(path), wrapwidth=0)
    for entry in list(entries)[: len(entries) // 2]:
        entry.msgstr = ""
    entries.save(str(path))
    course.refresh()
    assert not course.page("de").exists()


def test_outputs_stay_while_the_code_is_the_same(course: Course) -> None:
    """Other prose and comments cost no run; another string does."""
    run(course.page("de"))
    kept = outputs(course.page("de"))
    course.put("de", "Why?", "Warum?")
    course.put("de", "two countries", "zwei Länder")
    assert outputs(course.page("de")) == kept
    course.put("de", "The number:", "Die Zahl:")
    assert outputs(course.page("de")) == [[], [], [], []]


def test_a_comment_that_a_traceback_shows_costs_a_run(course: Course) -> None:
    """In a cell that is meant to fail, a comment is part of the output."""
    run(course.page("de"))
    course.put("de", "on purpose", "mit Absicht")
    assert outputs(course.page("de")) == [[], [], [], []]


def test_building_twice_changes_nothing(course: Course) -> None:
    """The same sources and catalogues give the same bytes."""
    files = {path: path.read_bytes() for path in course.root.rglob("*") if path.is_file()}
    course.refresh()
    assert {p: p.read_bytes() for p in course.root.rglob("*") if p.is_file()} == files


def test_a_script_from_right_to_left_says_so(course: Course) -> None:
    """Markdown of Arabic or Hebrew runs from the right; the title stays the first line."""
    course.add("he")
    course.fill("he")
    assert '<div dir="rtl">' in course.source(course.page("he"), "words")
    assert course.source(course.page("he"), "title").startswith("# 0 · ")
    assert course.faults("he") == []


@pytest.mark.parametrize(
    ("code", "forms"),
    [("zh_CN", "nplurals=1"), ("fr", "n > 1"), ("es", "n != 1"), ("ar", "nplurals=6"),
     ("qps", "n != 1")],
)  # fmt: skip
def test_plurals_are_those_of_the_language(code: str, forms: str) -> None:
    """A new catalogue has its language's own rule for plural forms."""
    assert forms in plural_forms(code)


def test_a_wrong_language_code_is_refused(tmp_path: Path) -> None:
    """A path or a sentence is no language."""
    with pytest.raises(ValueError, match="is no language"):
        add_language(tmp_path, "../fr")


def test_missing_gettext_says_how_to_get_it(
    empty_course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without msgmerge the error names the command for each system."""
    monkeypatch.setattr(gettext_module.shutil, "which", lambda name: None)
    extract(empty_course.root)
    add_language(empty_course.root, "de")
    with pytest.raises(GettextMissingError, match=r"msgmerge .*apt install.*brew .*Windows"):
        update(empty_course.root)


def test_the_same_sentence_is_translated_once(course: Course) -> None:
    """A text that stands on two pages takes its translation along."""
    course.change(course.lesson("01_second"), "title", "Back to", "## Why?\n\nBack to")
    course.refresh()
    entries = polib.pofile(str(course.catalogue("de", "01_second")))
    assert {entry.msgid: entry.msgstr for entry in entries}["Why?"] == "Why? ŵ"


def finished(course: Course, domain: str) -> dict[str, str]:
    """A catalogue's English and translations; empty where one is missing or fuzzy."""
    entries = polib.pofile(str(course.catalogue("de", domain)))
    return {each.msgid: each.msgstr if each.translated() else "" for each in entries}


def test_a_renamed_lesson_keeps_its_translations(course: Course) -> None:
    """Under its new name a page says and shows what it did, and what changed is fuzzy."""
    run(course.page("de"))
    before = finished(course, "00_first")
    course.lesson().rename(course.lesson("00_start"))
    title = "View on GitHub](https://github.com/someone/course/blob/main/notebooks/00_"
    course.change(course.lesson("00_start"), "title", f"{title}first", f"{title}start")
    course.change(course.lesson("00_start"), "words", "a *short* memory", "a *very short* memory")
    course.refresh()
    after = finished(course, "00_start")
    (changed,) = after.keys() - before.keys()
    assert {**after, changed: ""} == {**{text: before[text] for text in after if text != changed},
                                      changed: ""}  # fmt: skip
    (entry,) = polib.pofile(str(course.catalogue("de", "00_start"))).fuzzy_entries()
    assert "a *short* memory" in entry.previous_msgid
    assert "00_start.ipynb" in course.catalogue("de", "00_start").read_text("utf-8").split("msgid")[0]
    assert not course.catalogue("de").exists()
    assert outputs(course.page("de", "00_start"))[0][0].text == "run 1\n"
    assert not course.page("de").exists()


def test_a_cell_carried_to_another_lesson_keeps_its_translations(course: Course) -> None:
    """Its units are gone from one page and stand, translated, on the other."""
    first, second = (read_as_stored(course.lesson(name)) for name in ("00_first", "01_second"))
    (moved,) = (cell for cell in first.cells if cell.id == "words")
    before = finished(course, "00_first")
    first.cells.remove(moved)
    second.cells.append(moved)
    write(first, course.lesson())
    write(second, course.lesson("01_second"))
    course.refresh()
    assert "Take a token." not in finished(course, "00_first")
    after = finished(course, "01_second")
    assert all(after.values())
    assert after["Take a token."] == before["Take a token."]


def test_a_catalogue_without_a_page_is_named(
    course: Course, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Translations of a lesson that is gone are kept, and neither check nor stat hides them."""
    course.change(course.lesson(), "title", "[the next one](01_second.ipynb)", "nothing")
    course.lesson("01_second").unlink()
    course.refresh()
    assert course.catalogue("de", "01_second").is_file()
    place = "i18n/de/LC_MESSAGES/01_second.po"
    assert any(f"{place}: [orphan]" in str(fault) for fault in course.faults("de"))
    monkeypatch.chdir(course.root)
    assert main(["stat"]) == 0
    assert f"Without a page: {place}, 2 units." in capsys.readouterr().out


def test_a_language_and_a_lesson_name_a_notebook(course: Course) -> None:
    """`execute de/00` and `execute de` find the translated notebooks."""
    page, second = course.page("de"), course.page("de", "01_second")
    assert find_in_languages(["de/00"], course.root) == [page]
    assert find_in_languages(["de"], course.root) == [page, second]
    assert find_in_languages(["00"], course.root) == [course.lesson()]
    assert len(find_in_languages([], course.root)) == 4


def test_the_lessons_of_a_language_open_in_jupyterlab() -> None:
    """`make lab ARGS=fr` opens the French lessons, `make lab` the English ones."""
    for code in [language.code for language in find_languages(ROOT)]:
        if (ROOT / "i18n" / code / "notebooks").is_dir():
            assert lab_steps([code]) == [["jupyter", "lab", str(ROOT / f"i18n/{code}/notebooks")]]
    assert lab_steps(["--no-browser"]) == [["jupyter", "lab", "notebooks", "--no-browser"]]


def test_the_commands_do_what_they_say(
    course: Course, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each action runs from the command line and reports."""
    monkeypatch.chdir(course.root)
    assert main([]) == 0
    assert "100 %, not executed" in capsys.readouterr().out
    assert main(["check"]) == 0
    assert "no faults" in capsys.readouterr().out
    assert main(["preview", "de", "--no-open"]) == 0
    assert (course.root / "build/preview-de/notebooks/00_first.ipynb").is_file()
    assert main(["preview"]) == 2
    course.put("de", "Why?", "`Why?`")
    assert main(["check", "de", "--timing"]) == 1
    assert "[code]" in capsys.readouterr().out


def test_one_command_is_for_pages_and_messages(
    course: Course, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A language that is added gets the package's catalogue, too, which is merged and counted."""
    package = course.root / "src/local_pipelines"
    (package / "locale").mkdir(parents=True)
    (package / "hub.py").write_text('tr("Wait for the Hub.")\n')
    monkeypatch.chdir(course.root)
    assert main(["add", "de"]) == 0
    path = package / "locale/de/LC_MESSAGES/local_pipelines.po"
    path.write_text(path.read_text("utf-8").replace('msgstr ""\n', 'msgstr "Warte."\n')
                    .replace('msgstr "Warte."\n', 'msgstr ""\n', 1), "utf-8")  # fmt: skip
    assert main([]) == 0
    assert "Messages of the package, de: 1 of 1." in capsys.readouterr().out
    assert main(["check"]) == 0
    (package / "hub.py").write_text('tr("Wait for the Hub, please.")\n')
    assert main(["check"]) == 1
    assert "local_pipelines.pot: [stale]" in capsys.readouterr().out
    assert main([]) == 0
    assert "Messages of the package, de: 0 of 1." in capsys.readouterr().out
    assert '#| msgid "Wait for the Hub."' in path.read_text("utf-8")
    assert main(["check"]) == 0  # a language that is only begun is not blamed for what it lacks
