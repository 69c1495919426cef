"""Python code: its comments by `tokenize`, its strings by `ast`; nothing else of it changes."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

from course_kit.translate.units import Unit, wrap

__all__ = [
    "LANGUAGE_CALL",
    "TAG",
    "code_units",
    "keeps",
    "magics",
    "masked",
    "parse",
    "string_nodes",
]

TAG = "i18n-strings"  # a cell whose strings are translated
KEEP = "i18n-keep="  # the beginning of a tag that names one string which is not
LANGUAGE_CALL = "setup_environment"  # the one call that tells a page's language
WIDTH = 88

_MAGIC = re.compile(r"^(\s*)(?:[%!?].*|[\w., ]+=\s*[%!](?![=]).*|[\w.]+\?{1,2})$")
_DIRECTIVE = re.compile(
    r"#\s*(?:!|%%|type:|noqa\b|pragma\b|fmt:|mypy:|ruff:|pylint:|isort:|i18n:|-\*-)"
)
_OPT_OUT = re.compile(r"#\s*i18n:\s*keep\b")
_LITERAL = re.compile(r"""(?P<prefix>[A-Za-z]*)(?P<quote>\"{3}|'{3}|"|')""")
_FIELD = re.compile(r"\{\{|\}\}|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_WORDS = re.compile(r"[^\W\d_]+[,:;]? +[^\W\d_]{2,}|[^\W\d_]{2,} +[^\W\d_]+")
_LABEL = re.compile(r"[A-ZÀ-Þ][^\W\d_]*[a-zà-ÿ]|[^\W\d_]{2,}[:?!…]")
_FOREIGN = re.compile(r"[\u0370-\ud7ff\uf900-\uffef¿¡]")


def magics(source: str) -> list[str]:
    """List the lines that are IPython's and not Python's."""
    lines = source.split("\n")
    if source.startswith("%%"):
        return lines
    return [line for line, is_magic in zip(lines, _are_magic(lines), strict=True) if is_magic]


def _are_magic(lines: Sequence[str]) -> Iterator[bool]:
    """Tell of each line whether it is a magic or goes on with one after a backslash."""
    goes_on = False
    for line in lines:
        is_magic = goes_on or bool(_MAGIC.match(line))
        goes_on = is_magic and line.endswith("\\")
        yield is_magic


def masked(source: str) -> str:
    """Put `pass` in the place of magics, so that the rest is Python and all positions stay."""
    lines = source.split("\n")
    for number, is_magic in enumerate(_are_magic(lines)):
        if is_magic:
            match = _MAGIC.match(lines[number])
            start = f"{match[1]}pass" if match else ""
            lines[number] = start.ljust(len(lines[number]))
    return "\n".join(lines)


def parse(source: str) -> ast.Module:
    """Parse a cell's code, magics left out.

    Args:
        source: The code; a cell that is one magic as a whole is empty.

    Returns:
        The tree.

    Raises:
        SyntaxError: It is not valid.
    """
    return ast.parse("" if source.startswith("%%") else masked(source))


def keeps(tags: Sequence[str]) -> frozenset[str]:
    """Read from a cell's tags which of its strings are not translated."""
    return frozenset(tag.removeprefix(KEEP) for tag in tags if tag.startswith(KEEP))


def code_units(
    source: str, *, strings: bool = False, keep: frozenset[str] = frozenset()
) -> list[Unit]:
    """Find the comments of a piece of code and, where asked for, its strings.

    Args:
        source: The code.
        strings: Its strings are units, too.
        keep: Strings that are not.

    Returns:
        The units in their order; none where the code is not valid Python.
    """
    if source.startswith("%%"):
        return []
    try:
        places = _Places(masked(source))
        found = list(_comments(places))
        if strings:
            nodes = string_nodes(ast.parse(places.source), places.source, keep)
            found += [unit for node in nodes if (unit := _string(places, node))]
    except (SyntaxError, tokenize.TokenError):
        return []
    return sorted(found, key=lambda unit: unit.start)


class _Places:
    """Turns lines and columns, in characters or bytes, into positions."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines = source.split("\n")
        self.offsets = [0, *accumulate(len(line) + 1 for line in self.lines)]

    def at(self, line: int, column: int) -> int:
        return self.offsets[line - 1] + column

    def span(self, node: ast.expr) -> tuple[int, int]:
        last, column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self._byte(node.lineno, node.col_offset), self._byte(last, column)

    def _byte(self, line: int, column: int) -> int:
        return self.at(line, len(self.lines[line - 1].encode()[:column].decode()))


# --- comments -----------------------------------------------------------------------------------


def _comments(places: _Places) -> Iterator[Unit]:
    tokens = list(tokenize.generate_tokens(io.StringIO(places.source).readline))
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    own = [token for token in comments if not token.line[: token.start[1]].strip()]
    for token in comments:
        if token not in own and _is_prose(token.string):
            yield _comment(places, [token])
    numbered = enumerate(own)
    for _, run in groupby(numbered, lambda pair: (pair[1].start[0] - pair[0], pair[1].start[1])):
        for paragraph in _paragraphs([token for _, token in run]):
            yield _comment(places, paragraph)


def _is_prose(comment: str) -> bool:
    return not _DIRECTIVE.match(comment) and bool(re.search(r"[^\W\d_]{2,}", comment))


def _paragraphs(run: list[tokenize.TokenInfo]) -> Iterator[list[tokenize.TokenInfo]]:
    """Divide comment lines that follow each other: code that is switched off is no prose."""
    prose: list[tokenize.TokenInfo] = []
    while run:
        size = _code_lines([token.string for token in run])
        if not size and _is_prose(run[0].string):
            prose.append(run.pop(0))
            continue
        if prose:
            yield prose
        prose, run = [], run[max(size, 1) :]
    if prose:
        yield prose


def _code_lines(comments: list[str]) -> int:
    """Count the first lines that are, together, Python statements that do something."""
    lines = [comment.lstrip("#").removeprefix(" ") for comment in comments]
    for size in range(len(lines), 0, -1):
        try:
            body = ast.parse("\n".join(lines[:size])).body
        except SyntaxError:
            continue
        if body and all(_does_something(statement) for statement in body):
            return size
    return 0


def _does_something(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call | ast.Await)
    return not isinstance(statement, ast.AnnAssign) or statement.value is not None


def _comment(places: _Places, tokens: list[tokenize.TokenInfo]) -> Unit:
    text = " ".join(token.string.lstrip("#").strip() for token in tokens)
    column = tokens[0].start[1]
    is_own = not tokens[0].line[:column].strip()

    def write(translation: str) -> str:
        lines = wrap(translation, WIDTH - 2 - column) if is_own else [translation]
        return f"\n{' ' * column}".join(f"# {line.strip()}" for line in lines)

    start, end = places.at(*tokens[0].start), places.at(*tokens[-1].end)
    return Unit("comment", text, start, end, write)


# --- strings ------------------------------------------------------------------------------------


def string_nodes(
    tree: ast.Module, source: str, keep: frozenset[str] = frozenset()
) -> list[ast.Constant | ast.JoinedStr]:
    """Find the strings of a tagged cell that people, or the model, read.

    Prose has several words, or is a label (`Kenya`, `size:`); identifiers, paths, keys and formats
    have none. A line that ends in `# i18n: keep` and the strings in `keep` are left out.

    Args:
        tree: The code's tree.
        source: The code.
        keep: Strings that are not translated.

    Returns:
        The nodes of these strings.
    """
    lines = source.split("\n")
    keys = {id(key) for node in ast.walk(tree) for key in _keys(node)}
    found: list[ast.Constant | ast.JoinedStr] = []
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Constant | ast.JoinedStr):
            if id(node) not in keys and not _is_kept(node, lines, keep) and _is_read(node):
                found.append(node)
        else:
            stack.extend(ast.iter_child_nodes(node))
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _keys(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Dict():
            yield from (key for key in node.keys if key)
        case ast.Subscript():
            yield node.slice
        case ast.Call(func=ast.Attribute(attr="get" | "setdefault" | "pop" | "format_map")):
            yield from node.args[:1]


def _is_kept(node: ast.expr, lines: Sequence[str], keep: frozenset[str]) -> bool:
    own = lines[node.lineno - 1 : node.end_lineno]
    value = node.value if isinstance(node, ast.Constant) else ast.unparse(node)[2:-1]
    return value in keep or any(_OPT_OUT.search(line) for line in own)


def _is_read(node: ast.Constant | ast.JoinedStr) -> bool:
    if isinstance(node, ast.JoinedStr):
        literal = [part.value for part in node.values if isinstance(part, ast.Constant)]
        text = "\0".join(str(value) for value in literal)
        return bool(re.search(r"(?<![\w./-])[^\W\d_]{3,}(?![\w./]*[/_])", text))
    if not isinstance(node.value, str):
        return False
    text = node.value.strip()
    is_prose = _WORDS.search(text) or _LABEL.fullmatch(text) or _FOREIGN.search(text)
    return bool(is_prose) and not re.fullmatch(r"[\w.-]+(?:/[\w.*-]+)+", text)


def _string(places: _Places, node: ast.Constant | ast.JoinedStr) -> Unit | None:
    start, end = places.span(node)
    literal = places.source[start:end]
    opening = _LITERAL.match(literal)
    if opening is None:
        return None
    if isinstance(node, ast.JoinedStr):
        return _f_string(literal, start, end)
    column = start - places.source.rfind("\n", 0, start) - 1
    quote = opening["quote"]

    def write(text: str) -> str:
        is_split = "\n" in literal and len(quote) == 1
        lines = wrap(text, WIDTH - column - 3) if is_split else [text]
        return f"\n{' ' * column}".join(f"{quote}{_escape(line, quote)}{quote}" for line in lines)

    return Unit("string", str(node.value), start, end, write)


def _f_string(literal: str, start: int, end: int) -> Unit | None:
    opening = _LITERAL.match(literal)
    if opening is None or "\n" in literal:
        return None  # in several pieces; an author can make it one
    quote = opening["quote"]
    inner = literal[opening.end() : -len(quote)]

    def write(text: str) -> str:
        parts: list[str] = []
        position = 0
        for field in _FIELD.finditer(text):  # what stands in braces is code, not text
            parts += [_escape(text[position : field.start()], quote), field[0]]
            position = field.end()
        body = "".join([*parts, _escape(text[position:], quote)])
        return f"{opening['prefix']}{quote}{body}{quote}"

    text = inner.replace("\\n", "\n").replace(f"\\{quote}", quote)
    return Unit("f-string", text, start, end, write)


def _escape(text: str, quote: str) -> str:
    escaped = text.replace("\\", "\\\\").replace(quote[0], f"\\{quote[0]}")
    return escaped if len(quote) == 3 else escaped.replace("\n", "\\n").replace("\t", "\\t")
