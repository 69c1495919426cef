"""A question with buttons: a click says at once whether the answer is right, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from local_pipelines.widgets import style


def question_box(
    text: str, choices: Sequence[tuple[str, str]], answer: Callable[[str], str]
) -> Any:
    """Make the widget of one question.

    The buttons are reached with Tab and pressed with Enter; what is said stands in a live region,
    which a screen reader reads aloud.

    Args:
        text: The question, in Markdown.
        choices: The answers to choose from, each with its letter.
        answer: Gets the letter of the button that was clicked, and gives what is to be said.
    """
    said = style.made("HTML", "lp-said", value=_live(""))
    buttons = []
    for letter, words in choices:
        label = f"{letter}  {words.replace('`', '')}"
        button = style.made("Button", "lp-choice", description=label, tooltip=label)
        button.on_click(_clicked(letter, answer, said))
        buttons.append(button)
    question = style.made("HTML", "lp-question", value=question_html(text))
    return style.made("VBox", "lp-one", [question, *buttons, said])


def _clicked(letter: str, answer: Callable[[str], str], said: Any) -> Callable[[Any], None]:
    def click(_: Any) -> None:
        said.value = _live(answer(letter))

    return click


def _live(text: str) -> str:
    return f'<div role="status" aria-live="polite">{inline_html(text)}</div>'


def question_html(text: str) -> str:
    r"""The little Markdown that questions have, as HTML: code, bold, paragraphs, a list of options.

    >>> question_html("**A** `b`\n\n- one\n- two")
    '<p><b>A</b> <code>b</code></p><ul><li>one</li><li>two</li></ul>'
    """
    html = ""
    parts = re.split(r"```python\n(.*?)\n```", escape(text), flags=re.DOTALL)
    for number, part in enumerate(parts):
        html += f"<pre>{part}</pre>" if number % 2 else _paragraphs(part)
    return html


def _paragraphs(text: str) -> str:
    words = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", _code(text))
    return "".join(map(_paragraph, filter(None, map(str.strip, words.split("\n\n")))))


def _paragraph(words: str) -> str:
    if not words.startswith("- "):
        return f"<p>{words}</p>"
    items = words.removeprefix("- ").split("\n- ")
    return f"<ul>{''.join(f'<li>{each}</li>' for each in items)}</ul>"


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def inline_html(text: str) -> str:
    """A sentence as HTML, escaped, with its code set as code.

    >>> inline_html("`a` < b")
    '<code>a</code> &lt; b'
    """
    return _code(escape(text))
