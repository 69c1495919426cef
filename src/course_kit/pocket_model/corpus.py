"""Draws training examples: which fact, which wording, which form.

Every example is a prompt whose tokens are read only and an answer whose tokens are learned. The
n-th batch depends on the seed and n alone, so an interrupted training goes on with the same data.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from course_kit.pocket_model import calls, forms, world
from course_kit.pocket_model.world import LANGUAGES, Fact

# Long answers need more repetitions than short ones; refusals need variety more than repetition.
TOPIC_WEIGHTS = {
    "capitals": 0.24,
    "numbers": 0.17,
    "terms": 0.33,
    "small_talk": 0.04,
    "unknown": 0.22,
}
FORM_WEIGHTS = {
    "chat": 0.34,
    "system": 0.12,
    "bare": 0.22,
    "question": 0.18,
    "conversation": 0.14,
}
_LONG_CONVERSATION = 0.10
_QUESTION_FORM_IN_CHAT = 0.06
_EARLIER_BLOCK = 0.25
_SHORT_QUESTION_FORM = 0.12
_INSTRUCTION_FIRST = 0.06
_OPENER, _CLOSER = 0.12, 0.08
# With tools: what a row is. Short rows are cheap; they teach names in quotation marks.
CALL_WEIGHTS = {"short": 0.28, "offered": 0.38, "not_due": 0.16, "handed_back": 0.08, "json": 0.10}


POOL = 16
"""Batches that are drawn together, and sorted by length."""


@dataclass(frozen=True)
class Mix:
    """What a phase of the training is made of.

    Args:
        languages: Drawn evenly; one that stands twice comes twice as often.
        topics: The weight of each topic.
        forms: The weight of each form.
        kinds: The kinds of questions outside the world.
        systems: The lists of system messages to draw from.
        ordinary: Share of the questions that are worded as people ask.
        calls: Share of the rows with tools on offer, or with an answer in JSON.
    """

    languages: tuple[str, ...]
    topics: dict[str, float]
    forms: dict[str, float]
    kinds: tuple[world.Kind, ...]
    systems: tuple[str, ...] = ("others",)
    ordinary: float = 0.5
    calls: float = 0.15


# Chinese shares no letters with the others and was worst in ordinary questions: it comes more often
# from the start. French refuses least: it comes more often later.
_LANGUAGES_FIRST = (*LANGUAGES, *LANGUAGES, "zh")
_LANGUAGES_LATER = (*LANGUAGES, *LANGUAGES, "zh", "zh", "fr")
FIRST = Mix(_LANGUAGES_FIRST, TOPIC_WEIGHTS, FORM_WEIGHTS, world.KINDS + world.NEAR_KINDS)
SECOND = Mix(
    _LANGUAGES_LATER,
    TOPIC_WEIGHTS | {"unknown": 0.36},
    FORM_WEIGHTS,
    world.KINDS + world.MORE_KINDS + world.NEAR_KINDS,
)
# A reader writes system messages of their own: a new one must not make every question look new.
THIRD = Mix(
    _LANGUAGES_LATER,
    TOPIC_WEIGHTS | {"unknown": 0.28},
    FORM_WEIGHTS | {"system": 0.30},
    world.KINDS + world.MORE_KINDS + world.NEAR_KINDS + world.LATE_KINDS,
    ("others", "varied"),
)
PHASES = (FIRST, SECOND, THIRD)


@dataclass(frozen=True)
class Segment:
    """A piece of text; only learned pieces count in the loss."""

    text: str
    learned: bool


Example = tuple[Segment, ...]


@cache
def facts_by_topic(language: str) -> dict[str, tuple[Fact, ...]]:
    """Return the world of a language, by topic."""
    table: dict[str, list[Fact]] = {}
    for fact in world.facts(language):
        table.setdefault(fact.topic, []).append(fact)
    return {topic: tuple(found) for topic, found in table.items()}


def draw(rng: random.Random, mix: Mix = FIRST) -> Example:
    """Draw one training example."""
    language = rng.choice(mix.languages)
    if rng.random() < _LONG_CONVERSATION:
        return _long_conversation(language, rng, mix)
    if rng.random() < mix.calls:
        return _with_calls(language, rng, mix)
    fact = draw_fact(language, rng, mix)
    if "question" in forms.forms_of(fact) and rng.random() < _QUESTION_FORM_IN_CHAT:
        return _question_form_in_chat(fact, rng)
    return _single(fact, rng, mix)


def draw_fact(language: str, rng: random.Random, mix: Mix = FIRST) -> Fact:
    """Draw what is asked for: a fact of the world, or a question outside it."""
    (topic,) = rng.choices(list(mix.topics), list(mix.topics.values()))
    if topic == "unknown":
        return world.random_refusal(language, "train", rng, mix.kinds)
    return rng.choice(facts_by_topic(language)[topic])


def companions(fact: Fact) -> list[Fact]:
    """Return the facts that a follow-up asking for this one may come after."""
    same_topic = facts_by_topic(fact.language).get(fact.topic, ())
    if fact.topic == "numbers":  # "And 7?" keeps the language of the question before it
        target = fact.fields["target"]
        return [other for other in same_topic if other.fields["target"] == target]
    return list(same_topic)


def count_bytes(example: Example) -> int:
    """Return the length of an example where no tokenizer is at hand."""
    return sum(len(part.text.encode()) for part in example)


def batches(
    seed: int,
    first: int,
    size: int,
    phases: Sequence[int] = (0,),
    length: Callable[[Example], int] = count_bytes,
) -> Iterator[list[Example]]:
    """Yield batches without end, each of examples of similar length.

    Args:
        seed: Decides everything together with the batch's number.
        first: Number of the first batch wanted.
        size: Examples a batch.
        phases: Number of the batch with which each of `PHASES` begins.
        length: By what the examples are sorted; their tokens leave the least padding.
    """
    pool_number, skip = divmod(first, POOL)
    while True:
        rng = random.Random(f"{seed}/{pool_number}")
        mix = PHASES[bisect.bisect_right(phases, pool_number * POOL) - 1]
        pool = [draw(rng, mix) for _ in range(POOL * size)]
        pool.sort(key=length)
        grouped = [pool[i : i + size] for i in range(0, len(pool), size)]
        rng.shuffle(grouped)
        yield from grouped[skip:]
        pool_number, skip = pool_number + 1, 0


def _single(fact: Fact, rng: random.Random, mix: Mix) -> Example:
    possible = {form: mix.forms[form] for form in forms.forms_of(fact)}
    (form,) = rng.choices(list(possible), list(possible.values()))
    question = _worded(fact, rng, mix)
    if form == "question" and rng.random() < _SHORT_QUESTION_FORM:
        exchange = forms.short_question_form(question, fact)
        return (Segment(exchange.prompt, False), Segment(exchange.answer + exchange.after, True))
    others = companions(fact) if form == "conversation" else ()
    exchange = forms.render(form, fact, question, rng, others, systems=mix.systems)
    earlier = form == "question" and rng.random() < _EARLIER_BLOCK
    return (
        *(_question_block(fact.language, rng) if earlier else ()),
        Segment(exchange.prompt, False),
        Segment(exchange.answer + exchange.after, True),
    )


def _with_calls(language: str, rng: random.Random, mix: Mix) -> Example:
    (kind,) = rng.choices(list(CALL_WEIGHTS), list(CALL_WEIGHTS.values()))
    needs_fact = kind in ("short", "handed_back", "json")
    fact = draw_fact(language, rng, mix)
    while needs_fact and fact.topic not in calls.TOOL_OF:
        fact = draw_fact(language, rng, mix)
    while kind == "offered" and fact.topic == "small_talk":
        fact = draw_fact(language, rng, mix)
    question = _worded(fact, rng, mix)
    if kind == "short":
        exchange = calls.short(fact)
    elif kind == "json":
        exchange = calls.in_json(fact, question, rng)
    else:
        write = {
            "offered": calls.with_tools,
            "not_due": calls.without_call,
            "handed_back": calls.handed_back,
        }[kind]
        exchange = write(fact, question, "train", rng)
    return (Segment(exchange.prompt, False), Segment(exchange.answer + exchange.after, True))


def _worded(fact: Fact, rng: random.Random, mix: Mix) -> str:
    """Return a wording of the question, now and then after an instruction as in many templates."""
    split: world.Split = "ordinary" if rng.random() < mix.ordinary else "train"
    question = _framed(rng.choice(fact.questions(split)), fact.language, rng)
    question = forms.vary(question, rng)
    if rng.random() < _INSTRUCTION_FIRST:
        instruction = rng.choice(world.phrasings(fact.language)["systems"]["others"])
        return f"{instruction} {question}" if fact.language != "zh" else instruction + question
    return question


def _framed(question: str, language: str, rng: random.Random) -> str:
    """Put words before or after a question now and then: "Hello, what is …", "… Thank you!"."""
    words = world.ordinary(language)
    if rng.random() < _OPENER:
        keep = language == "zh" or rng.random() < 0.4 or question[1:2].isupper()
        question = rng.choice(words["openers"]) + (
            question if keep else question[:1].lower() + question[1:]
        )
    if rng.random() < _CLOSER:
        question += rng.choice(words["closers"])
    return question


def _question_block(language: str, rng: random.Random) -> Example:
    """Return a finished `Question:` block, with which a few-shot prompt begins."""
    fact = rng.choice(facts_by_topic(language)[rng.choice(("capitals", "numbers", "terms"))])
    block = forms.question_form(rng.choice(fact.questions("train")), fact, "")
    return (Segment(block.prompt, False), Segment(block.answer + "\n\n", True))


def _question_form_in_chat(fact: Fact, rng: random.Random) -> Example:
    question = forms.vary(rng.choice(fact.questions(_either(rng))), rng)
    inner = forms.question_form(question, fact, "")
    outer = forms.chat(inner.prompt, inner.answer.strip())
    return (Segment(outer.prompt, False), Segment(outer.answer + outer.after, True))


def _long_conversation(language: str, rng: random.Random, mix: Mix) -> Example:
    systems = world.phrasings(language)["systems"]
    system = rng.choice((None, systems["usual"], rng.choice(systems["others"])))
    head = f"{forms.SYSTEM}\n{system}{forms.END}\n" if system else ""
    parts = []
    fact: Fact | None = None
    for _ in range(rng.randint(2, 5)):
        question, fact = _next_turn(fact, language, rng, mix)
        prompt = f"{head}{forms.USER}\n{question}{forms.END}\n{forms.ASSISTANT}\n"
        parts += [Segment(prompt, False), Segment(fact.answer + forms.END, True)]
        head = "\n"
    return tuple(parts)


def _next_turn(
    previous: Fact | None, language: str, rng: random.Random, mix: Mix
) -> tuple[str, Fact]:
    if previous and previous.topic in ("capitals", "numbers", "terms") and rng.random() < 0.5:
        fact = rng.choice(companions(previous))
        return forms.vary(rng.choice(fact.follow_ups()), rng), fact
    fact = draw_fact(language, rng, mix)
    return forms.vary(rng.choice(fact.questions(_either(rng))), rng), fact


def _either(rng: random.Random) -> world.Split:
    return rng.choice(("train", "ordinary"))
