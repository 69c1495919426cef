"""The pickers and the chat box in a real JupyterLab, used by mouse and keyboard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CHAT = """
import itertools, time
from langchain_core.runnables import RunnableGenerator
from local_pipelines.widgets.chat_box import chat_box

closed, enough = [], []

def speak(questions):
    try:
        yield f"<b>You asked:</b> {list(questions)[0]}\\n"
        for number in itertools.count(1):
            time.sleep(0.05)
            yield f"word{number} "
            if enough:
                break
        yield "\\n".join(["a line"] * 40 + ["The end."])
    finally:
        closed.append(True)

box = chat_box(RunnableGenerator(speak), greeting="Hello!")
box
"""
ENOUGH = "enough.append(True); print('running:', box.running)"


def ask(page: Any, question: str) -> None:
    """Type a question as a person does, key by key, and press Enter."""
    asked = page.locator(".lp-you").count()
    page.get_by_label("Your question").press_sequentially(question)
    page.keyboard.press("Enter")
    page.locator(".lp-you").nth(asked).wait_for()


def answer(page: Any) -> Any:
    """The newest answer in the conversation."""
    return page.locator(".lp-turns > :last-child .lp-model .lp-text")


def test_a_question_is_answered_word_by_word(lab: Any, open_notebook: Callable[..., Any]) -> None:
    """The answer grows before the eyes, the kernel stays free, and markup is shown as text."""
    notebook = open_notebook(lab.write("chat.ipynb", CHAT, ENOUGH))
    notebook.run(0)
    page = notebook.page
    ask(page, "Why <i>not</i>? 你好 مرحبا")
    answer(page).get_by_text("word3").wait_for()
    assert "The end." not in answer(page).inner_text()
    assert page.get_by_label("Your question").input_value() == ""
    assert notebook.run(1) == "running: True\n", "cells cannot be run meanwhile"
    answer(page).get_by_text("The end.").wait_for()
    assert "<b>You asked:</b> Why <i>not</i>? 你好 مرحبا" in answer(page).inner_text()
    assert page.locator(".lp-chat b, .lp-chat i").count() == 0
    assert page.locator(".lp-chat").get_by_role("alert").count() == 1
    assert is_at_end(page), "the end of a long answer is out of sight"


def remarks(page: Any) -> Any:
    """What the box itself says of the answers; the record beside the box is out of sight."""
    return page.locator(".lp-chat").get_by_text("(stopped)")


def is_at_end(page: Any) -> bool:
    """Whether the last line of the conversation is within its frame."""
    bottom = "element => element.getBoundingClientRect().bottom"
    frame = page.locator(".lp-log").evaluate(bottom)
    return bool(page.locator(".lp-bubble").last.evaluate(bottom) <= frame)


def test_stop_stops_a_slow_answer(lab: Any, open_notebook: Callable[..., Any]) -> None:
    """After Stop nothing is added, the chain's generator is closed, and the next question works."""
    notebook = open_notebook(lab.write("stop.ipynb", CHAT, "print('closed:', closed)"))
    notebook.run(0)
    page = notebook.page
    stop = page.get_by_role("button", name="Stop", exact=True)
    assert stop.is_disabled()
    ask(page, "Why?")
    answer(page).get_by_text("word5").wait_for()
    stop.click()
    remarks(page).wait_for()
    text = answer(page).inner_text()
    time.sleep(0.5)
    assert answer(page).inner_text() == text
    assert notebook.run(1) == "closed: [True]\n"

    ask(page, "And now by keyboard?")
    answer(page).get_by_text("word5").wait_for()
    page.keyboard.press("Tab")  # from the field to Stop: Send between them is off
    page.keyboard.press("Enter")
    remarks(page).nth(1).wait_for()
    page.get_by_role("button", name="Clear").click()
    remarks(page).first.wait_for(state="detached")
    assert page.locator(".lp-bubble").count() == 1, "the greeting stays"


