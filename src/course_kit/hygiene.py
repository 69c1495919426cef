"""`course_kit check`: what every notebook must be, English and translated, one function a rule.

A rule gets a `Page` and yields a `Finding` for each place where the notebook breaks it. The rules
in `OUTPUT_RULES` are about what a run leaves behind, those in `SOURCE_RULES` about what an author
writes.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from course_kit.pages import (
    find_all_lessons,
    find_lessons,
    find_root,
    links,
    parameters,
    prose,
    read_as_stored,
    repository_url,
    syntax_tree,
    tags,
)

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
MAX_LINES, MAX_WIDTH, MAX_RUN = 25, 88, 3
MAX_OUTPUT_LINES, MAX_IMAGE_BYTES = 50, 100_000


@dataclass(frozen=True)
class Page:
    """A notebook and where it stands.

    Attributes:
        path: The file.
        root: The repository it belongs to.
        nb: Its content, as stored.
        private: Texts that no output may hold, such as the folders of the machine it ran on.
    """

    path: Path
    root: Path
    nb: Any
    private: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The path from the repository's root, with slashes."""
        return self.path.relative_to(self.root).as_posix()

    def cells(self, kind: str) -> Iterator[tuple[int, Any]]:
        """Yield the cells of one type with their position, counted from 1."""
        yield from ((i, c) for i, c in enumerate(self.nb.cells, 1) if c.cell_type == kind)

    def outputs(self) -> Iterator[tuple[int, Any, Any]]:
        """Yield position, cell and output for every output."""
        yield from ((i, c, out) for i, c in self.cells("code") for out in c.outputs)

    def finding(self, cell: int | None, sentence: str) -> Finding:
        """Write down a finding on this page."""
        return Finding(self.place, cell, sentence)


@dataclass(frozen=True)
class Finding:
    """A place where a notebook breaks a rule.

    Attributes:
        place: The notebook's path from the repository's root.
        cell: The cell's position, counted from 1 over all cells; None for the whole notebook.
        sentence: What is wrong, and what would be right.
    """

    place: str
    cell: int | None
    sentence: str

    def __str__(self) -> str:
        return f"{self.place}{f', cell {self.cell}' if self.cell else ''}: {self.sentence}"


Rule = Callable[[Page], Iterator[Finding]]


# What a run leaves behind


def kernel_is_python3(page: Page) -> Iterator[Finding]:
    """Accept no kernel that carries the name of somebody's machine."""
    if page.nb.metadata.get("kernelspec") != KERNEL:
        yield page.finding(None, f"The kernelspec must be {json.dumps(KERNEL)}.")


def cells_have_unique_ids(page: Page) -> Iterator[Finding]:
    """Require ids: translations and diffs refer to them."""
    seen: set[str] = set()
    for number, cell in enumerate(page.nb.cells, 1):
        if not cell.get("id"):
            yield page.finding(number, "The cell has no id; `course_kit execute` gives it one.")
        elif cell.id in seen:
            yield page.finding(number, f"The id {cell.id} is taken by an earlier cell.")
        seen.add(cell.get("id", ""))


def executed_in_order(page: Page) -> Iterator[Finding]:
    """Require the counts 1, 2, 3, …: outputs come from one run from top to bottom."""
    for expected, (number, cell) in enumerate(page.cells("code"), 1):
        if not cell.source.strip():
            yield page.finding(number, "The code cell is empty.")
        if cell.execution_count != expected:
            count = cell.execution_count or " "
            yield page.finding(number, f"The cell was executed as [{count}], not [{expected}].")
            return


def no_stderr(page: Page) -> Iterator[Finding]:
    """Keep warnings and progress-bar debris out."""
    for number, _, output in page.outputs():
        if output.output_type == "stream" and output.name == "stderr":
            yield page.finding(number, f"There is stderr output: {_excerpt(output.text)}")


def no_private_paths(page: Page) -> Iterator[Finding]:
    """Keep the folders of a machine out of sources and outputs."""
    for number, cell in enumerate(page.nb.cells, 1):
        for match in _HOME.finditer(cell.source):
            yield page.finding(number, f"The source names a home folder: {match[0]}")
    for number, _, output in page.outputs():
        for text in _texts(output):
            if path := _private_path(text, page.private):
                yield page.finding(number, f"The output holds a path of this machine: {path}")


