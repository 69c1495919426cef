"""Fills in a chat template as transformers does, without importing it, and within bounds.

A template is a small program from a model's folder. It runs in jinja2's sandbox, the names it may
use are those that transformers gives it, and it is stopped when it counts or writes without end.
What is not bounded: a single filter, format or `replace` that asks for gigabytes at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from local_pipelines.errors import failure
from local_pipelines.wording.messages import tr

_SPECIAL = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_MOST_STEPS = 300_000  # turns of loops and calls of one filling in: two seconds at most
_MOST_CHARACTERS = 10_000_000  # of one text: the longest contexts are a tenth of it

_steps: ContextVar[Iterator[int]] = ContextVar("local_pipelines_template_steps")


class _WithoutEndError(Exception):
    """A template counts or writes more than any conversation needs."""


def read_chat_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    """The template that a model's folder holds; None if it holds none."""
    file = folder / "chat_template.jinja"
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise failure("template-no-text", place=str(file)) from error
    except OSError:
        template = tokenizer_config.get("chat_template")
    if isinstance(template, list):  # several by name
        named = {e.get("name"): e.get("template") for e in template if isinstance(e, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise failure("template-no-text", place="tokenizer_config.json")
    return template or None


def render_chat_template(
    template: str,
    messages: list[dict[str, Any]],
    tokenizer_config: Mapping[str, Any],
    **variables: Any,
) -> str:
    """Write messages as the text that the model was trained on, or raise ParameterError."""
    special = {
        name: token.get("content") if isinstance(token, dict) else str(token)
        for name in _SPECIAL
        if (token := tokenizer_config.get(name)) is not None
    }
    known = {"tools": None, "documents": None, "add_generation_prompt": True, **special}
    token = _steps.set(count())
    try:
        pieces = _compiled(template).generate(messages=messages, **(known | variables))
        return _joined(_counted(pieces))
    except _WithoutEndError as error:
        raise failure("template-stopped", reason=error) from error
    except Exception as error:  # jinja2's own, or a plain one out of the template
        # A program of the model's folder may end in any error, without a word as well.
        said = str(error).strip() or type(error).__name__
        raise failure("template-refuses", error=said) from error
    finally:
        _steps.reset(token)


def _step() -> None:
    if next(_steps.get()) > _MOST_STEPS:
        raise _WithoutEndError(tr("it does not come to an end"))


def _check_size(size: int) -> None:
    if size > _MOST_CHARACTERS:
        raise _WithoutEndError(tr("it writes without end"))


def _bounded(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        _check_size(len(value))
    return value


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    size = 0
    for value in values:
        _step()
        size += len(value) if isinstance(value, str) else 0
        _check_size(size)
        yield value


def _joined(values: Iterable[Any]) -> str:
    """What `~` does."""
    text: str = _bounded("".join(map(str, values)))
    return text


def _refuse_huge(operator: str, left: Any, right: Any) -> None:
    """Find out before it is computed that a product or a power would be endless."""
    for text, times in ((left, right), (right, left)):
        if operator == "*" and isinstance(text, str | list | tuple) and isinstance(times, int):
            _check_size(len(text) * times)
    if operator == "**" and isinstance(right, int) and right > 1000:
        raise _WithoutEndError(tr("it does not come to an end"))


@cache
def _compiled(template: str) -> Any:
    import jinja2.ext
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.visitor import NodeTransformer

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks the model's own words for training: they are passed on."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's own way

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def through(name: str, node: Any) -> Any:
        return nodes.Filter(node, name, [], [], None, None)

    class Counting(NodeTransformer):
        """Puts a count into what a template is made of."""

        def visit_For(self, node: Any) -> Any:  # noqa: N802 - jinja2 looks for this name
            node = self.generic_visit(node)
            node.iter = through("_counted", node.iter)
            return node

        def visit_Concat(self, node: Any) -> Any:  # noqa: N802
            self.generic_visit(node)
            return through("_joined", nodes.List(node.nodes))

    class Bounded(ImmutableSandboxedEnvironment):
        """A sandbox in which each turn of a loop, each call and each long text is counted."""

        intercepted_binops = frozenset({"*", "**", "+"})

        def _parse(self, *args: Any) -> Any:
            tree = Counting().visit(super()._parse(*args))
            return tree.set_environment(self).set_lineno(1)

        def call(self, /, *args: Any, **kwargs: Any) -> Any:
            _step()
            return _bounded(super().call(*args, **kwargs))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _step()
            _refuse_huge(operator, left, right)
            return _bounded(super().call_binop(context, operator, left, right))

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        # jinja2's own filter writes "<" and "&" as HTML does.
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = Bounded(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters |= {"tojson": tojson, "_counted": _counted, "_joined": _joined}
    del environment.globals["lipsum"]  # any amount of text, for nothing
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)