PICK = """
from local_pipelines.widgets.pickers import device_picker, model_picker
device = device_picker("cpu")
device
"""


def test_pickers_set_plain_values(lab: Any, open_notebook: Callable[..., Any]) -> None:
    """A click sets the value that the next cell reads; what is not here cannot be clicked."""
    name = lab.write(
        "pick.ipynb", PICK, "model = model_picker()\nmodel", "print([device.value, model.value])"
    )
    notebook = open_notebook(name)
    notebook.run_all()
    page = notebook.page
    assert notebook.run(2) == "[-1, 'pocket']\n"
    page.get_by_label("auto —").check()
    page.get_by_text('DEVICE = "auto"').wait_for()
    assert notebook.run(2) == "['auto', 'pocket']\n"
    assert page.get_by_label("gpt2").is_disabled()
    assert page.get_by_text("HF_HUB_OFFLINE forbids it").count() > 3


def test_a_saved_notebook_holds_no_widget_state(
    lab: Any, open_notebook: Callable[..., Any]
) -> None:
    """What JupyterLab saves has a line of text for readers without widgets, and no state."""
    notebook = open_notebook(lab.write("save.ipynb", PICK))
    notebook.run_all()
    notebook.save()
    saved = json.loads((lab.folder / "save.ipynb").read_text(encoding="utf-8"))
    assert "widgets" not in saved["metadata"]
    (output,) = saved["cells"][0]["outputs"]
    assert "".join(output["data"]["text/plain"]).startswith("device: cpu (")


def test_a_saved_chat_is_there_when_the_notebook_is_opened_again(
    lab: Any, open_notebook: Callable[..., Any]
) -> None:
    """Without its kernel the conversation stands there as a table, not "model not found"."""
    notebook = open_notebook(lab.write("again.ipynb", CHAT))
    notebook.run(0)
    page = notebook.page
    record = page.locator("td", has_text="You asked:")
    ask(page, "Why?")
    answer(page).get_by_text("word3").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    record.wait_for(state="attached")
    assert not record.is_visible(), "the conversation is shown twice"
    notebook.save()
    page.close()
    lab.stop_kernels()

    page = open_notebook("again.ipynb").page
    page.locator("td", has_text="You asked:").wait_for()
    assert "Why?" in page.locator(".jp-OutputArea").inner_text()
    missing = page.get_by_text("model not found")
    missing.wait_for(state="attached")  # after some seconds JupyterLab gives the widget up
    assert not missing.is_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everything_can_be_read_in_both_themes(
    lab: Any, open_notebook: Callable[..., Any], dark: bool
) -> None:
    """Texts stand out from what is behind them by the 4.5 : 1 that WCAG 2 asks for (AA)."""
    notebook = open_notebook(lab.write("look.ipynb", CHAT, PICK), dark=dark)
    notebook.run_all()
    page = notebook.page
    ask(page, "Why?")
    answer(page).get_by_text("word3").wait_for()
    page.get_by_role("button", name="Stop", exact=True).click()
    remarks(page).wait_for()
    ratios = page.evaluate(
        CONTRAST, ".lp-text, .lp-who, .lp-remark, .lp-closed label > span, .lp-chosen span"
    )
    assert len(ratios) >= 8
    assert min(ratios) >= 4.5


# Contrast by WCAG 2.2, "relative luminance"; the background is the first one that is painted.
CONTRAST = """selector => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = rgb => rgb.slice(0, 3).map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const colour = numbers(getComputedStyle(element).backgroundColor);
    return colour[3] === 0 && element.parentElement ? behind(element.parentElement) : colour;
  };
  return [...document.querySelectorAll(selector)].map(element => {
    const text = numbers(getComputedStyle(element).color);
    const under = behind(element);
    const opacity = text[3] ?? 1;
    const seen = text.slice(0, 3).map((part, i) => part * opacity + under[i] * (1 - opacity));
    const [low, high] = [luminance(seen), luminance(under)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
}"""