def _private_path(text: str, known: Sequence[str]) -> str:
    match = _HOME.search(text) or _MACHINE.search(text)
    return next((part for part in known if part in text), match[0] if match else "")


_HOME = re.compile(r"(?<![\w.~])(/home/(?!you\b)\w+|/Users/(?!you\b)\w+|/(?:root)/)"
                   r"|\b[A-Za-z]:\\{1,2}Users\\{1,2}(?!you\b)\w+")  # fmt: skip
_MACHINE = re.compile(r"(?<![\w.~])/(tmp|var/folders)/\w+|site-packages")


def no_tokens(page: Page) -> Iterator[Finding]:
    """Keep tokens out of the whole file; samples made of x or saying so are allowed."""
    for number, cell in enumerate(page.nb.cells, 1):
        for match in _TOKEN.finditer(json.dumps(cell)):
            if not _SAMPLE.search(match[0]):
                yield page.finding(number, f"There is what looks like a token: {match[0][:6]}…")
    if _TOKEN.search(json.dumps(page.nb.metadata)):
        yield page.finding(None, "The notebook's metadata hold what looks like a token.")


_TOKEN = re.compile(r"hf_[A-Za-z0-9]{24,}|lsv2_[a-z]{2}_[0-9a-f]{32}\w*")
_SAMPLE = re.compile(r"x{8}|sample|example|practice", re.IGNORECASE)


_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def no_widget_state(page: Page) -> Iterator[Finding]:
    """Keep widget state out: Colab calls such a notebook invalid."""
    if "widgets" in page.nb.metadata:
        yield page.finding(None, "The notebook's metadata hold widget state.")
    for number, _, output in page.outputs():
        if _WIDGET_VIEW in output.get("data", {}):
            yield page.finding(number, "The output is a widget, which shows nothing when stored.")


def only_wanted_errors(page: Page) -> Iterator[Finding]:
    """Allow errors in cells tagged `raises-exception` only, and require them there."""
    for number, cell in page.cells("code"):
        failed = any(output.output_type == "error" for output in cell.outputs)
        wanted = "raises-exception" in tags(cell)
        if failed and not wanted:
            yield page.finding(number, "The cell failed and has no tag raises-exception.")
        if wanted and not failed and cell.execution_count:
            yield page.finding(number, "The cell is tagged raises-exception and did not fail.")


def outputs_are_short(page: Page) -> Iterator[Finding]:
    """Limit a cell's outputs to a screenful, and its pictures to what a repository can carry."""
    for number, cell in page.cells("code"):
        lines = sum(map(_height, cell.outputs))
        if lines > MAX_OUTPUT_LINES:
            text = f"The outputs have {lines} lines; at most {MAX_OUTPUT_LINES} are allowed."
            yield page.finding(number, text)
    for number, _, output in page.outputs():
        size = len(output.get("data", {}).get("image/png", "")) * 3 // 4
        if size > MAX_IMAGE_BYTES:
            yield page.finding(number, f"The picture has {size // 1000} kB; 100 are allowed.")


def _texts(output: Any) -> list[str]:
    data = output.get("data", {})
    found = [data[mime] for mime in data if mime.startswith("text/")]
    found += [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])]
    return [text for text in found if text]


def _height(output: Any) -> int:
    data = output.get("data", {})
    if "text/html" in data:  # what a reader sees instead of the plain text
        return len(re.findall(r"<(?:tr|p|li|h\d)\b", data["text/html"]))
    shown = [output.get("text", ""), data.get("text/plain", ""), *output.get("traceback", [])]
    return sum(len(text.splitlines()) for text in shown)


