"""Random JSON schemas, for the promise that every answer in a given form is valid."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

_WORDS = ["name", "größe", "数量", "it's", 'say "hi"', "a\\b", "x", "emoji 🎈", "prénom", "tab\t"]
_PATTERNS = [
    "^[A-Z]{2}[0-9]{3}$",
    r"^\d{4}-\d{2}$",
    "^(red|green|blue)+$",
    "[a-z]+",
    r"^\w{1,8}( \w{1,8})?$",
    "^[éèê中]{2,4}$",
    r'^["\\]x$',
]
_FORMATS = ["date", "date-time", "time", "uuid", "email", "uri", "ipv4"]


def random_schema(seed: int) -> dict[str, Any]:
    """The schema of a number: an object, nested, with everything that a schema may hold.

    Args:
        seed: The same number gives the same schema.
    """
    rng = random.Random(seed)
    schema = _object(rng, 3)
    if rng.random() < 0.3:
        schema["$defs"] = {"node": _node(rng)}
        schema["properties"]["tree"] = {"$ref": "#/$defs/node"}
        schema["required"] = [*schema["required"], "tree"]
    return schema


def _node(rng: random.Random) -> dict[str, Any]:
    again = {"$ref": "#/$defs/node"}
    following = rng.choice(
        [
            {"anyOf": [{"type": "null"}, again]},
            {"type": "array", "items": again, "maxItems": 2},
        ]
    )
    properties = {"value": _value(rng, 0), "next": following}
    return {"type": "object", "properties": properties, "required": ["value", "next"]}


def _value(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds: list[Callable[[random.Random], dict[str, Any]]]
    kinds = [_string, _integer, _number, _enum, _simple]
    if depth and rng.random() < 0.5:
        nested = (_object, _array, _union, _both)
        return rng.choice(nested)(rng, depth - 1)
    return rng.choice(kinds)(rng)


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(_WORDS, rng.randint(1, 4))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _value(rng, depth) for name in names},
        "required": [name for name in names if rng.random() < 0.6],
    }
    if rng.random() < 0.5:
        schema["additionalProperties"] = False
    return schema


def _array(rng: random.Random, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": _value(rng, depth)}
    schema["minItems"] = rng.randint(0, 2)
    schema["maxItems"] = schema["minItems"] + rng.randint(0, 3)
    if rng.random() < 0.2:
        items = {"enum": rng.sample(_WORDS, 3)}
        return {"type": "array", "items": items, "uniqueItems": True}
    if rng.random() < 0.2:
        pair = [_value(rng, 0), _value(rng, 0)]
        return {"type": "array", "prefixItems": pair, "items": False, "minItems": 2}
    return schema


def _union(rng: random.Random, depth: int) -> dict[str, Any]:
    if rng.random() < 0.3:
        return {"oneOf": [{"type": "boolean"}, _object(rng, depth), _string(rng)]}
    return {"anyOf": [_value(rng, depth) for _ in range(rng.randint(1, 3))]}


def _both(rng: random.Random, depth: int) -> dict[str, Any]:
    own = {"type": "object", "properties": {"own": _value(rng, depth)}, "required": ["own"]}
    more = {"type": "object", "properties": {"more": _value(rng, 0)}}
    return {"allOf": [own, more]}


def _string(rng: random.Random) -> dict[str, Any]:
    way = rng.randint(0, 3)
    if way == 0:
        return {"type": "string", "pattern": rng.choice(_PATTERNS)}
    if way == 1:
        return {"type": "string", "format": rng.choice(_FORMATS)}
    least = rng.randint(0, 5)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 12)}


def _integer(rng: random.Random) -> dict[str, Any]:
    low = rng.choice([-1000, -17, -1, 0, 1, 5, 99, 12345])
    schema: dict[str, Any] = {"type": "integer"}
    if rng.random() < 0.7:
        schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
    if rng.random() < 0.7:
        schema[rng.choice(["maximum", "exclusiveMaximum"])] = low + rng.choice([2, 9, 100, 54321])
    if {"minimum", "maximum"} <= schema.keys() and rng.random() < 0.3:
        schema["multipleOf"] = 2
    return schema


def _number(rng: random.Random) -> dict[str, Any]:
    low = rng.choice([-273.15, -1.5, -0.001, 0, 0.5, 3.14159, 100])
    schema: dict[str, Any] = {"type": "number"}
    if rng.random() < 0.7:
        schema[rng.choice(["minimum", "exclusiveMinimum"])] = low
    if rng.random() < 0.7:
        schema[rng.choice(["maximum", "exclusiveMaximum"])] = low + rng.choice([0.25, 1, 7.5, 1e4])
    return schema


def _enum(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.2:
        return {"const": rng.choice([*_WORDS, 5, None, True, [1, "a"], {"k": -0.5}])}
    return {"enum": rng.sample([*_WORDS, 5, 7.25, None, False], rng.randint(1, 5))}


def _simple(rng: random.Random) -> dict[str, Any]:
    return {"type": rng.choice(["boolean", "null", "string", ["integer", "null"]])}
