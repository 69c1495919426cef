"""An answer in a given form has that form, whatever the schema, the engine and the model."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("llguidance")

from course_kit.random_schemas import random_schema
from local_pipelines.engines.grammar import Chars, Either, Grammar, Leaf, Seq, Text, Times
from local_pipelines.engines.json_schema import MOST_VALUES, first_fault, json_grammar
from local_pipelines.errors import ParameterError

HOT = {"temperature": 5.0}  # so hot that a model writes whatever it may


@pytest.fixture(params=["torch_llm", "genai_llm"])
def engine(request: pytest.FixtureRequest) -> Any:
    """The embedded model, as the two engines with a grammar library of their own run it."""
    return request.getfixturevalue(request.param)


def answered(llm: Any, schema: dict[str, Any], seed: int = 0, tokens: int = 160) -> Any:
    """A finished answer's value; None for one that was cut."""
    options = HOT | {"seed": seed, "max_new_tokens": tokens}
    (answer,) = llm.answers(["An example:\n"], grammar=json_grammar(schema), **options)
    if answer.finish_reason == "length":
        return None
    return json.loads(answer.text)


@pytest.mark.parametrize("block", range(4))
def test_every_finished_answer_is_valid(engine: Any, block: int) -> None:
    """Forty random schemas, kept to by a model that writes whatever it may."""
    finished = 0
    for seed in range(10 * block, 10 * block + 10):
        schema = random_schema(seed)
        value = answered(engine, schema, seed)
        if value is not None:
            assert first_fault(value, schema) is None, (seed, value)
            finished += 1
    assert finished >= 3


def test_a_model_with_random_weights_keeps_the_form(random_llm: Any) -> None:
    """It has no token for the end: the form ends it."""
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    (answer,) = random_llm.answers(["An example:\n"], grammar=json_grammar(schema))
    assert json.loads(answer.text)["a"] in {"x", "y"}


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "number", "minimum": 0.5, "maximum": 2.25}, "0.5", "0x5"),
        ({"type": "integer", "exclusiveMinimum": -3, "maximum": 12}, "-2", "-3"),
    ],
)
def test_numbers_stay_between_their_bounds(
    engine: Any, schema: dict[str, Any], right: str, wrong: str
) -> None:
    """Both engines write numbers, and only those (GenAI's own way wrote 0x5)."""
    assert first_fault(json.loads(right), schema) is None
    for seed in range(30):
        value = answered(engine, schema, seed)
        assert first_fault(value, schema) is None, (value, wrong)


def test_choices_that_begin_alike_are_kept_apart(genai_llm: Any) -> None:
    """Xgrammar joined them, and wrote numbers without end."""
    digit = Chars(((48, 57),))
    first = Chars(((49, 57),))
    whole = Either((Chars(((52, 57),)), Seq((first, digit)), Seq((first, digit, digit))))
    dot = Times(Seq((Text("."), digit)), 0, 1)
    grammar = Grammar.of({"root": Leaf(Either((Seq((whole, dot)), Text("x"))))})
    for seed in range(40):
        options = HOT | {"seed": seed, "max_new_tokens": 20}
        (answer,) = genai_llm.answers(["A number:\n"], grammar=grammar, **options)
        assert len(answer.text.partition(".")[0]) <= 3, answer.text


def test_a_special_token_is_no_text(engine: Any) -> None:
    """A string that may hold anything holds no end of a turn."""
    schema = {"type": "string", "minLength": 5, "maxLength": 12}
    for seed in range(40):
        value = answered(engine, schema, seed)
        assert first_fault(value, schema) is None, value


ENDLESS = {
    "$ref": "#/$defs/a",
    "$defs": {
        "a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}
    },
}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "stands for itself"),
        (ENDLESS, "ever ends"),
        ({"enum": list(range(100_000))}, f"{MOST_VALUES:,} are the most"),
        ({"$ref": "https://example.org/schema"}, "leads nowhere"),
        ({"$ref": "#/$defs/missing"}, "leads nowhere"),
        ({"not": {"type": "string"}}, "held to not"),
        ({"type": "string", "pattern": "^(?=a)b"}, "pattern"),
        ({"type": "string", "pattern": "("}, "pattern"),
        ({"type": "string", "format": "regex"}, "format"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "Nothing fits"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "uniqueItems"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "overlap"),
        ({"type": "animal"}, "no JSON schema"),
        ({"type": "number", "minimum": "low"}, "no JSON schema"),
        ({"type": "object", "properties": {"a": 5}}, "no JSON schema"),
    ],
)
def test_what_cannot_be_promised_is_refused(schema: dict[str, Any], words: str) -> None:
    """In one sentence, before anything is generated."""
    with pytest.raises(ParameterError, match=words):
        json_grammar(schema)


def test_a_schema_nested_without_end_is_refused() -> None:
    """And not by an error of Python's."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ParameterError, match="nested too deeply"):
        json_grammar(schema)


def test_beams_and_forms_are_refused(engine: Any) -> None:
    """Rows that change until their end cannot be held to a form."""
    with pytest.raises(ParameterError, match="beams"):
        engine.answers(["x"], grammar=json_grammar({"type": "boolean"}), num_beams=2)