def _excerpt(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line[:80] + ("…" if len(line) > 80 else "")


# What an author writes


def code_is_valid(page: Page) -> Iterator[Finding]:
    """Require that every code cell parses; HTML comments in code are a fault of old generators."""
    for number, cell in page.cells("code"):
        if "<!--" in cell.source:
            yield page.finding(number, "There is an HTML comment in the code.")
        try:
            syntax_tree(cell)
        except SyntaxError as error:
            yield page.finding(
                number, f"The code does not parse: {error.msg} (line {error.lineno})."
            )


def code_is_short(page: Page) -> Iterator[Finding]:
    """Limit a cell to one idea, a line to a laptop's width, code to three cells in a row."""
    for number, cell in page.cells("code"):
        lines = cell.source.splitlines()
        if len(lines) > MAX_LINES:
            yield page.finding(number, f"The cell has {len(lines)} lines; {MAX_LINES} are allowed.")
        for line, text in enumerate(lines, 1):
            if len(text) > MAX_WIDTH:
                width = f"Line {line} has {len(text)} characters; {MAX_WIDTH} are allowed."
                yield page.finding(number, width)
    for kind, group in groupby(enumerate(page.nb.cells, 1), lambda pair: pair[1].cell_type):
        run = list(group)
        if kind == "code" and len(run) > MAX_RUN:
            text = f"{len(run)} code cells follow each other; say something after {MAX_RUN}."
            yield page.finding(run[0][0], text)


def one_title_at_the_top(page: Page) -> Iterator[Finding]:
    """Require exactly one H1, as the beginning of the first cell."""
    if not page.nb.cells or not re.match(r"# \S", page.nb.cells[0].source):
        yield page.finding(1, "The first cell must begin with the title: `# …`.")
    titles = [n for n, c in page.cells("markdown") for _ in _H1.finditer(prose(c.source))]
    for number in titles[1:]:
        yield page.finding(number, "There is a second H1; use `##`.")


_H1 = re.compile(r"^# \S|<h1\b", re.MULTILINE | re.IGNORECASE)


def opens_in_colab_and_lab(page: Page) -> Iterator[Finding]:
    """Require the Colab badge and the JupyterLab link, of this very notebook, at the top."""
    top = "\n".join(cell.source for cell in page.nb.cells[:2] if cell.cell_type == "markdown")
    repository = repository_url(page.root).removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{page.place}"
    badge = re.compile(rf"\[!\[[^\]]+\]\([^)]+\)\]\({re.escape(colab)}(\?hl=[\w-]+)?\)")
    if not badge.search(top):
        yield page.finding(1, f"There is no Colab badge (a picture that links to {colab}).")
    if not any("/lab/tree/" in link and link.endswith(page.path.name) for link in links(top)):
        yield page.finding(1, f"There is no JupyterLab link (…/lab/tree/…{page.path.name}).")


def parameters_are_set_once(page: Page) -> Iterator[Finding]:
    """Require one `parameters` cell with the pocket model, and the cell that checks them next."""
    code = list(page.cells("code"))
    tagged = [index for index, (_, cell) in enumerate(code) if "parameters" in tags(cell)]
    if len(tagged) != 1:
        text = f"Exactly one cell must be tagged parameters; there are {len(tagged)}."
        yield page.finding(None, text)
        return
    if _parameters(page).get("MODEL_ID") != "pocket":
        text = 'The parameters must set MODEL_ID = "pocket".'
        yield page.finding(code[tagged[0]][0], text)
    following = code[tagged[0] + 1 : tagged[0] + 2]
    if not following or "check_parameters(" not in following[0][1].source:
        text = "The next code cell after the parameters must call check_parameters(…)."
        yield page.finding(code[tagged[0]][0], text)


def _parameters(page: Page) -> dict[str, Any]:
    try:
        return parameters(page.nb)
    except SyntaxError:  # told by code_is_valid
        return {}


def imports_are_public(page: Page) -> Iterator[Finding]:
    """Allow what learners import: the names in `local_pipelines.__all__`, nothing of the kit."""
    import local_pipelines

    public = {*local_pipelines.__all__, "__version__"}
    for number, cell in page.cells("code"):
        for name in _imported(cell):
            package, _, rest = name.partition(".")
            if package == "course_kit":
                yield page.finding(
                    number, "course_kit is for maintainers; lessons must not use it."
                )
            elif package == "local_pipelines" and rest and rest not in public:
                yield page.finding(number, f"{name} is not a public name of local_pipelines.")


def _imported(cell: Any) -> Iterator[str]:
    try:
        nodes = list(ast.walk(syntax_tree(cell)))
    except SyntaxError:  # told by code_is_valid
        return
    for node in nodes:
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.Attribute(value=ast.Name(id="local_pipelines")):
                yield f"local_pipelines.{node.attr}"


def images_have_alt_text(page: Page) -> Iterator[Finding]:
    """Require words for those who do not see the picture."""
    for number, cell in page.cells("markdown"):
        text = prose(cell.source)
        silent = [tag for tag in re.findall(r"<img\b[^>]*>", text, re.IGNORECASE)
                  if not re.search(r"""\balt\s*=\s*["'][^"']*\w""", tag)]  # fmt: skip
        if silent or re.search(r"!\[\s*\]", text):
            yield page.finding(number, "An image has no alt text.")


def relative_links_resolve(page: Page) -> Iterator[Finding]:
    """Require that every file that a lesson links to is there."""
    for number, cell in page.cells("markdown"):
        for link in links(cell.source):
            if not _is_relative(link) or _resolve(page, link).exists():
                continue
            yield page.finding(number, f"The link {link} leads nowhere.")


def _is_relative(link: str) -> bool:
    return not re.match(r"[a-z][a-z0-9+.-]*:|#|//", link, re.IGNORECASE)


def _resolve(page: Page, link: str) -> Path:
    return page.path.parent / unquote(link.partition("#")[0])


def details_are_closed(page: Page) -> Iterator[Finding]:
    """Require hidden solutions to stay hidden, and their tags to match within the cell."""
    for number, cell in page.cells("markdown"):
        text = prose(cell.source)
        found = Counter(re.findall(r"</?(?:details|summary)\b", text))
        if re.search(r"<details[^>]*\bopen\b", text):
            yield page.finding(number, "The <details> is open; a solution must be hidden.")
        if len(set(found.values())) > 1 or len(found) not in (0, 4):
            yield page.finding(number, "<details>, <summary> and their ends do not match.")


def linked_from_index_and_neighbours(page: Page) -> Iterator[Finding]:
    """Require the way to the lesson: from README.md (for the English), from before and after."""
    readme = page.root / "README.md"
    if page.path.parent == page.root / "notebooks":
        listed = links(readme.read_text(encoding="utf-8")) if readme.is_file() else []
        if page.place not in listed:
            yield page.finding(None, f"README.md does not link to {page.place}.")
    lessons = find_lessons(page.path.parent)
    position = lessons.index(page.path)
    for other in (*lessons[max(position - 1, 0) : position], *lessons[position + 1 : position + 2]):
        if not any(_resolve(page, link) == other for link in _links(page) if _is_relative(link)):
            yield page.finding(None, f"There is no link to the neighbour {other.name}.")


def _links(page: Page) -> list[str]:
    return [link for _, cell in page.cells("markdown") for link in links(cell.source)]


OUTPUT_RULES: tuple[Rule, ...] = (
    kernel_is_python3,
    cells_have_unique_ids,
    executed_in_order,
    no_stderr,
    no_private_paths,
    no_tokens,
    no_widget_state,
    only_wanted_errors,
    outputs_are_short,
)
SOURCE_RULES: tuple[Rule, ...] = (
    code_is_valid,
    code_is_short,
    one_title_at_the_top,
    opens_in_colab_and_lab,
    parameters_are_set_once,
    imports_are_public,
    images_have_alt_text,
    relative_links_resolve,
    details_are_closed,
    linked_from_index_and_neighbours,
)


def find_faults(page: Page, rules: Sequence[Rule] = OUTPUT_RULES + SOURCE_RULES) -> list[Finding]:
    """Check one notebook.

    Args:
        page: The notebook.
        rules: The rules to check; all by default.

    Returns:
        What breaks them, rule by rule.
    """
    return [finding for rule in rules for finding in rule(page)]


def check(path: Path, root: Path) -> list[Finding]:
    """Read one notebook and check it against all rules.

    Args:
        path: The notebook.
        root: The repository it belongs to.

    Returns:
        What breaks them; a file that is no notebook is a finding too.
    """
    path, root = path.resolve(), root.resolve()
    private = tuple(str(folder) for folder in (root, Path.home()) if len(folder.parts) > 1)
    try:
        return find_faults(Page(path, root, read_as_stored(path), private))
    except (OSError, ValueError) as error:
        return [Finding(path.name, None, str(error))]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings, one a line.

    Args:
        argv: The command's words.

    Returns:
        0 where there are none, 1 where there are some, 2 where there is no notebook.
    """
    parser = argparse.ArgumentParser(
        prog="course_kit check", description="Check notebooks against the hygiene rules."
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of every language by default")
    root = find_root()
    lessons = parser.parse_args(argv).notebooks or find_all_lessons(root)
    if not lessons:
        print(f"There is no notebook in {root / 'notebooks'}.", file=sys.stderr)
        return 2
    findings = [finding for lesson in lessons for finding in check(lesson, root)]
    for finding in findings:
        print(finding)
    print(f"{len(lessons)} notebooks, {len(findings) or 'no'} findings.")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
