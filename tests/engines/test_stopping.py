"""Stop strings and broken characters, without any model."""

from __future__ import annotations

import random

import pytest

from local_pipelines.engines.growing import Ends, GrowingAnswer, TokenText, grow_together
from local_pipelines.engines.stopping import StopScanner, checked_stop

TEXTS = ["abcabcabd", "aaaaab", "\n\n\nQ", "the cat sat on the mat", "日本語の日本", "👩‍👩‍👧 ok"]
STOPS = [
    ["abd"],
    ["aab"],
    ["\n\n"],
    ["the mat", "sat"],
    ["本語", "の日"],
    ["👧"],
    ["zz"],
    ["b", "abc"],
]


def _expected(text: str, stops: list[str]) -> str:
    """Cut before the stop string that is complete first; of several, before the longest."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(found)[1]] if found else text


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_the_size_of_the_pieces_makes_no_difference(text: str, stops: list[str], size: int) -> None:
    """However the text is cut into pieces, the same part of it comes through."""
    scanner = StopScanner(stops)
    shown = ""
    for start in range(0, len(text), size):
        if not scanner.stopped_at:
            shown += scanner.feed(text[start : start + size])
            assert _expected(text, stops).startswith(shown)  # nothing of a stop string is shown
    if not scanner.stopped_at:
        shown += scanner.flush()
    assert shown == _expected(text, stops)


def test_random_texts_and_stop_strings() -> None:
    """The same holds for a thousand random cases over a small alphabet."""
    generator = random.Random(0)
    for _ in range(1000):
        text = "".join(generator.choices("ab", k=12))
        stops = ["".join(generator.choices("ab", k=generator.randint(1, 4))) for _ in range(3)]
        scanner = StopScanner(stops)
        shown = "".join(scanner.feed(letter) for letter in text if not scanner.stopped_at)
        shown += "" if scanner.stopped_at else scanner.flush()
        assert shown == _expected(text, stops), (text, stops)


def test_text_is_held_back_no_longer_than_needed() -> None:
    """What can no longer become a stop string is shown at once."""
    scanner = StopScanner(["\n\n"])
    assert scanner.feed("one\n") == "one"
    assert scanner.feed("two") == "\ntwo"


def test_one_string_is_taken_for_a_list() -> None:
    """`stop="x"` means `stop=["x"]`."""
    assert checked_stop("ab") == ("ab",)
    assert checked_stop(["a", "b", "a"]) == ("a", "b")
    assert checked_stop(None) == ()


def _decode_bytes(rows: list[list[int]]) -> list[str]:
    return [bytes(row).decode("utf-8", errors="replace") for row in rows]


@pytest.mark.parametrize(
    "text", ["plain", "é", "日本語", "😀😀", "👩‍👩‍👧‍👦 family", "שלום עולם", "مرحبا", "�!"]
)
def test_a_character_of_several_tokens_is_shown_whole(text: str) -> None:
    """With one byte as a token, every piece is whole characters, and all pieces are the text."""
    answer = TokenText(b"Prompt: ", _decode_bytes)
    pieces = [answer.new_text(_decode_bytes([answer.push([byte])])[0]) for byte in text.encode()]
    pieces.append(answer.new_text(_decode_bytes([answer.window])[0], last=True))
    assert "".join(pieces) == text
    assert "�" in text or not any("�" in piece for piece in pieces)


def test_broken_bytes_come_through_at_the_end() -> None:
    """A model that ends within a character has written that: it is shown, once."""
    answer = GrowingAnswer(b"x", _decode_bytes, Ends())
    shown = "".join(answer.grow(_decode_bytes([answer.push([b])])[0]) for b in b"ok\xf0\x9f")
    assert shown == "ok"
    assert [*grow_together([answer], [[]], _decode_bytes, last=True)] == ["�"]


def test_a_long_answer_is_decoded_piece_by_piece() -> None:
    """Only a window of tokens is decoded, however long the answer."""
    answer = TokenText(b"", _decode_bytes)
    text = "some words 日本 and more " * 40
    pieces, longest = [], 0
    for byte in text.encode():
        window = answer.push([byte])
        longest = max(longest, len(window))
        pieces.append(answer.new_text(_decode_bytes([window])[0]))
    assert "".join(pieces) == text
    assert longest < 40


def test_a_long_run_of_broken_bytes_is_no_error() -> None:
    """Where no character is complete for longer than a window, the text still comes through."""
    answer = TokenText(b"Prompt", _decode_bytes)
    data = (b"\x80" * 40 + b"a") * 2 + "é!".encode() * 20
    pieces = [answer.new_text(_decode_bytes([answer.push([byte])])[0]) for byte in data]
    pieces.append(answer.new_text(_decode_bytes([answer.window])[0], last=True))
    assert "".join(pieces) == _decode_bytes([list(data)])[0]


def test_stop_strings_that_are_special_tokens_are_told_apart() -> None:
    """No text shows a special token, so it is found by its id."""
    ends = Ends.of(["b", "<|end|>", "a"], {"<|end|>": 7, "<|x|>": 8}, [0, 1])
    assert ends == Ends(("<|end|>", "a", "b"), frozenset({7}), frozenset({0, 1}))


def test_a_special_token_as_stop_string_is_named() -> None:
    """An answer tells which string ended it, also where no text shows it."""
    answer = GrowingAnswer(b"x", _decode_bytes, Ends.of(["<|end|>"], {"<|end|>": 7}, [0]))
    answer.grow(_decode_bytes([answer.push([97, 7])])[0])
    assert (answer.ended.reason, answer.ended.stopped_at) == ("stop", "<|end|>")


def test_five_thousand_stop_strings_of_one_beginning() -> None:
    """Many strings that begin alike are searched as one would be, and held back no longer."""
    scanner = StopScanner([f"never say {number} again" for number in range(5000)])
    assert scanner.feed("never say 77") == ""
    assert scanner.feed(" more") == "never say 77 more"
    assert scanner.feed(", never say 4999 again") == ", "
    assert scanner.stopped_at


def test_the_tokens_that_end_an_answer() -> None:
    """The model's own end and a special token as a stop string are told apart."""
    ends = Ends(stop_tokens=frozenset({7}), end_tokens=frozenset({0}))
    assert ends.first_end([3, 7, 0]) == (2, "stop")
    assert ends.first_end([3, 0, 7]) == (2, "eos")
    assert ends.first_end([3, 4]) == (2, "")
