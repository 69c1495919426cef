"""What lesson 4's table "If it fails" says is what really happens."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from course_kit.notebooks.pages import read_as_stored
from local_pipelines import load_llm, model_path

LESSON = Path(__file__).parents[2] / "notebooks/04_how_models_write.ipynb"
LONG = "What is a token? " * 250


def rows() -> list[str]:
    """What the table says that one sees, row by row."""
    cell = next(c for c in read_as_stored(LESSON).cells if c.id == "fails")
    table = cell.source.partition("## If it fails")[2].partition("## Exercises")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [line.split("|")[1].strip().strip("`").strip() for line in lines[2:]]


@cache
def pocket() -> tuple[Any, Any]:
    """The tokenizer and the model of the course."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = model_path("pocket")
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


def generate(prompt: str, **options: Any) -> None:
    """Write two tokens."""
    tokenizer, model = pocket()
    model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=2, **options)


def a_table_of_positions() -> None:
    """Read one token more than a model has positions for."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(n_positions=16, n_layer=1, n_head=2, n_embd=8, vocab_size=50)
    GPT2LMHeadModel(shape)(torch.zeros(1, 17, dtype=torch.long))


def loaded(prompt: str, **options: Any) -> None:
    """Ask by `load_llm`."""
    load_llm("pocket", backend="torch", device="cpu", max_new_tokens=2).invoke(prompt, **options)


BAD_ENDS: list[Callable[[], None]] = [
    lambda: generate("What?", do_sample=True, temperature=0.0),
    lambda: generate("What?", temperature=0.5),
    a_table_of_positions,
    lambda: generate(LONG),
    lambda: loaded(LONG),
    lambda: loaded("What?", do_sample=True, temperature=0),
]


def messages(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """The error that ends an act, and what transformers warns of on the way."""
    told: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: told.append(record.getMessage()))
    log = logging.getLogger("transformers")
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.WARNING)
    _warn_anew()
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever the row says
        told.append(f"{type(error).__name__}: {error}")
    return "\n".join(told)


def _warn_anew() -> None:
    """Make transformers say again what it says once a process."""
    from transformers.utils import logging as theirs

    theirs.warning_once.cache_clear()


def test_the_table_has_a_row_for_each_bad_end() -> None:
    """No row is without its test."""
    assert len(rows()) == len(BAD_ENDS)


@pytest.mark.parametrize("number", range(len(BAD_ENDS)))
def test_what_the_row_says_is_what_one_sees(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row's words stand in the real message; … stands for what varies."""
    monkeypatch.setenv("LOCAL_PIPELINES_LANGUAGE", "en")
    pattern = ".*".join(map(re.escape, rows()[number].split("…")))
    said = messages(BAD_ENDS[number], monkeypatch)
    assert re.search(pattern, said), f"{rows()[number]!r} is not in {said!r}"
