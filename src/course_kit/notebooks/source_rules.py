"""What an author may write in a notebook: one function a rule."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from course_kit.notebooks.page import Finding, Page, Rule
from course_kit.notebooks.pages import (
    find_lessons,
    links,
    parameters,
    prose,
    read_as_stored,
    repository_url,
    syntax_tree,
    tags,
)

__all__ = ["SOURCE_RULES"]

MAX_LINES, MAX_WIDTH, MAX_RUN = 25, 88, 3


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


def opens_in_colab_and_on_github(page: Page) -> Iterator[Finding]:
    """Require the Colab badge and the page on GitHub, of this very notebook, at the top."""
    top = "\n".join(cell.source for cell in page.nb.cells[:2] if cell.cell_type == "markdown")
    repository = repository_url(page.root).removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{page.place}"
    badge = re.compile(rf"\[!\[[^\]]+\]\([^)]+\)\]\({re.escape(colab)}(\?hl=[\w-]+)?\)")
    if not badge.search(top):
        yield page.finding(1, f"There is no Colab badge (a picture that links to {colab}).")
    github = f"{repository_url(page.root)}/blob/main/{page.place}"
    if github not in links(top):
        yield page.finding(1, f"There is no link to the page on GitHub ({github}).")


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
    if page.path not in lessons:
        yield page.finding(None, "It is no lesson: a lesson's name is like 00_setup.ipynb.")
        return
    position = lessons.index(page.path)
    for other in (*lessons[max(position - 1, 0) : position], *lessons[position + 1 : position + 2]):
        if not any(_resolve(page, link) == other for link in _links(page) if _is_relative(link)):
            yield page.finding(None, f"There is no link to the neighbour {other.name}.")


def _links(page: Page) -> list[str]:
    return [link for _, cell in page.cells("markdown") for link in links(cell.source)]


def plain_comes_first(page: Page) -> Iterator[Finding]:
    """Require that a reader has seen the job done by the library itself before by a helper.

    In a cell before, of this lesson or of an earlier one.
    """
    lessons = [path for path in find_lessons(page.path.parent) if path.name < page.path.name]
    shown = "\n".join(c.source for path in lessons for c in read_as_stored(path).cells)
    for number, cell in enumerate(page.nb.cells, 1):
        if cell.cell_type == "code":
            for helper, plain in PLAIN_FIRST.items():
                if re.search(rf"\b{helper}[.(]", cell.source) and not re.search(plain, shown):
                    text = f"{helper} comes before the plain way ({plain}) has been shown."
                    yield page.finding(number, text)
        shown += f"\n{cell.source}"


# What a lesson shows before our helper for the same job. What only prepares the bench
# (setup_environment, check_parameters, model_path, PracticeHub, diagram) needs nothing before it.
PLAIN_FIRST = {
    "install_packages": r"%pip install",
    "login": r"from huggingface_hub import login|huggingface_hub\.login",
    "select_device": r"torch\.cuda|device=",
    "load_llm": r"HuggingFacePipeline",
    "LocalPipeline": r"HuggingFacePipeline",
    "load_gated_model": r"token=",
    "LocalChat": r"ChatHuggingFace",
    "chat_box": r"\.invoke\(",
    "measure": r"perf_counter|%timeit",
    "plot_measurements": r"perf_counter|plt\.",
    "answer_file": r"\.batch\(",
    "GenAIPipeline": r"LLMPipeline",
    "export_openvino": r"optimum-cli|export=True",
    "run_on_ray": r"map_batches",
    "ov_config": r"PERFORMANCE_HINT",
}


SOURCE_RULES: tuple[Rule, ...] = (
    code_is_valid,
    code_is_short,
    one_title_at_the_top,
    opens_in_colab_and_on_github,
    parameters_are_set_once,
    imports_are_public,
    images_have_alt_text,
    relative_links_resolve,
    details_are_closed,
    linked_from_index_and_neighbours,
    plain_comes_first,
)
