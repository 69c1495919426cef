"""The rules of writing that all messages share."""

from __future__ import annotations

import pytest

from local_pipelines.wording.grammar import capitalised, fragment, gigabytes, nearest, paragraph


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "?"),
        (999, "1 kB"),
        (1_500_000, "1.5 MB"),
        (269_060_552, "269 MB"),
        (7_642_181_880, "7.6 GB"),
    ],
)
def test_sizes_are_in_decimal_units(size: int | None, text: str) -> None:
    """As the Hub's pages have them, with one decimal below a hundred."""
    assert gigabytes(size) == text


@pytest.mark.parametrize(
    ("word", "meant"), [("genia", "genai"), ("torhc", "torch"), ("", None), (7, None), ([], None)]
)
def test_a_misspelt_word_is_answered_with_the_nearest(word: object, meant: str | None) -> None:
    """Whatever was written in its place; far-off words are answered with none."""
    assert nearest(word, ("torch", "genai", "openvino")) == meant


def test_sentences_stand_beside_each_other_as_their_language_has_it() -> None:
    """Empty ones are left out; Chinese puts no blank after its full stop."""
    assert paragraph("One.", "", "Two.") == "One. Two."
    assert paragraph("一。", "二。") == "一。二。"
    assert (fragment("One."), fragment("一。"), capitalised("gPU")) == ("One", "一", "GPU")
