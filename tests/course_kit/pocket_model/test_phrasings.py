"""The wordings of the pocket model's questions and answers are complete, clean and disjoint."""

import json
import re
import string
import unicodedata
from importlib.resources import files
from pathlib import Path

import pytest

import course_kit

DATA = Path(course_kit.__file__).parent / "pocket_model" / "data"
LANGUAGES = ("en", "fr", "es", "zh")
TARGETS = ("fr", "es", "de", "zh", "en")
TOPICS = ("capitals", "numbers", "terms")
SPLITS = ("train", "held_out")
PHRASINGS = json.loads((DATA / "phrasings.json").read_text(encoding="utf-8"))
UNANSWERABLE = json.loads((DATA / "unanswerable.json").read_text(encoding="utf-8"))
COUNTS = {
    "questions": (220, 40),
    "templates": (45, 5),
    "words": (300, 40),
    "made_up_countries": (100, 25),
    "about": (30, 0),
    "details": (12, 0),
    "late": (16, 0),
}
PLACEHOLDERS = {"templates": {"of"}, "details": {"of"}, "about": {"ask"}}
FIXED = {
    "en": ("What is the number {value} in {language}?", "What is {ask}?"),
    "fr": ("Quel est le nombre {value} en {language} ?", "Qu'est-ce {que_ask} ?"),
    "es": ("¿Cuál es el número {value} en {language}?", "¿Qué es {ask}?"),
    "zh": ("数字{value}用{language}怎么说？", "什么是{ask}？"),
}
PLACES_THAT_ARE_NO_STATES = ("texas", "africa", "moon", "bavaria")

each_language = pytest.mark.parametrize("language", LANGUAGES)
each_topic = pytest.mark.parametrize("topic", TOPICS)
each_kind = pytest.mark.parametrize("kind", COUNTS)


def texts(value):
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [text for part in parts for text in texts(part)]


def names(template):
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def key(text):
    return unicodedata.normalize("NFKC", text).casefold().strip(" .?!¿¡。？！")


def facts(pattern):
    folder = Path(str(files("local_pipelines"))) / "pocket" / "facts"
    lines = [line for path in sorted(folder.glob(pattern)) for line in path.open(encoding="utf-8")]
    return [json.loads(line) for line in lines]


def countries(language):
    found = UNANSWERABLE[language]["made_up_countries"]
    return found["train"] + found["held_out"]


def matcher(template):
    parts = re.split(r"\{\w+\}", key(template))
    return re.compile("(.+)".join(re.escape(part) for part in parts))


@pytest.mark.parametrize("table", [PHRASINGS, UNANSWERABLE], ids=["phrasings", "unanswerable"])
def test_tables_have_the_same_shape_in_every_language(table):
    """Every language has the same keys in the same order."""
    assert tuple(table) == LANGUAGES
    for language in LANGUAGES:
        assert list(table[language]) == list(table["en"])
        for name, part in table[language].items():
            if isinstance(part, dict):
                assert list(part) == list(table["en"][name])


@pytest.mark.parametrize("name", ["phrasings.json", "unanswerable.json"])
def test_files_are_written_one_way(name):
    """The files are JSON with real characters and one space of indentation."""
    text = (DATA / name).read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=1) + "\n"


@each_language
def test_every_text_is_clean(language):
    """Every text is non-empty, stripped, NFC-normalised and free of unusual blanks and quotes."""
    for text in texts(PHRASINGS[language]) + texts(UNANSWERABLE[language]):
        if text == PHRASINGS[language]["question_form"]["join"]:
            continue
        assert text
        assert text == text.strip()
        assert text == unicodedata.normalize("NFC", text)
        assert not set(text) & set("\u2019\u2018\u00a0\u202f\u3000\t"), text
        assert "  " not in text


@each_language
def test_punctuation_is_that_of_the_language(language):
    """French has a blank before ? ! : ;, Spanish opens ? and !, Chinese marks are full-width."""
    for text in texts(PHRASINGS[language]) + texts(UNANSWERABLE[language]):
        if language == "fr":
            assert not re.search(r"[^ ][?!:;]", text), text
        elif language == "es":
            assert text.count("?") == text.count("¿"), text
            assert text.count("!") == text.count("¡"), text
        elif language == "zh":
            assert not set(text) & set("?!,.:;'\""), text
        if language != "fr":
            assert not re.search(r" [?!:;]", text), text


