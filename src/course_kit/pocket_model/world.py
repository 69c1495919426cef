"""The small world that the pocket model knows: questions and their exact answers.

The facts are data in `local_pipelines/pocket/facts`, the wording of questions and answers is data
in `data/phrasings.json`. Both are plain tables: a new fact or a new phrasing needs no code.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

LANGUAGES = ("en", "fr", "es", "zh")
TOPICS = ("capitals", "numbers", "terms", "small_talk", "unknown")
Split = Literal["train", "held_out", "ordinary", "ordinary_held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out", "ordinary", "ordinary_held_out")
Kind = Callable[[str, Split, random.Random], str]
"""Writes a question outside the world, in a language, for a split."""

_DATA = Path(__file__).parent / "data"
_FRENCH_VOWELS = tuple("aeiouyàâæéèêëîïôœùûAEIOUYÀÂÆÉÈÊËÎÏÔŒÙÛ")


@dataclass(frozen=True)
class Fact:
    """One thing the model knows, in one language.

    Args:
        key: Names the fact whatever its language, such as "capitals/FR" or "numbers/7/de".
        topic: One of `TOPICS`.
        language: The language of question and answer, one of `LANGUAGES`.
        fields: What the phrasings' placeholders stand for.
        answer: The exact answer.
        steps: The two short steps that come before the answer in the `Question:` form.
        asks: Questions in this fact's own words, by split; empty where the topic's phrasings serve.
    """

    key: str
    topic: str
    language: str
    fields: dict[str, str]
    answer: str
    steps: tuple[str, ...]
    asks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def questions(self, split: Split) -> list[str]:
        """Return every way of asking for this fact in the given split."""
        if self.asks:
            return list(self.asks[split])
        templates = templates_of(self.language, self.topic, split)
        return [fill(template, self.fields) for template in templates]

    def follow_ups(self) -> list[str]:
        """Return the short questions that ask for this fact after another one of its topic."""
        templates = phrasings(self.language).get(self.topic, {})
        if not isinstance(templates, dict):
            return []
        return [fill(template, self.fields) for template in templates["follow_up"]]


def fill(template: str, fields: dict[str, str]) -> str:
    """Put the fields into a phrasing; the sentence keeps its capital first letter."""
    text = template.format(**fields)
    return text[:1].upper() + text[1:] if template.startswith("{") else text


def elide(word: str) -> str:
    """Join the French "que" to the word after it: "qu'un token", "que la gravité"."""
    return f"qu'{word}" if word.startswith(_FRENCH_VOWELS) else f"que {word}"


def joined(name: str, language: str) -> str:
    """Return a name after "of": "of Narnia", "de Narnia"; in Chinese the name alone."""
    return {"en": f"of {name}", "zh": name}.get(language, f"de {name}")


@cache
def phrasings(language: str) -> dict[str, Any]:
    """Return how questions and answers are worded in a language."""
    return _data("phrasings", language)


@cache
def ordinary(language: str, split: Split = "ordinary") -> dict[str, Any]:
    """Return questions as people ask them: those to learn from, or those held out of training."""
    return _data(split, language)


def templates_of(language: str, topic: str, split: Split) -> list[str]:
    """Return the wordings of a topic's questions in a split."""
    table = ordinary(language, split) if split.startswith("ordinary") else phrasings(language)
    found = table[topic] if split.startswith("ordinary") else table[topic][split]
    return list(found)


@cache
def unanswerable(language: str) -> dict[str, Any]:
    """Return the material for questions whose answer the model must not know."""
    others = {"other_languages": _data("other_languages", language)}
    return _data("unanswerable", language) | others


def _data(name: str, language: str) -> dict[str, Any]:
    table: dict[str, dict[str, Any]] = json.loads((_DATA / f"{name}.json").read_text("utf-8"))
    return table[language]


