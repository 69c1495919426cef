"""The fact tables of the pocket model are complete, clean and consistent."""

import json
import unicodedata
from importlib.resources import files

import pytest

FACTS = files("local_pipelines") / "pocket" / "facts"
LANGUAGES = ("en", "fr", "es", "zh")
NUMBER_LANGUAGES = ("en", "fr", "es", "de", "zh")
CLDR = {"en": "en", "fr": "fr", "es": "es", "zh": "zh_Hans"}


def load(name):
    text = (FACTS / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def capitals():
    return load("capitals.jsonl")


@pytest.fixture(scope="module")
def numbers():
    return load("numbers.jsonl")


def test_capitals_has_every_state_once_in_order(capitals):
    """There are 195 states, each with its own two-letter code, sorted by code."""
    codes = [row["code"] for row in capitals]
    assert len(codes) == len(set(codes)) == 195
    assert codes == sorted(codes)
    assert all(len(code) == 2 and code.isascii() and code.isupper() for code in codes)


def test_capitals_rows_have_the_same_shape(capitals):
    """Every row has the same keys in the same order, in every language."""
    for row in capitals:
        assert list(row) == ["code", "name", "of", "capital"]
        for column in ("name", "of", "capital"):
            assert tuple(row[column]) == LANGUAGES, row["code"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_state_names_are_distinct(capitals, language):
    """No two states have the same name, or the same "of" phrase, in a language."""
    for column in ("name", "of"):
        assert len({row[column][language] for row in capitals}) == len(capitals)


def test_every_text_is_clean(capitals, numbers):
    """Every text is non-empty, stripped, NFC-normalised and free of curly apostrophes."""
    texts = [
        text
        for row in capitals
        for column in ("name", "of", "capital")
        for text in row[column].values()
    ]
    texts += [text for row in numbers for text in row["words"].values()]
    for text in texts:
        assert text
        assert text == text.strip()
        assert text == unicodedata.normalize("NFC", text)
        assert "\u2019" not in text


@pytest.mark.parametrize("language", ["fr", "es"])
def test_romance_of_phrases_fit_their_names(capitals, language):
    """French and Spanish "of" phrases begin with a form of "de" and hold the name's last word."""
    starts = {
        "fr": ("de ", "de l'", "du ", "des ", "d'"),
        "es": ("de ", "del "),
    }[language]
    for row in capitals:
        name, of = row["name"][language], row["of"][language]
        assert of.startswith(starts), of
        assert name.split()[-1] in of, of
        assert not of.startswith(("de le ", "de les ", "de el ")), of


def test_french_elides_before_a_vowel(capitals):
    """French never writes "de", "de la" or "du" before a name that starts with a vowel."""
    for row in capitals:
        first = unicodedata.normalize("NFD", row["name"]["fr"])[0]
        if first in "AEIOU":
            assert row["of"]["fr"].startswith(("d'", "de l'", "des ")), row["of"]["fr"]


def test_english_and_chinese_of_phrases_fit_their_names(capitals):
    """English says "of" or "of the" and the name; Chinese says the name alone."""
    for row in capitals:
        name, of = row["name"], row["of"]
        assert of["en"] in (f"of {name['en']}", f"of the {name['en']}")
        assert of["zh"] == name["zh"]


def test_numbers_run_from_zero_to_one_hundred(numbers):
    """The values are exactly 0 to 100, in order, each in every language."""
    assert [row["value"] for row in numbers] == list(range(101))
    assert all(tuple(row["words"]) == NUMBER_LANGUAGES for row in numbers)


@pytest.mark.parametrize("language", NUMBER_LANGUAGES)
def test_number_words_are_distinct(numbers, language):
    """No two numbers are written with the same words in a language."""
    assert len({row["words"][language] for row in numbers}) == len(numbers)


@pytest.mark.parametrize("language", LANGUAGES)
def test_most_names_are_those_of_cldr(capitals, language):
    """At least 85 % of the state names equal the ones the Unicode CLDR gives."""
    babel = pytest.importorskip("babel")
    territories = babel.Locale.parse(CLDR[language]).territories
    same = sum(row["name"][language] == territories[row["code"]] for row in capitals)
    assert same >= 0.85 * len(capitals)
