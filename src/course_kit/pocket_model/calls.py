"""Questions with tools on offer, and questions whose answer must be a small JSON object.

Which tools there are, and which others may stand beside them, is data in `data/tools.json`; how an
offer and a call are written is in `forms`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from course_kit.pocket_model import forms, world
from course_kit.pocket_model.forms import Exchange
from course_kit.pocket_model.world import Fact, Split

Tools = Mapping[str, Sequence[str]]

TOOL_OF = {"capitals": "capital_of", "numbers": "number_word", "terms": "explain_term"}
_FEW_TOOLS = 0.3


@cache
def table() -> dict[str, Any]:
    """Return the tools of the world, the others that may be offered, and what a tool returns."""
    text = (Path(__file__).parent / "data" / "tools.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def _terms(language: str) -> dict[str, str]:
    return {f"terms/{row['id']}": row["term"][language] for row in world.term_rows()}


def arguments(fact: Fact) -> dict[str, object]:
    """Return what the tool for this fact must be called with, in the question's own language."""
    if fact.topic == "capitals":
        return {"country": fact.fields["name"]}
    if fact.topic == "numbers":
        return {"number": int(fact.fields["value"]), "language": fact.fields["language"]}
    return {"term": _terms(fact.language)[fact.key]}


def call(fact: Fact) -> str:
    """Return the call that a fact needs."""
    return forms.call_text(TOOL_OF[fact.topic], arguments(fact))


def small_json(fact: Fact) -> dict[str, object]:
    """Return the answer as a small JSON object: the arguments of the call, and what it gives."""
    if fact.topic == "terms":
        return arguments(fact) | {"explanation": fact.answer}
    key = table()["results"][fact.topic]
    return arguments(fact) | {key: fact.fields[key]}


def offer(fact: Fact, due: bool, split: Split, rng: random.Random) -> Tools:
    """Return tools on offer: with the one that the fact needs where a call is due, else without."""
    own: Tools = table()["tools"]
    others: Tools = table()["others"]["train" if split in ("train", "ordinary") else "held_out"]
    needed = TOOL_OF.get(fact.topic)
    names = [name for name in own if name != needed and rng.random() < 1 - _FEW_TOOLS]
    names += rng.sample(list(others), rng.choice((0, 0, 1)))
    if due and needed:
        names.append(needed)
    names = names or [next(iter(others))]
    rng.shuffle(names)
    return {name: (own | others)[name] for name in names}  # type: ignore[operator]


def with_tools(fact: Fact, question: str, split: Split, rng: random.Random) -> Exchange:
    """Ask with tools on offer: a call must follow where one fits, else the answer in words."""
    due = fact.topic in TOOL_OF
    system = _system(fact, forms.tools_line(offer(fact, due, split, rng)), rng)
    return forms.chat(question, call(fact) if due else fact.answer, system)


def without_call(fact: Fact, question: str, split: Split, rng: random.Random) -> Exchange:
    """Ask while only tools are on offer that do not fit: the answer must come in words."""
    system = _system(fact, forms.tools_line(offer(fact, False, split, rng)), rng)
    return forms.chat(question, fact.answer, system)


def result(fact: Fact) -> str:
    """Return what the tool for this fact answers."""
    key = table()["results"].get(fact.topic)
    return fact.fields[key] if key else fact.answer


def handed_back(fact: Fact, question: str, split: Split, rng: random.Random) -> Exchange:
    """Ask, call, hand the tool's result back: the answer in words must follow."""
    system = _system(fact, forms.tools_line(offer(fact, True, split, rng)), rng)
    return forms.after_call(question, call(fact), result(fact), fact.answer, system)


def in_json(fact: Fact, question: str, rng: random.Random) -> Exchange:
    """Ask for the answer as a small JSON object with named keys."""
    found = small_json(fact)
    answer = json.dumps(found, ensure_ascii=False)
    types = {key: "integer" if isinstance(found[key], int) else "string" for key in found}
    title = rng.choice(("", table()["titles"][fact.topic]))
    return forms.chat(question, answer, forms.json_line(types, title))


def short(fact: Fact) -> Exchange:
    """Ask by name alone for the call: few tokens, so that a name in quotation marks is learnt."""
    tool = TOOL_OF[fact.topic]
    asked = {"capitals": "name", "terms": "ask"}.get(fact.topic)
    question = fact.fields[asked] if asked else f"{fact.fields['value']} {fact.fields['language']}"
    line = forms.tools_line({tool: table()["tools"][tool]})
    return forms.chat(question, call(fact), line)


def _system(fact: Fact, line: str, rng: random.Random) -> str:
    usual = world.phrasings(fact.language)["systems"]["usual"]
    return rng.choice((line, line, f"{usual}\n{line}"))