def read_facts(name: str) -> list[dict[str, Any]]:
    """Read a fact table of the package, one dictionary a line."""
    text = (files("local_pipelines") / "pocket" / "facts" / f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line]


def term_rows() -> list[dict[str, Any]]:
    """Return the rows of every table of terms."""
    folder = Path(str(files("local_pipelines") / "pocket" / "facts"))
    names = sorted(path.stem for path in folder.glob("terms_*.jsonl"))
    return [row for name in names for row in read_facts(name)]


def capitals(language: str) -> list[Fact]:
    """Return the capital of every state."""
    words = phrasings(language)["capitals"]
    found = []
    for row in read_facts("capitals"):
        fields = {part: row[part][language] for part in ("name", "of", "capital")}
        found.append(_fact(f"capitals/{row['code']}", "capitals", language, fields, words))
    return found


def numbers(language: str) -> list[Fact]:
    """Return the number words 0 to 100 of five languages, asked for in one."""
    words = phrasings(language)["numbers"]
    found = []
    for row in read_facts("numbers"):
        for target, name in words["languages"].items():
            fields = {
                "value": str(row["value"]),
                "language": name,
                "word": row["words"][target],
                "target": target,
            }
            key = f"numbers/{row['value']}/{target}"
            found.append(_fact(key, "numbers", language, fields, words))
    return found


def terms(language: str) -> list[Fact]:
    """Return the explained terms."""
    words = phrasings(language)["terms"]
    found = []
    for row in term_rows():
        fields = term_fields(row["ask"][language], language)
        steps = tuple(fill(step, fields) for step in words["steps"])
        answer = row["explanation"][language]
        found.append(Fact(f"terms/{row['id']}", "terms", language, fields, answer, steps))
    return found


def small_talk(language: str) -> list[Fact]:
    """Return greetings and what the model says of itself."""
    found = []
    for number, row in enumerate(phrasings(language)["small_talk"]):
        asks = {"train": tuple(row["ask"]), "held_out": tuple(row["held_out"])}
        for split in ("ordinary", "ordinary_held_out"):
            asks[split] = tuple(templates_of(language, "small_talk", split)[number])
        key = f"small_talk/{number}"
        found.append(Fact(key, "small_talk", language, {}, row["answer"], (), asks))
    return found


def facts(language: str) -> list[Fact]:
    """Return everything the model knows in a language."""
    return [
        *capitals(language),
        *numbers(language),
        *terms(language),
        *small_talk(language),
    ]


def term_fields(ask: str, language: str) -> dict[str, str]:
    """Return the placeholders of a term's phrasings."""
    return {"ask": ask, "que_ask": elide(ask) if language == "fr" else ask}


def refusal(language: str, question: str, key: str) -> Fact:
    """Return the honest answer to a question outside the world."""
    words = phrasings(language)
    return Fact(
        key,
        "unknown",
        language,
        {},
        words["refusal"],
        tuple(words["refusal_steps"]),
        dict.fromkeys(SPLITS, (question,)),
    )


def _fact(key: str, topic: str, language: str, fields: dict[str, str], words: Any) -> Fact:
    steps = tuple(fill(step, fields) for step in words["steps"])
    return Fact(key, topic, language, fields, fill(words["answer"], fields), steps)


def _template(language: str, topic: str, split: Split, rng: random.Random) -> str:
    found = templates_of(language, topic, split)
    return rng.choice(
        found + templates_of(language, topic, "ordinary") if split == "train" else found
    )


def _made_up_country(language: str, split: Split, rng: random.Random) -> str:
    country = rng.choice(unanswerable(language)["made_up_countries"][split])
    return fill(_template(language, "capitals", split, rng), country)


def _random_country(language: str, split: Split, rng: random.Random) -> str:
    name = _invented_name(language, rng)
    template = _template(language, "capitals", split, rng)
    return fill(template, {"of": joined(name, language), "name": name})


