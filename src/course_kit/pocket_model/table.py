"""Measures how often the pocket model answers exactly, by language, form, topic and phrasing.

An answer counts only if it is the expected text to the letter, white space around it apart. The
same questions can be put to any engine: a `Responder` is all that is asked of it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from course_kit.pocket_model import calls, card, corpus, forms, world
from course_kit.pocket_model.engines import (
    FORMATS,
    Responder,
    openvino_responder,
    torch_responder,
)
from course_kit.pocket_model.figures import Table
from course_kit.pocket_model.world import LANGUAGES, Fact, Split

UNANSWERABLE = 200
STOP_MARKS = (forms.END, forms.END_OF_TEXT, "\n\n")


@dataclass(frozen=True)
class Question:
    """One prompt of the examination with the only answer that counts."""

    language: str
    topic: str
    form: str
    split: Split
    prompt: str
    answer: str


@dataclass
class Score:
    """How many questions of a kind were answered exactly."""

    right: int = 0
    asked: int = 0

    @property
    def exact(self) -> float:
        """Part of exact answers, 0 to 1; nan where nothing was asked."""
        return self.right / self.asked if self.asked else float("nan")


def questions(split: Split, sample: int | None = None, seed: int = 0) -> list[Question]:
    """Return the examination: every fact in every form and phrasing of the split.

    Args:
        split: The phrasings of the training, or those held out of it.
        sample: At most so many questions for each language, topic and form; None for all.
        seed: Decides the sample and the free parts of the prompts.
    """
    rng = random.Random(f"{seed}/{split}")
    found = []
    for language in LANGUAGES:
        for facts in corpus.facts_by_topic(language).values():
            for form in forms.forms_of(facts[0]):
                asked = _wordings(facts, form, split)
                if sample is not None and len(asked) > sample:
                    asked = rng.sample(asked, sample)
                found += [_question(fact, form, text, split, rng) for fact, text in asked]
    return found


def unanswerable(sample: int = UNANSWERABLE, seed: int = 0) -> list[Question]:
    """Return held-out questions outside the world, so many a language, over all forms."""
    rng = random.Random(f"{seed}/unanswerable")
    found = []
    for language in LANGUAGES:
        for number in range(sample):
            fact = world.random_refusal(language, "held_out", rng)
            form = forms.forms_of(fact)[number % len(forms.forms_of(fact))]
            found.append(_question(fact, form, fact.asks["held_out"][0], "held_out", rng))
    return found


def examine(
    respond: Responder, asked: Sequence[Question], batch: int = 128
) -> list[tuple[Question, str]]:
    """Put the questions to a model, prompts of similar length together.

    Args:
        respond: The model.
        asked: The questions.
        batch: Prompts a call.

    Returns:
        Each question with the model's answer, cut at the first stop mark and stripped.
    """
    ordered = sorted(asked, key=lambda question: len(question.prompt))
    found = []
    for start in range(0, len(ordered), batch):
        part = ordered[start : start + batch]
        texts = respond([question.prompt for question in part])
        found += [(question, cut(text)) for question, text in zip(part, texts, strict=True)]
    return found


def cut(text: str) -> str:
    r"""Return the text before the first stop mark, stripped.

    >>> cut("\n Paris.\n\nQuestion: What")
    'Paris.'
    """
    for mark in STOP_MARKS:
        text = text.lstrip().partition(mark)[0]
    return text.strip()


def scores(
    answers: Iterable[tuple[Question, str]], key: Callable[[Question], Any]
) -> dict[Any, Score]:
    """Count exact answers by whatever the key tells of a question."""
    table: dict[Any, Score] = {}
    for question, text in answers:
        score = table.setdefault(key(question), Score())
        score.asked += 1
        score.right += text == question.answer
    return table


def ordinary_questions(sample: int | None = None, seed: int = 0) -> list[Question]:
    """Return the questions as people ask them, each in one form: the forms take turns.

    Args:
        sample: At most so many questions for each language and topic; None for all.
        seed: Decides the sample and the free parts of the prompts.
    """
    rng = random.Random(f"{seed}/ordinary")
    split: Split = "ordinary_held_out"
    found = []
    for language in LANGUAGES:
        for facts in corpus.facts_by_topic(language).values():
            asked = [(fact, text) for fact in facts for text in fact.questions(split)]
            rng.shuffle(asked)
            turns = [form for form in forms.forms_of(facts[0]) if form != "conversation"]
            for number, (fact, text) in enumerate(asked[:sample]):
                found.append(_question(fact, turns[number % len(turns)], text, split, rng))
    return found


def ordinary_unknown(sample: int = UNANSWERABLE, seed: int = 0) -> list[Question]:
    """Return unanswerable questions as people ask them, so many a language, in turns of form."""
    rng = random.Random(f"{seed}/ordinary unknown")
    found = []
    for language in LANGUAGES:
        templates = world.templates_of(language, "unknown", "ordinary_held_out")
        for number in range(sample):
            country = rng.choice(world.capitals_cached(language))
            text = world.fill(templates[number % len(templates)], country.fields)
            fact = world.refusal(language, text, "unknown/ordinary")
            form = rng.choice(forms.forms_of(fact))
            found.append(_question(fact, form, text, "ordinary_held_out", rng))
    return found


def tool_questions(form: str, sample: int = UNANSWERABLE, seed: int = 0) -> list[Question]:
    """Return held-out questions with tools on offer, so many a language.

    Args:
        form: "call" where a call is due, "no call" where none is, "json" for an answer in JSON.
        sample: Questions a language.
        seed: Decides facts, wordings and offers.
    """
    rng = random.Random(f"{seed}/{form}")
    return [_tool_question(language, form, rng) for language in LANGUAGES for _ in range(sample)]


def _tool_question(language: str, form: str, rng: random.Random) -> Question:
    split: Split = "ordinary_held_out"
    topics = [*calls.TOOL_OF, "small_talk", "unknown"] if form == "no call" else [*calls.TOOL_OF]
    topic = rng.choice(topics)
    if topic == "unknown":
        fact = world.random_refusal(language, "held_out", rng)
    else:
        fact = rng.choice(corpus.facts_by_topic(language)[topic])
    text = rng.choice(fact.questions(split))
    if form == "json":
        exchange = calls.in_json(fact, text, rng)
    elif form == "no call" and rng.random() < 0.5:
        exchange = calls.without_call(fact, text, split, rng)
    elif form == "no call" and topic not in calls.TOOL_OF:
        exchange = calls.with_tools(fact, text, split, rng)
    elif form == "no call":
        exchange = calls.handed_back(fact, text, split, rng)
    else:
        exchange = calls.with_tools(fact, text, split, rng)
    return Question(language, topic, form, split, exchange.prompt, exchange.answer)


def measure_more(
    respond: Responder, table: Table, sample: int | None = None, seed: int = 0
) -> Table:
    """Return the table with what plan 2 trains: ordinary questions, tools, answers in JSON."""
    several = min(sample or UNANSWERABLE, UNANSWERABLE)
    known = examine(respond, ordinary_questions(sample, seed))
    unknown = examine(respond, ordinary_unknown(several, seed))
    made = {
        form: examine(respond, tool_questions(form, several, seed))
        for form in ("call", "no call", "json")
    }
    undue = [(replace(q, answer="call"), _is_call(text)) for q, text in made["no call"]]
    return replace(
        table,
        ordinary=_nested(scores(known, lambda q: (q.language, q.form))),
        ordinary_unknown=_by_language(scores(unknown, lambda q: q.language)),
        ordinary_known_refused=_by_language(scores(_as_refusals(known), lambda q: q.language)),
        calls_right=_by_language(scores(made["call"], lambda q: q.language)),
        calls_undue=_by_language(scores(undue, lambda q: q.language)),
        json_right=_by_language(scores(made["json"], lambda q: q.language)),
        asked=table.asked + len(known) + len(unknown) + sum(map(len, made.values())),
    )


def _is_call(text: str) -> str:
    return "call" if text.startswith(forms.CALL) else "no call"


def _as_refusals(answers: Iterable[tuple[Question, str]]) -> list[tuple[Question, str]]:
    refusals = {language: world.phrasings(language)["refusal"] for language in LANGUAGES}
    return [(replace(q, answer=refusals[q.language]), text) for q, text in answers]


def measure(
    respond: Responder, sample: int | None = None, seed: int = 0, engine: str = ""
) -> Table:
    """Examine a model and return its table; `sample` bounds the questions of each kind."""
    known = examine(respond, questions("train", sample, seed))
    held_out = examine(respond, questions("held_out", sample, seed))
    unknown_asked = min(sample or UNANSWERABLE, UNANSWERABLE)
    unknown = examine(respond, unanswerable(unknown_asked, seed))
    return Table(
        _nested(scores(known, lambda q: (q.language, q.form))),
        _nested(scores(known, lambda q: (q.language, q.topic))),
        _by_language(scores(held_out, lambda q: q.language)),
        _by_language(scores(unknown, lambda q: q.language)),
        _by_language(scores(_as_refusals(known), lambda q: q.language)),
        len(known) + len(held_out) + len(unknown),
        unknown_asked,
        engine,
    )


def whole(respond: Responder, sample: int | None, engine: str) -> Table:
    """Examine a model in everything that plan 2 trains and return its whole table."""
    return measure_more(respond, measure(respond, sample, engine=engine), sample)


def _wordings(facts: Sequence[Fact], form: str, split: Split) -> list[tuple[Fact, str]]:
    if form == "conversation":  # the second question is a follow-up, whatever the split
        return [(fact, "") for fact in facts]
    return [(fact, text) for fact in facts for text in fact.questions(split)]


def _question(fact: Fact, form: str, text: str, split: Split, rng: random.Random) -> Question:
    others = corpus.companions(fact) if form == "conversation" else ()
    systems = ("others" if split == "train" else "held_out",)
    exchange = forms.render(form, fact, text, rng, others, systems)
    answer = exchange.answer.strip()
    return Question(fact.language, fact.topic, form, split, exchange.prompt, answer)


def _nested(table: dict[Any, Score]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (language, other), score in table.items():
        found.setdefault(language, {})[other] = score.exact
    return found


def _by_language(table: dict[Any, Score]) -> dict[str, float]:
    return {language: score.exact for language, score in table.items()}


def main(argv: list[str] | None = None) -> int:
    """Print the table of exact answers of a checkpoint, or of the embedded model."""
    from local_pipelines import model_path

    parser = argparse.ArgumentParser(prog="course_kit table", description=main.__doc__)
    parser.add_argument("--model", default="pocket", help="a folder, or the embedded model")
    parser.add_argument("--sample", type=int, default=None, help="questions of each kind; all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--format", choices=FORMATS, help="answer with OpenVINO at this precision")
    parser.add_argument("--card", action="store_true", help="write the figures into its card")
    options = parser.parse_args(argv)
    folder = Path(model_path(options.model))
    if options.format:
        with openvino_responder(folder, options.format) as respond:
            table = whole(respond, options.sample, f"OpenVINO, {options.format}")
    else:
        respond = torch_responder(folder, options.device)
        table = whole(respond, options.sample, f"torch, {options.device}")
    print(table.as_markdown())
    if options.card:
        card.write(folder, table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
