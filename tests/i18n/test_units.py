"""What is a unit, and what is not; putting a unit back changes nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from course_kit.translate.blocks import markdown_units
from course_kit.translate.code import code_units, keeps, magics, parse
from course_kit.translate.sources import Source, cell_units, find_sources, settings_units
from course_kit.translate.units import replace, wrap

ROOT = Path(__file__).parents[2]


def texts(source: str, **options: bool) -> list[tuple[str, str]]:
    return [(unit.kind, unit.text) for unit in markdown_units(source, **options)]


def strings(source: str, keep: frozenset[str] = frozenset()) -> list[str]:
    units = code_units(source, strings=True, keep=keep)
    return [unit.text for unit in units if unit.kind != "comment"]


def comments(source: str) -> list[str]:
    return [unit.text for unit in code_units(source)]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("## A title\nSome words\nover lines.",
         [("heading", "A title"), ("paragraph", "Some words over lines.")]),
        ("- one thing\n- two things\n\n  and more",
         [("list item", "one thing"), ("list item", "two things"), ("list item", "and more")]),
        ("> a quotation\n> over lines", [("quotation", "a quotation over lines")]),
        ("| see | do |\n|---|---|\n| `x` | say `a\\|b` |",
         [("table heading", "see"), ("table heading", "do"), ("table cell", "say `a|b`")]),
        ("| see |\n|---|\n| `DeviceError: no GPU` |\n| `OSError: no file` |",
         [("table heading", "see"), ("message", "`DeviceError: no GPU`")]),
        ("![A chart](a.png)", [("image description", "A chart")]),
        ("[![Open it](a.svg)](b)\n[Or there](c)",
         [("image description", "Open it"), ("link text", "Or there")]),
        ("<details><summary>A hint</summary>\n\nThe answer.\n\n</details>",
         [("HTML text", "A hint"), ("paragraph", "The answer.")]),
        ("A line  \nand another", [("paragraph", "A line\nand another")]),
        ("`code` $x$ <br>", []),
        ("```sh\nmake run # words here\n```", []),
    ],
)  # fmt: skip
def test_markdown_is_cut_into_blocks(markdown: str, expected: list[tuple[str, str]]) -> None:
    """Each block is one unit, soft line breaks joined; code and formulas alone are none."""
    assert texts(markdown) == expected


def test_examples_in_markdown_have_units_too() -> None:
    """The comments of a fenced Python example are translated, its strings in tagged cells."""
    source = "Words.\n\n```python\nask('What is it?')  # a question\n```"
    assert texts(source)[1:] == [("comment", "a question")]
    kinds = [kind for kind, _ in texts(source, strings=True)]
    assert kinds == ["paragraph", "string", "comment"]


def test_putting_units_back_keeps_the_markup() -> None:
    """A translated block keeps its list mark, its table and its indentation."""
    source = "1. one thing\n   over lines\n\n| a word | `b` |\n|---|---|\n| see it | no |\n"
    built = replace(source, markdown_units(source), lambda unit: unit.text.upper() + " | x")
    assert built.startswith("1. ONE THING OVER LINES | x\n\n| A WORD \\| x | `b` |\n")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1  # the first", ["the first"]),
        ("# one line\n# and its rest\nx = 1", ["one line and its rest"]),
        ("# import torch\n# model = load(\n#     1\n# )", []),
        ("# Needs a GPU.\n# model = load(1)", ["Needs a GPU."]),
        ("x = 1  # type: ignore\ny = 2  # noqa: E501", []),
        ("#!/bin/sh\n# %% a cell\n# fmt: off", []),
        ("!pip install 'a  # b\n%time x  # c\nx = 1  # why", ["why"]),
        ("!a long \\\n    command  # c\nx = 1  # why", ["why"]),
        ("%%bash\n# a comment", []),
    ],
)
def test_comments_are_prose_only(code: str, expected: list[str]) -> None:
    """Switched-off code, directives and magics are no units; lines of one comment are joined."""
    assert comments(code) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('ask("What is a token?")', ["What is a token?"]),
        ('names = ["Kenya", "Japan"]', ["Kenya", "Japan"]),
        ('print("size:", n)', ["size:"]),
        ('f"The number {x:>3} of {len(y)}"', ["The number {x:>3} of {len(y)}"]),
        ('load("org/model-7b", task="text-generation", a="cpu", b="a/b_c.txt")', []),
        ('x["some key"] = {"another key": "\\n\\n"}.get("third key")', []),
        ('f"{name:<14}.json"', []),
        ('ask("¿Cuál es?", "法国")', ["¿Cuál es?", "法国"]),
        ('say("Keep this one")  # i18n: keep', []),
        ('prompt = (\n    "One sentence, "\n    "and its rest."\n)',
         ["One sentence, and its rest."]),
    ],
)  # fmt: skip
def test_strings_are_what_people_read(code: str, expected: list[str]) -> None:
    """Of a tagged cell's strings, prose and labels are units; ids, keys and formats are not."""
    assert strings(code) == expected