def _other_fact_of_country(language: str, split: Split, rng: random.Random) -> str:
    country = rng.choice(capitals_cached(language))
    return fill(rng.choice(unanswerable(language)["templates"][split]), country.fields)


def _country_as_term(language: str, split: Split, rng: random.Random) -> str:
    name = rng.choice(_names_without_article(language))
    template = _template(language, "terms", split, rng)
    return fill(template, term_fields(name, language))


def _number_too_large(language: str, split: Split, rng: random.Random) -> str:
    limit = rng.choice((200, 1000, 10_000, 1_000_000))
    fields = {
        "value": str(rng.randrange(101, limit)),
        "language": rng.choice(list(phrasings(language)["numbers"]["languages"].values())),
    }
    return fill(_template(language, "numbers", split, rng), fields)


def _number_in_other_language(language: str, split: Split, rng: random.Random) -> str:
    others = unanswerable(language)["other_languages"][split]
    fields = {"value": str(rng.randrange(0, 101)), "language": rng.choice(others)}
    return fill(_template(language, "numbers", split, rng), fields)


def _unknown_word(language: str, split: Split, rng: random.Random) -> str:
    ask = rng.choice(unanswerable(language)["words"][split])
    return fill(_template(language, "terms", split, rng), term_fields(ask, language))


def _random_word(language: str, split: Split, rng: random.Random) -> str:
    name = _invented_name(language, rng)
    article = rng.choice(_ARTICLES.get(language, ("",)))
    ask = f"{article}{name.lower()}" if article else name
    template = _template(language, "terms", split, rng)
    return fill(template, term_fields(ask, language))


def _general_question(language: str, split: Split, rng: random.Random) -> str:
    return str(rng.choice(unanswerable(language)["questions"][split]))


def _about_a_thing(language: str, split: Split, rng: random.Random) -> str:
    template = rng.choice(unanswerable(language)["about"][split])
    draw = rng.random()
    if draw < 0.5:
        ask = str(rng.choice(unanswerable(language)["words"][split]))
    elif draw < 0.8:
        ask = rng.choice(_terms_cached(language)).fields["ask"]
    else:
        ask = _invented_name(language, rng).lower()
    return fill(template, {"ask": ask})


def _detail_of_country(language: str, split: Split, rng: random.Random) -> str:
    country = rng.choice(capitals_cached(language))
    return fill(rng.choice(unanswerable(language)["details"][split]), country.fields)


def _number_in_invented_language(language: str, split: Split, rng: random.Random) -> str:
    name = _invented_name(language, rng)
    written = {"en": name, "zh": f"{name}语"}.get(language, name.lower())
    fields = {"value": str(rng.randrange(0, 101)), "language": written}
    return fill(_template(language, "numbers", split, rng), fields)


def _distorted_country(language: str, split: Split, rng: random.Random) -> str:
    """Return the question for the capital of a state whose name is misspelt beyond doubt."""
    fields = rng.choice(capitals_cached(language)).fields
    name = _distorted(fields["name"], language, rng)
    if name.lower() in _known_names(language):
        return _distorted_country(language, split, rng)
    of = fields["of"].replace(fields["name"], name)
    if of == fields["of"]:  # "du Pérou" ends with another form than the name "Pérou" has
        of = joined(name, language)
    template = _template(language, "capitals", split, rng)
    return fill(template, {"of": of, "name": name})


def _distorted(name: str, language: str, rng: random.Random) -> str:
    place = rng.randrange(1, len(name)) if len(name) > 1 else 1
    if language == "zh":
        extra = "".join(rng.choice(_SYLLABLES_ZH) for _ in range(rng.randint(1, 2)))
        return name[:place] + extra
    extra = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2))
    return name[:place] + extra + rng.choice(("", "nia", "land", name[place:]))


KINDS: tuple[Kind, ...] = (
    _made_up_country,
    _random_country,
    _other_fact_of_country,
    _country_as_term,
    _number_too_large,
    _number_in_other_language,
    _unknown_word,
    _unknown_word,
    _random_word,
    _general_question,
    _general_question,
)


