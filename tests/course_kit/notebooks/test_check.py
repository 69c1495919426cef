"""Every hygiene rule finds the fault it is there for, and nothing in a clean notebook."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat import v4

from course_kit.notebooks import check as command
from course_kit.notebooks.check import check, find_faults
from course_kit.notebooks.output_rules import OUTPUT_RULES
from course_kit.notebooks.page import KERNEL, Page
from course_kit.notebooks.pages import find_all_lessons
from course_kit.notebooks.source_rules import SOURCE_RULES

REPOSITORY = "https://github.com/someone/course"
COLAB = "https://colab.research.google.com/github/someone/course/blob/main"

RULES = {rule.__name__: rule for rule in OUTPUT_RULES + SOURCE_RULES}

Plant = Callable[[Any], Any]


def lesson(name: str, *neighbours: str) -> Any:
    """Build a small notebook that keeps every rule."""
    title = f"# A lesson\n\n[![Open in Colab](badge.svg)]({COLAB}/notebooks/{name})\n"
    title += f"[View on GitHub]({REPOSITORY}/blob/main/notebooks/{name})"
    check_cell = "from local_pipelines import check_parameters\n\n"
    check_cell += "check_parameters(MODEL_ID=MODEL_ID)"
    cells = [
        v4.new_markdown_cell(title),
        code('MODEL_ID = "pocket"', 1, "parameters"),
        code(check_cell, 2),
        v4.new_markdown_cell("## A question\n\n`# no title` and ![a badge](badge.svg)"),
        code("print(6 * 7)", 3),
        code("1 / 0", 4, "raises-exception"),
        v4.new_markdown_cell("<details>\n<summary>Solution</summary>\n\n42\n\n</details>"),
        v4.new_markdown_cell("\n".join(f"[next]({other})" for other in neighbours)),
    ]
    cells[4].outputs = [v4.new_output("stream", name="stdout", text="42\n")]
    error = {"ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": []}
    cells[5].outputs = [v4.new_output("error", **error)]
    return v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def code(source: str, count: int, *tags: str) -> Any:
    metadata = {"tags": list(tags)} if tags else {}
    return v4.new_code_cell(source, execution_count=count, metadata=metadata)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a repository with two lessons that link to each other."""
    names = ("00_first.ipynb", "01_second.ipynb")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/badge.svg").touch()
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "course"\nurls.Repository = "{REPOSITORY}/"\n'
    )
    (tmp_path / "README.md").write_text("\n".join(f"[x](notebooks/{name})" for name in names))
    for name, other in (names, names[::-1]):
        store(tmp_path / "notebooks" / name, lesson(name, other))
    return tmp_path


def store(path: Path, nb: Any) -> None:
    path.write_text(json.dumps(nb), encoding="utf-8")


def first(root: Path) -> Path:
    return root / "notebooks/00_first.ipynb"


def output(text: str, name: str = "stdout") -> Plant:
    """Plant an output."""
    return lambda nb: nb.cells[4].outputs.append(v4.new_output("stream", name=name, text=text))


def source(number: int, text: str) -> Plant:
    """Plant a text at the end of a cell's source."""
    return lambda nb: nb.cells[number].update(source=nb.cells[number].source + text)


def instead(number: int, text: str) -> Plant:
    """Plant a text in place of a cell's source."""
    return lambda nb: nb.cells[number].update(source=text)