def test_a_tag_keeps_a_string() -> None:
    """The tag `i18n-keep=…` names a string of the cell that stays."""
    keep = keeps(["i18n-strings", "i18n-keep=a place here"])
    assert strings('go("a place here", "a word here")', keep) == ["a word here"]


@pytest.mark.parametrize("text", ['say "it" \\ now', "deux\nlignes", "它说“是”", "l'été"])
def test_any_text_becomes_a_valid_string(text: str) -> None:
    """Quotes, backslashes and line ends of a translation do not break the code."""
    for code in ('ask("some words")', "ask('some words')", 'ask("""some words""")'):
        built = replace(code, code_units(code, strings=True), lambda unit: text)
        call = ast.parse(built).body[0]
        assert isinstance(call, ast.Expr)
        assert ast.literal_eval(call.value.args[0]) == text  # type: ignore[attr-defined]


def test_long_strings_and_comments_are_wrapped() -> None:
    """A translation longer than a line is written over several, and says the same."""
    code = 'prompt = (\n    "One sentence, "\n    "and its rest."\n)\n# a comment here\nx = 1'
    long = "mot " * 60 + "fin"
    built = replace(code, code_units(code, strings=True), lambda unit: long)
    assert max(map(len, built.splitlines())) <= 88
    assert strings(built) == [long]
    assert comments(built) == [long]


def test_magics_stay_where_they_are() -> None:
    """IPython's own lines are known, and the rest of the cell still parses."""
    code = "try:\n    import a\nexcept ImportError:\n    %pip install a\nfiles = !ls\nawait f()"
    assert magics(code) == ["    %pip install a", "files = !ls"]
    assert len(parse(code).body) == 3


def test_lines_of_chinese_are_cut_between_characters() -> None:
    """A text without spaces is wrapped too, and loses nothing."""
    text = "这是一个很长的句子，没有空格。" * 10
    lines = wrap(text, 60)
    assert len(lines) > 3
    assert "".join(lines) == text


def test_settings_are_cut_into_comments() -> None:
    """In .env.example, paragraphs and headings are units, variables are not."""
    text = "# Copy it\n# now.\n\n# --- Title ------\n\n# A key.\n# KEY=\n# OTHER=\n"
    units = settings_units(text)
    assert [unit.text for unit in units] == ["Copy it now.", "Title", "A key."]
    built = replace(text, units, lambda unit: unit.text.upper())
    assert built.endswith("# --- TITLE ------\n\n# A KEY.\n# KEY=\n# OTHER=\n")


NOTEBOOKS = [source for source in find_sources(ROOT) if source.is_notebook]


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda source: source.domain)
def test_every_unit_can_be_put_back(source: Source) -> None:
    """Replacing each unit by itself gives a text with the same units."""
    for cell in source.notebook.cells:
        units = cell_units(cell)
        before = [(unit.kind, unit.text) for unit in units]
        cell.source = replace(cell.source, units, lambda unit: unit.text)
        assert [(unit.kind, unit.text) for unit in cell_units(cell)] == before