@each_language
@each_topic
def test_topics_have_the_right_number_of_phrasings(language, topic):
    """A topic has at least six phrasings to learn, two held out, three follow-ups, two steps."""
    words = PHRASINGS[language][topic]
    for part, count in {"train": 6, "held_out": 2, "follow_up": 3, "steps": 2}.items():
        assert len(words[part]) == len(set(map(key, words[part]))) >= count, part


@each_language
@each_topic
def test_held_out_phrasings_are_new(language, topic):
    """No held-out phrasing is one of those that are learned."""
    words = PHRASINGS[language][topic]
    seen = set(map(key, words["train"] + words["follow_up"]))
    assert not seen & set(map(key, words["held_out"]))


@each_language
def test_placeholders_are_the_allowed_ones(language):
    """A question names exactly what it asks for, an answer and its steps only what is known."""
    words = PHRASINGS[language]
    questions = {topic: words[topic]["train"] + words[topic]["held_out"] for topic in TOPICS}
    assert all(names(text) == {"of"} for text in questions["capitals"])
    assert all(names(text) == {"value", "language"} for text in questions["numbers"])
    asks = [{"ask"}, {"que_ask"}] if language == "fr" else [{"ask"}]
    assert all(names(text) in asks for text in questions["terms"] + words["terms"]["follow_up"])
    assert all(names(text) == {"of"} for text in words["capitals"]["follow_up"])
    assert all(names(text) == {"value"} for text in words["numbers"]["follow_up"])
    assert names(words["capitals"]["answer"]) == {"of", "capital"}
    assert names(words["numbers"]["answer"]) == {"value", "language", "word"}
    assert all(names(text) <= {"name"} for text in words["capitals"]["steps"])
    assert all(names(text) <= {"value", "language"} for text in words["numbers"]["steps"])
    assert all(not names(text) for text in words["terms"]["steps"])
    assert names(words["question_form"]["head"]) == {"question"}
    rest = [words[part] for part in ("small_talk", "systems", "refusal", "refusal_steps")]
    assert all(not names(text) for text in texts(rest))


@each_language
def test_the_plain_questions_are_learned(language):
    """The questions that the lessons ask are among the phrasings that are learned."""
    number, term = FIXED[language]
    assert number in PHRASINGS[language]["numbers"]["train"]
    assert term in PHRASINGS[language]["terms"]["train"]


@each_language
def test_the_five_target_languages_have_names(language):
    """Each of the five languages of the number words has its own name."""
    found = PHRASINGS[language]["numbers"]["languages"]
    assert tuple(found) == TARGETS
    assert len(set(found.values())) == len(TARGETS)


@each_language
def test_small_talk_is_complete(language):
    """Each of the seven entries has at least three wordings and one held out, none twice."""
    entries = PHRASINGS[language]["small_talk"]
    assert len(entries) == 7
    for entry in entries:
        assert list(entry) == ["ask", "held_out", "answer"]
        assert len(entry["ask"]) >= 3
        assert len(entry["held_out"]) == 1
    said = [text for entry in entries for text in entry["ask"] + entry["held_out"]]
    assert len(set(said)) == len(said)
    learned = {key(text) for entry in entries for text in entry["ask"]}
    assert not learned & {key(text) for entry in entries for text in entry["held_out"]}


@each_language
def test_system_messages_are_distinct(language):
    """There are the usual system message, eight others and three held out, all different."""
    systems = PHRASINGS[language]["systems"]
    assert (len(systems["others"]), len(systems["held_out"])) == (8, 3)
    assert len(systems["varied"]) >= 20
    assert len(set(map(key, texts(systems)))) == len(texts(systems))


@each_language
def test_a_refusal_has_two_steps(language):
    """The honest answer is one sentence and comes after two short steps."""
    words = PHRASINGS[language]
    assert isinstance(words["refusal"], str)
    assert len(words["refusal_steps"]) == 2