def _late_question(language: str, split: Split, rng: random.Random) -> str:
    return str(rng.choice(unanswerable(language)["late"][split]))


# These come late in the training and are no part of the examination: they only widen what the
# model has seen, so that the held-out questions stay as new to it as a reader's are.
MORE_KINDS: tuple[Kind, ...] = (
    _about_a_thing,
    _about_a_thing,
    _about_a_thing,
    _detail_of_country,
    _number_in_invented_language,
    _distorted_country,
    _distorted_country,
)
LATE_KINDS: tuple[Kind, ...] = (_late_question,)


def _ordinary_fact_of_country(language: str, split: Split, rng: random.Random) -> str:
    country = rng.choice(capitals_cached(language))
    return fill(rng.choice(ordinary(language)["unknown"]["country"]), country.fields)


def _capital_of_a_place(language: str, split: Split, rng: random.Random) -> str:
    name = rng.choice(ordinary(language)["unknown"]["place"])
    template = _template(language, "capitals", "train", rng)
    return fill(template, {"of": joined(name, language), "name": name})


def _ordinary_question(language: str, split: Split, rng: random.Random) -> str:
    return str(rng.choice(ordinary(language)["unknown"]["questions"]))


# What lies nearest to the facts: another fact of a known state, the capital of a city or a region.
NEAR_KINDS: tuple[Kind, ...] = (
    _ordinary_fact_of_country,
    _ordinary_fact_of_country,
    _capital_of_a_place,
    _ordinary_question,
)


def random_refusal(
    language: str, split: Split, rng: random.Random, kinds: tuple[Kind, ...] = KINDS
) -> Fact:
    """Draw a question whose answer is not in the world.

    The kinds are those a curious reader tries first: an invented country, another fact about a real
    one, a number past 100 or in another language, a word outside the list, a general question.
    """
    kind = rng.choice(kinds)
    return refusal(language, kind(language, split, rng), f"unknown/{kind.__name__.strip('_')}")


_ARTICLES = {
    "en": ("a ", "the "),
    "fr": ("un ", "une ", "le ", "la "),
    "es": ("un ", "una ", "el ", "la "),
}
_ONSETS = [
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "qu",
    "r",
    "s",
    "t",
    "v",
    "w",
    "z",
    "br",
    "cr",
    "dr",
    "fr",
    "gr",
    "kl",
    "pl",
    "st",
    "tr",
    "sh",
    "th",
]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ou", "ia", "ea"]
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "nd", "rk", "st"]
_SYLLABLES_ZH = "阿巴卡达法加哈伊科拉马诺奥帕里萨塔乌维西亚尼尔斯克托莫鲁布多比德格兰森米洛贝罗"


@cache
def capitals_cached(language: str) -> tuple[Fact, ...]:
    """Return the capitals once for all draws."""
    return tuple(capitals(language))


@cache
def _terms_cached(language: str) -> tuple[Fact, ...]:
    return tuple(terms(language))


@cache
def _names_without_article(language: str) -> tuple[str, ...]:
    joined = {"en": "of {}", "fr": "de {}", "es": "de {}", "zh": "{}"}[language]
    every = [fact.fields for fact in capitals_cached(language)]
    return tuple(row["name"] for row in every if row["of"] == joined.format(row["name"]))


@cache
def _known_names(language: str) -> frozenset[str]:
    return frozenset(fact.fields["name"].lower() for fact in capitals_cached(language))


def _invented_name(language: str, rng: random.Random) -> str:
    if language == "zh":
        name = "".join(rng.choice(_SYLLABLES_ZH) for _ in range(rng.randint(2, 5)))
    else:
        name = "".join(
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
            for _ in range(rng.randint(2, 3))
        ).capitalize()
    return name if name.lower() not in _known_names(language) else _invented_name(language, rng)