def picture(size: int) -> Plant:
    """Plant a picture of a number of bytes."""
    data = {"image/png": "A" * (size * 4 // 3)}
    return lambda nb: nb.cells[4].outputs.append(v4.new_output("display_data", data))


def table(rows: int) -> Plant:
    """Plant an HTML table whose plain text is short."""
    data = {"text/html": "<table>" + "<tr><td>1</td></tr>" * rows, "text/plain": "a table"}
    return lambda nb: nb.cells[4].outputs.append(v4.new_output("display_data", data))


TOKEN = "hf_" + "aB3" * 11

WIDGET = v4.new_output(
    "display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}
)

FAULTS: list[tuple[str, Plant, str]] = [
    ("kernel_is_python3", lambda nb: nb.metadata.kernelspec.update(name="anna"), "kernelspec"),
    ("kernel_is_python3", lambda nb: nb.metadata.pop("kernelspec"), "kernelspec"),
    ("cells_have_unique_ids", lambda nb: nb.cells[3].pop("id"), "has no id"),
    ("cells_have_unique_ids", lambda nb: nb.cells[3].update(id=nb.cells[1].id), "is taken"),
    ("executed_in_order", lambda nb: nb.cells[4].update(execution_count=7), "[7], not [3]"),
    ("executed_in_order", lambda nb: nb.cells[4].update(execution_count=None), "[ ], not [3]"),
    ("executed_in_order", instead(4, " "), "is empty"),
    ("no_stderr", output("UserWarning: old\n", "stderr"), "UserWarning: old"),
    ("no_private_paths", output("saved in /home/anna/models"), "/home/anna"),
    ("no_private_paths", output(r"C:\Users\anna\models"), r"C:\Users\anna"),
    ("no_private_paths", output("File /opt/lib/site-packages/torch/x.py"), "site-packages"),
    ("no_private_paths", output("saved in /tmp/abc"), "/tmp/abc"),
    ("no_private_paths", output("saved in /srv/secret-place"), "/srv/secret-place"),
    ("no_private_paths", source(4, "\nopen('/Users/anna/x')"), "/Users/anna"),
    ("no_tokens", source(4, f'\ntoken = "{TOKEN}"'), "hf_aB3"),
    ("no_tokens", output(TOKEN), "hf_aB3"),
    ("no_tokens", lambda nb: nb.metadata.update(papermill={"p": TOKEN}), "metadata"),
    ("no_widget_state", lambda nb: nb.metadata.update(widgets={}), "widget state"),
    ("no_widget_state", lambda nb: nb.cells[4].outputs.append(WIDGET), "output is a widget"),
    ("only_wanted_errors", lambda nb: nb.cells[5].metadata.pop("tags"), "has no tag"),
    ("only_wanted_errors", lambda nb: nb.cells[5].update(outputs=[]), "did not fail"),
    ("outputs_are_short", output("line\n" * 51), "52 lines"),
    ("outputs_are_short", table(60), "61 lines"),
    ("outputs_are_short", picture(240_000), "240 kB"),
    ("timings_are_steady", output("a  403 ms  18.0 ms to 531 ms  17.9 ms"), "18.0 ms to 531 ms"),
    ("timings_are_steady", output("a  0,4 s  0.3 s 至 1.2 s"), "quiet machine"),
    ("code_is_valid", source(4, "\nif True:"), "does not parse"),
    ("code_is_valid", source(4, "\n<!-- cell -->"), "HTML comment"),
    ("code_is_short", source(4, "\n" * 25 + "x = 1"), "26 lines"),
    ("code_is_short", source(4, "\n# " + "x" * 90), "Line 2 has 92 characters"),
    ("code_is_short", lambda nb: nb.cells.pop(3), "4 code cells"),
    ("one_title_at_the_top", source(3, "\n\n# Another"), "second H1"),
    ("one_title_at_the_top", lambda nb: nb.cells.insert(0, nb.cells[3]), "first cell"),
    ("opens_in_colab_and_on_github", instead(0, "# T"), "Colab"),
    ("opens_in_colab_and_on_github", instead(0, f"# T\n[a]({REPOSITORY}/blob/main/b)"), "GitHub"),
    ("parameters_are_set_once", lambda nb: nb.cells[1].metadata.pop("tags"), "there are 0"),
    ("parameters_are_set_once", instead(1, 'MODEL_ID = "big"'), '"pocket"'),
    ("parameters_are_set_once", instead(2, "pass"), "check_parameters"),
    ("imports_are_public", source(4, "\nfrom local_pipelines import errors"), "not a public"),
    ("imports_are_public", source(4, "\nfrom local_pipelines.models.fit import x"), "not a public"),
    ("imports_are_public", source(4, "\nimport local_pipelines.models.fit"), "not a public"),
    ("imports_are_public", source(4, "\nimport local_pipelines\nlocal_pipelines.x"), "public"),
    ("imports_are_public", source(4, "\nimport course_kit.bootstrap"), "for maintainers"),
    ("plain_comes_first", source(4, "\nload_llm(MODEL_ID)"), "load_llm comes before the plain way"),
    ("images_have_alt_text", source(3, "\n![](badge.svg)"), "no alt text"),
    ("images_have_alt_text", source(3, '\n<img src="badge.svg" alt="">'), "no alt text"),
    ("relative_links_resolve", source(3, "\n[more](missing.md#part)"), "missing.md"),
    ("relative_links_resolve", source(3, '\n<a href="../gone.txt">x</a>'), "../gone.txt"),
    ("relative_links_resolve", source(3, "\n\n[more]: lost.md"), "lost.md"),
    ("details_are_closed", instead(6, "<details open><summary>S</summary></details>"), "open"),
    ("details_are_closed", instead(6, "<details><summary>S</summary>"), "do not match"),
    ("details_are_closed", instead(6, "<details>42</details>"), "do not match"),
    ("linked_from_index_and_neighbours", instead(7, "the end"), "01_second.ipynb"),
]


@pytest.mark.parametrize(
    ("rule", "plant", "words"), FAULTS, ids=[f"{r}: {w}" for r, _, w in FAULTS]
)
def test_rule_finds_planted_fault(root: Path, rule: str, plant: Plant, words: str) -> None:
    """A rule names the fault in one sentence."""
    nb = lesson("00_first.ipynb", "01_second.ipynb")
    plant(nb)
    page = Page(first(root), root, nb, private=("/srv/secret-place",))
    sentences = [str(finding) for finding in find_faults(page, [RULES[rule]])]
    assert any(words in sentence for sentence in sentences)
    assert all("\n" not in s and s.startswith("notebooks/00_first.ipynb") for s in sentences)


def test_every_rule_has_a_planted_fault() -> None:
    """No rule stands in the list without a test that shows it at work."""
    assert {rule.__name__ for rule in OUTPUT_RULES + SOURCE_RULES} == {
        rule for rule, _, _ in FAULTS
    }


def test_clean_notebook_has_no_findings(root: Path) -> None:
    """A notebook that keeps the rules passes, whatever harmless look-alikes it holds."""
    nb = lesson("00_first.ipynb", "01_second.ipynb")
    harmless = [
        "%pip --version",
        "# a comment with https://example.org/home/page and ~/.cache, /home/you/models",
        "import local_pipelines\nprint(local_pipelines.__version__)",
        "from local_pipelines import select_device",
        'sample = "hf_' + "x" * 34 + '"',
        "await something()",
    ]
    nb.cells[4].source += "\n" + "\n".join(harmless)
    nb.cells[3].source += "\n```\n# no title, [no](link)\n```\n[site](https://example.org)"
    store(first(root), nb)
    assert check(first(root), root) == []


def test_a_notebook_that_is_no_lesson_gets_a_sentence(root: Path) -> None:
    """A draft among the lessons, and a file of another folder, are told as what they are."""
    draft = root / "notebooks/draft.ipynb"
    store(draft, lesson("draft.ipynb"))
    sentences = [finding.sentence for finding in check(draft, root)]
    assert "It is no lesson: a lesson's name is like 00_setup.ipynb." in sentences
    assert not [sentence for sentence in sentences if "in list" in sentence]
    (finding,) = check(draft, root / "i18n")
    assert finding.sentence == "It is outside the repository i18n."


def test_readme_must_link_to_every_lesson(root: Path) -> None:
    """A lesson that the index does not list is found."""
    (root / "README.md").write_text("[x](notebooks/01_second.ipynb)")
    assert [f.sentence for f in check(first(root), root)] == [
        "README.md does not link to notebooks/00_first.ipynb."
    ]


def test_translated_lessons_are_found_and_have_their_own_colab_address(root: Path) -> None:
    """The rules hold in every language, and the badge opens the translated notebook."""
    folder = root / "i18n/fr/notebooks"
    folder.mkdir(parents=True)
    store(folder / "00_first.ipynb", lesson("00_first.ipynb"))
    assert find_all_lessons(root)[-1] == folder / "00_first.ipynb"
    sentences = [finding.sentence for finding in check(folder / "00_first.ipynb", root)]
    assert any(f"{COLAB}/i18n/fr/notebooks/00_first.ipynb" in s for s in sentences)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"nbformat": 3, "worksheets": []}'])
def test_file_that_is_no_notebook_is_a_finding(root: Path, content: str) -> None:
    """A broken file is told like any other fault."""
    first(root).write_text(content)
    (finding,) = check(first(root), root)
    assert "not a notebook" in finding.sentence


def test_command_prints_findings_and_fails(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`course_kit check` lists one finding a line and says with its status whether there is one."""
    monkeypatch.chdir(root)
    assert command.main([]) == 0
    assert "2 notebooks, no findings." in capsys.readouterr().out
    nb = lesson("00_first.ipynb", "01_second.ipynb")
    nb.cells[4].outputs[0].name = "stderr"
    store(first(root), nb)
    assert command.main([]) == 1
    assert "notebooks/00_first.ipynb, cell 5: There is stderr" in capsys.readouterr().out


def test_command_without_notebooks_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check of nothing does not pass for a check of everything."""
    monkeypatch.chdir(tmp_path)
    assert command.main([]) == 2
    assert "There is no notebook" in capsys.readouterr().err
