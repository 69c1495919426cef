"""Sentences that stand beside the code that says them, in the file sentences.toml of a wing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr

PARTS = ("fact", "cause", "more", "next_step")


def told(name: str, /, **words: Any) -> str:
    """The sentences of a table, one after another.

    Args:
        name: The table's name.
        words: What is filled into them.
    """
    return paragraph(*filled(name, words))


def filled(name: str, words: dict[str, Any]) -> list[str]:
    """The sentences of a table: fact, cause, more of the cause, next step; empty where missing."""
    table = tables()[name]
    return [tr(table.get(part, "")).format(**words) for part in PARTS]


@cache
def tables() -> dict[str, dict[str, Any]]:
    """The tables of all wings, by their names."""
    import tomllib

    found: dict[str, dict[str, Any]] = {}
    for file in sorted(Path(__file__).parents[1].glob("*/sentences.toml")):
        found |= tomllib.loads(file.read_text(encoding="utf-8"))
    return found
