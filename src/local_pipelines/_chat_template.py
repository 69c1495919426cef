"""Fills in a chat template as transformers does, without importing it.

A template is a small program from a model's folder: it runs in jinja2's sandbox, and the names it
may use are those that transformers gives it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["read_chat_template", "render_chat_template"]

_SPECIAL = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


def read_chat_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    """The template that a model's folder holds; None if it holds none."""
    with suppress(OSError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):  # several by name
        template = {each["name"]: each["template"] for each in template}.get("default")
    return template or None


def render_chat_template(
    template: str,
    messages: list[dict[str, Any]],
    tokenizer_config: Mapping[str, Any],
    **variables: Any,
) -> str:
    """Write messages as the text that the model was trained on.

    Args:
        template: The template, in Jinja.
        messages: Dictionaries with "role" and "content".
        tokenizer_config: Names the special tokens.
        variables: More of what the template may use.
    """
    special = {
        name: token["content"] if isinstance(token, dict) else token
        for name in _SPECIAL
        if (token := tokenizer_config.get(name)) is not None
    }
    known = {"tools": None, "documents": None, "add_generation_prompt": True, **special}
    text: str = _compiled(template).render(messages=messages, **(known | variables))
    return text


@cache
def _compiled(template: str) -> Any:
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks the model's own words for training: they are passed on."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's own way

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        # jinja2's own filter writes "<" and "&" as HTML does.
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)
