"""A small course in English with two languages, to translate and to break."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polib
import pytest
from nbformat import v4

from course_kit.notebooks.page import KERNEL
from course_kit.notebooks.execute import LANGUAGE, write
from course_kit.notebooks.pages import find_lessons, read_as_stored
from course_kit.translate.build import build
from course_kit.translate.progress import Progress
from course_kit.translate.catalogue import extract, update
from course_kit.translate.checks import TranslationFault, check
from course_kit.translate.languages import add_language

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/someone/course"
COLAB = "https://colab.research.google.com/github/someone/course/blob/main/notebooks"

CELLS: list[tuple[str, str, tuple[str, ...]]] = [
    ("title", f"""\
# 0 · A first lesson

[![Open in Colab](https://x.org/badge.svg)]({COLAB}/00_first.ipynb)
[View on GitHub]({REPOSITORY}/blob/main/notebooks/00_first.ipynb)

**What you will build:** a lesson that
goes over two lines, and see [the next one](01_second.ipynb).""", ()),
    ("environment", """\
from local_pipelines import setup_environment

environment = setup_environment()""", ()),
    ("words", """\
## Why?
The model has a *short* memory, costs $a^2$ of it, and calls `run()` <br> twice.

1. The first point of `a|b`;
2. see [the help](../README.md#start) and [Why](#why).

| what you see | what to do |
|---|---|
| `a` | Take a token. |
| a pipe `\\|` | Turn it. |""", ()),
    ("ask", """\
# The first line of a comment, which
# goes on here.
# value = compute(1)
%pip install -q thing
names = ["Kenya", "Japan"]  # two countries
key = {"first key": 1}["first key"]  # noqa: F841
for name in names:
    print(f"What is the capital of {name}?", end="\\n\\n")
print("The number:", key)""", ("i18n-strings",)),
    ("plain", 'print("This string is not translated.")', ()),
    ("fails", "raise ValueError(1)  # on purpose", ("raises-exception",)),
    ("end", """\
<details><summary>A solution</summary>

```python
ask("What is a token?")  # the question
```

</details>""", ("i18n-strings",)),
]  # fmt: skip

README = """\
# A course

Read [the first lesson](notebooks/00_first.ipynb) and [the licence](LICENSE).

## Start

![A picture of a window](docs/window.png)
"""
SETTINGS = """\
# Copy this file and
# change it.

# --- The model ------------------------------

# Your secret token.
# HF_TOKEN=
"""


def notebook(cells: list[tuple[str, str, tuple[str, ...]]]) -> Any:
    made = []
    for name, source, tags in cells:
        make = v4.new_markdown_cell if name in {"title", "words", "end"} else v4.new_code_cell
        cell = make(source, id=name, metadata={"tags": list(tags)} if tags else {})
        made.append(cell)
    return v4.new_notebook(cells=made, metadata={"kernelspec": KERNEL, "language_info": LANGUAGE})


_KEPT = re.compile(r"(`+[^`]+`+|\]\([^)]*\)|https?://\S+|<[^>]*>|\{[^{}]*\}|&\w+;|\$[^$]+\$|\\.)")
_ACCENTS = str.maketrans("aeiouAEIOUcn", "áéíóúÁÉÍÓÚçñ")


def pseudo(text: str) -> str:
    """Write a text with accents and one word more, its code, links and fields left alone."""
    parts = _KEPT.split(text)
    accented = "".join(p if i % 2 else p.translate(_ACCENTS) for i, p in enumerate(parts))
    blank = accented[len(accented.rstrip()) :]
    return f"{accented.rstrip()} ŵ{blank}"


@dataclass
class Course:
    """A repository to work on."""

    root: Path

    def catalogue(self, code: str, domain: str = "00_first") -> Path:
        return self.root / "i18n" / code / "LC_MESSAGES" / f"{domain}.po"

    def page(self, code: str, name: str = "00_first") -> Path:
        return self.root / "i18n" / code / "notebooks" / f"{name}.ipynb"

    def lesson(self, name: str = "00_first") -> Path:
        return self.root / "notebooks" / f"{name}.ipynb"

    def add(self, code: str) -> None:
        add_language(self.root, code)
        self.refresh()

    def refresh(self) -> list[Progress]:
        extract(self.root)
        update(self.root)
        return build(self.root)

    def fill(self, code: str, translate: Callable[[str], str] = pseudo) -> None:
        """Translate all that is missing."""
        for path in (self.root / "i18n" / code / "LC_MESSAGES").glob("*.po"):
            catalogue = polib.pofile(str(path), wrapwidth=0)
            for entry in catalogue:
                if not entry.translated():
                    entry.msgstr = translate(entry.msgid)
                    entry.flags = [flag for flag in entry.flags if flag != "fuzzy"]
                    entry.previous_msgid = None
            catalogue.save(str(path))
        self.refresh()

    def put(self, code: str, start: str, text: str, domain: str = "00_first") -> None:
        """Translate the unit that begins so with a text, and build."""
        path = self.catalogue(code, domain)
        catalogue = polib.pofile(str(path), wrapwidth=0)
        entry = next(entry for entry in catalogue if entry.msgid.startswith(start))
        entry.msgstr = text
        catalogue.save(str(path))
        self.refresh()

    def change(self, path: Path, cell: str, old: str, new: str) -> None:
        """Change the source of a cell."""
        nb = read_as_stored(path)
        target = next(one for one in nb.cells if one.id == cell)
        assert old in target.source
        target.source = target.source.replace(old, new)
        write(nb, path)

    def source(self, path: Path, cell: str) -> str:
        return next(str(one.source) for one in read_as_stored(path).cells if one.id == cell)

    def faults(self, *languages: str) -> list[TranslationFault]:
        return check(self.root, languages)


def write_course(root: Path) -> Course:
    """Write a course of two lessons, without languages."""
    (root / "notebooks").mkdir(parents=True)
    write(notebook(CELLS), root / "notebooks/00_first.ipynb")
    second = [("title", "# 1 · A second lesson\n\nBack to [the first](00_first.ipynb).", ())]
    write(notebook(second), root / "notebooks/01_second.ipynb")
    (root / "README.md").write_text(README, encoding="utf-8")
    (root / ".env.example").write_text(SETTINGS, encoding="utf-8")
    (root / "pyproject.toml").write_text(
        f'[project]\nname = "course"\nurls.Repository = "{REPOSITORY}"\n', encoding="utf-8"
    )
    return Course(root)


@pytest.fixture
def empty_course(tmp_path: Path) -> Course:
    """Give a course of two lessons, without languages."""
    return write_course(tmp_path / "course")


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Translate the course once, into a made-up German that keeps all rules."""
    if shutil.which("msgmerge") is None:
        pytest.skip("GNU gettext is not installed: no msgmerge")
    course = write_course(tmp_path_factory.mktemp("translated") / "course")
    course.add("de")
    course.fill("de")
    return course


@pytest.fixture
def course(translated: Course, tmp_path: Path) -> Course:
    """Give a copy of the translated course, to work on or to break."""
    return Course(shutil.copytree(translated.root, tmp_path / "course"))


@pytest.fixture
def repository(tmp_path: Path) -> Course:
    """Give a copy of the real course: its first two lessons, with all languages."""
    if shutil.which("msgmerge") is None:
        pytest.skip("GNU gettext is not installed: no msgmerge")
    root = tmp_path / "repository"
    for name in ("notebooks", "i18n"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("README.md", ".env.example", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for lesson in find_lessons(root / "notebooks")[2:]:
        for path in root.glob(f"i18n/*/LC_MESSAGES/{lesson.stem}.po"):
            path.unlink()
        lesson.unlink()
    course = Course(root)
    course.refresh()
    return course
