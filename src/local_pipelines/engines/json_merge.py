"""Several JSON schemas that count together, as one; and whether some exclude each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from local_pipelines.errors import failure

_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "discriminator"})
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def merged_schemas(schemas: Sequence[Any]) -> dict[str, Any]:
    """One schema that holds what all of them hold.

    Raises:
        ParameterError: They cannot be joined here.
    """
    merged: dict[str, Any] = {}
    for schema in schemas:
        if schema is True:
            continue
        if not isinstance(schema, Mapping):
            raise failure("schema-all-of", name=schema)
        _check_closed(merged, schema)
        for name, value in schema.items():
            merged[name] = _joined(name, merged[name], value) if name in merged else value
    return merged


def _check_closed(some: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """A schema that takes no further properties says so of the other's as well."""
    for one, two in ((some, other), (other, some)):
        if one.get("additionalProperties", True) is not True:
            more = set(two.get("properties") or ()) - set(one.get("properties") or ())
            if more:
                raise failure("schema-all-of", name="additionalProperties")


def _joined(name: str, one: Any, two: Any) -> Any:
    if one == two or name in _NOTES:
        return one
    if name in _LOWER or name in _UPPER:
        return max(one, two) if name in _LOWER else min(one, two)
    if name == "required":
        return list(dict.fromkeys([*one, *two]))
    if name in {"properties", "$defs"}:
        both = {key: merged_schemas([one[key], two[key]]) for key in one if key in two}
        return {**one, **two, **both}
    if name == "type":
        return _common_types(one, two)
    if name == "enum":
        return [value for value in one if value in two]
    raise failure("schema-all-of", name=name)


def _common_types(one: Any, two: Any) -> list[str]:
    types = [set([kinds] if isinstance(kinds, str) else kinds) for kinds in (one, two)]
    common = types[0] & types[1]
    for some, others in (types, types[::-1]):
        if "integer" in some and "number" in others:
            common.add("integer")
    if not common:
        raise failure("schema-nothing")
    return sorted(common)


def are_disjoint(schemas: Sequence[Any]) -> bool:
    """Whether it is certain that no value fits two of the schemas."""
    return all(_differ(one, two) for one, two in combinations(schemas, 2))


def _differ(one: Any, two: Any) -> bool:
    if not (isinstance(one, Mapping) and isinstance(two, Mapping)):
        return False
    kinds = _kinds(one), _kinds(two)
    if kinds[0] is not None and kinds[1] is not None and not kinds[0] & kinds[1]:
        return True
    values = _values(one), _values(two)
    if values[0] is not None and values[1] is not None:
        return not any(value in values[1] for value in values[0])
    if kinds != ({"object"}, {"object"}):
        return False
    required = set(one.get("required") or ()) & set(two.get("required") or ())
    members = [schema.get("properties") or {} for schema in (one, two)]
    return any(_differ(members[0].get(name), members[1].get(name)) for name in required)


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _kinds(schema: Mapping[str, Any]) -> set[str] | None:
    if (values := _values(schema)) is not None and "type" not in schema:
        return {_kind(value) for value in values}
    kinds = schema.get("type")
    if kinds is None:
        return None
    names = {kinds} if isinstance(kinds, str) else set(kinds)
    return {"number" if name == "integer" else name for name in names}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = ((bool, "boolean"), (int | float, "number"), (str, "string"), (Mapping, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "array")