@each_language
@each_kind
def test_unanswerable_counts(language, kind):
    """Each kind has at least the planned entries to learn from, and exactly those held out."""
    found = UNANSWERABLE[language][kind]
    learned, held_out = COUNTS[kind]
    assert tuple(found) == SPLITS
    assert len(found["train"]) >= learned
    assert len(found["held_out"]) == held_out


@each_language
@each_kind
def test_unanswerable_entries_occur_once(language, kind):
    """No entry occurs twice, neither within a split nor in both."""
    found = UNANSWERABLE[language][kind]
    entries = found["train"] + found["held_out"]
    if kind == "made_up_countries":
        assert len({key(entry["of"]) for entry in entries}) == len(entries)
        entries = [entry["name"] for entry in entries]
    assert len(set(map(key, entries))) == len(entries)


@each_language
def test_unanswerable_placeholders(language):
    """Only the templates have a placeholder, and only the "of" phrase of a country."""
    for kind, found in UNANSWERABLE[language].items():
        expected = PLACEHOLDERS.get(kind, set())
        assert all(names(text) == expected for text in texts(found)), kind


@each_language
def test_made_up_countries_have_fitting_of_phrases(language):
    """The "of" phrase of an invented country is well-formed and ends with its name."""
    starts = {
        "en": ("of ",),
        "fr": ("de ", "de la ", "de l'", "du ", "d'"),
        "es": ("de ", "de la "),
        "zh": ("",),
    }[language]
    for entry in countries(language):
        assert list(entry) == ["name", "of"]
        assert entry["of"] in {start + entry["name"] for start in starts}, entry
        first = unicodedata.normalize("NFD", entry["name"])[0]
        if language == "fr" and first in "AEIOU":
            assert entry["of"].startswith(("d'", "de l'")), entry


@each_language
def test_made_up_countries_are_no_states(language):
    """No invented country has the name of a state or of a capital."""
    rows = facts("capitals.jsonl")
    real = {key(row[part][language]) for row in rows for part in ("name", "capital")}
    assert not real & {key(entry["name"]) for entry in countries(language)}


@each_language
def test_unknown_words_are_not_explained_terms(language):
    """No word that must be refused is one of the terms that the model explains."""
    known = {key(row[part][language]) for row in facts("terms_*.jsonl") for part in ("ask", "term")}
    assert known
    assert not known & set(map(key, texts(UNANSWERABLE[language]["words"])))


@each_language
def test_unanswerable_questions_are_not_small_talk(language):
    """No question that must be refused is one that small talk answers."""
    entries = PHRASINGS[language]["small_talk"]
    answered = {key(text) for entry in entries for text in entry["ask"] + entry["held_out"]}
    assert not answered & set(map(key, texts(UNANSWERABLE[language]["questions"])))


@each_language
def test_unanswerable_questions_are_not_written_by_the_templates(language):
    """No full question repeats what a template about a country would produce."""
    patterns = [matcher(text) for text in texts(UNANSWERABLE[language]["templates"])]
    for question in texts(UNANSWERABLE[language]["questions"]):
        assert not any(pattern.fullmatch(key(question)) for pattern in patterns), question


@each_language
def test_unanswerable_questions_ask_for_no_number_of_the_world(language):
    """A number question is refused only past 100 or in a language that the model does not know."""
    known = set(map(key, PHRASINGS[language]["numbers"]["languages"].values()))
    words = PHRASINGS[language]["numbers"]
    for question in texts(UNANSWERABLE[language]["questions"]):
        for template in words["train"] + words["held_out"]:
            found = matcher(template).fullmatch(key(question))
            number = found and next((p for p in found.groups() if p.isdigit()), None)
            if number and int(number) <= 100:
                assert not known & set(found.groups()), question


def test_unanswerable_questions_ask_for_no_capital_of_the_world():
    """A capital question is refused only for a place that is no state."""
    patterns = [matcher(text) for text in texts(PHRASINGS["en"]["capitals"]["train"])]
    for question in texts(UNANSWERABLE["en"]["questions"]):
        if any(pattern.fullmatch(key(question)) for pattern in patterns):
            assert key(question).endswith(PLACES_THAT_ARE_NO_STATES), question
