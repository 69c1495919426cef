"""From a JSON schema to a grammar, all of whose answers fit the schema.

The grammar may write fewer answers than the schema allows: the properties that are declared, in
their order, numbers of fifteen digits, strings of 500 characters where no maxLength says more, at
most one blank behind a colon or a comma. What it cannot
hold an answer to is refused, and not dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from local_pipelines.engines.grammar import (
    EMPTY,
    Chars,
    Either,
    Grammar,
    Leaf,
    Node,
    Rule,
    Seq,
    Text,
    Times,
    optional,
)
from local_pipelines.engines.json_merge import are_disjoint, merged_schemas
from local_pipelines.engines.json_numbers import decimals, whole_numbers
from local_pipelines.engines.json_strings import (
    FORMATS,
    PatternError,
    any_string,
    literal,
    string_like,
    width,
)
from local_pipelines.errors import ParameterError, failure

MOST_VALUES = 2000  # of all enums together
_MOST_RULES = 5000
_MOST_ITEMS = 1000
_MOST_OPEN = 31  # further values of a list or an object of which nothing is said
_NOTES = frozenset(
    {"$anchor", "$comment", "$defs", "$id", "$schema", "contentEncoding", "contentMediaType"}
    | {"default", "definitions", "deprecated", "description", "discriminator", "example"}
    | {"examples", "readOnly", "title", "writeOnly"}
)  # which say nothing about what is valid
_KEYWORDS: dict[str, frozenset[str]] = {
    "object": frozenset(
        {"properties", "required", "additionalProperties", "minProperties", "maxProperties"}
    ),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    ),
}
_KEYWORDS["integer"] = _KEYWORDS["number"]
_TYPES = frozenset({*_KEYWORDS, "boolean", "null"})
_COMBINED = frozenset({"$ref", "allOf", "anyOf", "oneOf", "enum", "const", "type"})
_ALL = _NOTES | _COMBINED | frozenset[str]().union(*_KEYWORDS.values())

_COMMA = Leaf(Seq((Text(","), optional(Text(" ")))))
_COLON = Leaf(Seq((Text(":"), optional(Text(" ")))))


def json_grammar(schema: Mapping[str, Any]) -> Grammar:
    """Make the grammar of a schema.

    Raises:
        ParameterError: There is something in the schema that no grammar here can hold.
    """
    rules: dict[str, Node] = {"root": EMPTY}
    rules["root"] = SchemaRules(schema, rules).root()
    return Grammar.of(rules)


class SchemaRules:
    """Writes the rules of one schema into a dictionary that other schemas may share."""

    def __init__(self, schema: Mapping[str, Any], rules: dict[str, Node]) -> None:
        self._schema = schema
        self._rules = rules
        self._names: dict[str, str] = {}  # of the rules for references
        self._values = 0

    def root(self) -> Node:
        """The node of the whole schema."""
        try:
            node = self._value(self._schema, frozenset())
        except RecursionError:
            raise failure("schema-too-deep") from None
        check_ends(self._rules, node)
        return node

    def _value(self, schema: Any, passed: frozenset[str]) -> Node:
        """What a value of this schema looks like; `passed` are references on the way to it."""
        told = _told(schema)
        if not told:
            return self._anything()
        if "$ref" in told:
            return self._reference(told, passed)
        if "allOf" in told:
            parts = [self._resolved(part, passed) for part in _list(told, "allOf")]
            rest = {name: value for name, value in told.items() if name != "allOf"}
            return self._value(merged_schemas([rest, *parts]), passed)
        if "const" in told or "enum" in told:
            return self._values_of(told)
        for name in ("anyOf", "oneOf"):
            if name in told:
                return self._alternatives(name, told, passed)
        return self._typed(told)

    def _reference(self, told: dict[str, Any], passed: frozenset[str]) -> Node:
        ref = told["$ref"]
        if ref in passed:
            raise failure("schema-cycle", ref=ref)
        target = self._target(ref)
        if len(told) > 1:  # what stands beside a reference counts as well
            rest = {name: value for name, value in told.items() if name != "$ref"}
            merged = merged_schemas([rest, self._resolved(target, passed | {ref})])
            return self._value(merged, passed | {ref})
        if ref not in self._names:
            self._names[ref] = name = self._new_rule()
            self._rules[name] = self._value(target, passed | {ref})
        return Rule(self._names[ref])

    def _new_rule(self, node: Node = EMPTY) -> str:
        if len(self._rules) > _MOST_RULES:
            raise failure("schema-too-large", number=_MOST_RULES)
        name = f"r{len(self._rules)}"
        self._rules[name] = node
        return name

    def _target(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise failure("schema-reference", ref=ref)
        found: Any = self._schema
        for part in ref.removeprefix("#").split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Sequence) and not isinstance(found, str) and key.isdigit():
                found = dict(enumerate(found)).get(int(key))
            else:
                found = found.get(key) if isinstance(found, Mapping) else None
            if found is None:
                raise failure("schema-reference", ref=ref)
        return found

    def _resolved(self, schema: Any, passed: frozenset[str]) -> Any:
        """A schema with what its reference stands for in its place."""
        while isinstance(schema, Mapping) and "$ref" in schema:
            ref = schema["$ref"]
            if ref in passed:
                raise failure("schema-cycle", ref=ref)
            passed |= {ref}
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            schema = merged_schemas([rest, self._target(ref)]) if rest else self._target(ref)
        return schema

    def _alternatives(self, name: str, told: dict[str, Any], passed: frozenset[str]) -> Node:
        rest = {key: value for key, value in told.items() if key != name}
        parts = [self._resolved(part, passed) if rest else part for part in _list(told, name)]
        if name == "oneOf" and not are_disjoint([self._resolved(p, passed) for p in parts]):
            raise failure("schema-one-of")
        nodes, errors = list[Node](), list[ParameterError]()
        for part in parts:
            before = dict(self._rules), dict(self._names)
            try:
                nodes.append(self._value(merged_schemas([rest, part]) if rest else part, passed))
            except ParameterError as error:  # one of the others will do
                errors.append(error)
                self._take_back(*before)
        if not nodes:
            raise errors[0]
        return _either(nodes)

    def _take_back(self, rules: dict[str, Node], names: dict[str, str]) -> None:
        for name in self._rules.keys() - rules.keys():
            del self._rules[name]
        self._names = names

    def _values_of(self, told: dict[str, Any]) -> Node:
        values = [told["const"]] if "const" in told else _list(told, "enum")
        self._values += len(values)
        if self._values > MOST_VALUES:
            raise failure("schema-values", number=self._values, most=MOST_VALUES)
        rest = {name: value for name, value in told.items() if name not in {"const"}}
        if len(rest) + ("const" in told) > 1:
            rest |= {
                name: self._schema[name]
                for name in ("$defs", "definitions")
                if name in self._schema
            }
            values = [value for value in values if fits(value, rest)]
        if not values:
            raise failure("schema-nothing")
        return Leaf(_either([literal(value) for value in values]))

    def _typed(self, told: dict[str, Any]) -> Node:
        kinds = told.get("type")
        if kinds is None:
            names = [k for k, words in _KEYWORDS.items() if k != "integer" and words & told.keys()]
        else:
            names = [kinds] if isinstance(kinds, str) else list(kinds)
        if not names or not set(names) <= _TYPES:
            raise failure("schema-no-schema", value=kinds)
        return _either([self._of_kind(name, told) for name in names])

    def _of_kind(self, kind: str, told: dict[str, Any]) -> Node:
        match kind:
            case "object":
                return self._object(told)
            case "array":
                return self._array(told)
            case "string":
                return Leaf(_string(told), plain=not {"pattern", "format"} & told.keys())
            case "boolean":
                return Leaf(Either((Text("true"), Text("false"))))
            case "null":
                return Leaf(Text("null"))
        return Leaf(_number(told, whole=kind == "integer"))

    def _object(self, told: dict[str, Any]) -> Node:
        declared: Mapping[str, Any] = told.get("properties") or {}
        required = [str(name) for name in told.get("required") or ()]
        others = told.get("additionalProperties", True)
        missing = [name for name in required if name not in declared]
        if missing and others is False:
            raise failure("schema-nothing")
        properties = {**declared, **dict.fromkeys(missing, others)}
        least, most = _size(told, "minProperties"), told.get("maxProperties")
        if not properties and told.get("properties") == {} and "additionalProperties" not in told:
            others = False  # declared to have none: it is given none
        if not properties:
            return self._map(others, least or 0, most)
        if most is not None and most < len(properties):
            properties = {name: properties[name] for name in properties if name in required}
        if len(required) < (least or 0) or (most is not None and most < len(required)):
            raise failure("schema-keyword", name="minProperties, maxProperties")
        members = []
        for name, schema in properties.items():
            value = self._value(schema, frozenset())
            key = Leaf(Seq((literal(name), Text(":"), optional(Text(" ")))))
            members.append((Seq((key, value)), name in required))
        return Seq((Text("{"), self._listed(members), Text("}")))

    def _listed(self, members: Sequence[tuple[Node, bool]]) -> Node:
        """Members in their order with commas between them; those that need not be may miss."""
        later: Node = EMPTY  # what may follow when something stands before it
        first: Node | None = None  # the same when nothing does
        for member, required in reversed(members):
            begun = Seq((member, later))
            if required or first is None:
                first = begun if required else optional(begun)
            else:
                first = Either((begun, Rule(self._new_rule(first))))
            following = Seq((_COMMA, member))
            rest = Seq((following if required else optional(following), later))
            later = Rule(self._new_rule(rest))
        return first or EMPTY

    def _map(self, schema: Any, least: int, most: int | None) -> Node:
        """Any names, each with a value of one schema."""
        if least > 1:  # a name that comes twice counts once
            raise failure("schema-keyword", name="minProperties")
        if schema is False or most == 0:
            return Seq((Text("{"), Text("}")))
        member = Seq(
            (Leaf(any_string(1, 40), plain=True), _COLON, self._value(schema, frozenset()))
        )
        return self._repeated("{", member, least, most, "}")

    def _array(self, told: dict[str, Any]) -> Node:
        least, most = _size(told, "minItems") or 0, _size(told, "maxItems")
        first = [self._value(item, frozenset()) for item in (told.get("prefixItems") or [])[:most]]
        items = told.get("items", True)
        if told.get("uniqueItems") and (most is None or most > 1):
            return self._set(items, least, most, has_first=bool(first))
        if not first:
            if items is False or most == 0:
                if least:
                    raise failure("schema-nothing")
                return Seq((Text("["), Text("]")))
            return self._repeated("[", self._value(items, frozenset()), least, most, "]")
        if least > len(first):
            if items is False or least > _MOST_ITEMS:
                raise failure("schema-nothing")
            first += [self._value(items, frozenset())] * (least - len(first))
        return Seq((Text("["), self._listed([(item, True) for item in first]), Text("]")))

    def _set(self, items: Any, least: int, most: int | None, *, has_first: bool) -> Node:
        """Different values out of a list of some, in the list's order."""
        schema = self._resolved(items, frozenset())
        values = (isinstance(schema, Mapping) and schema.get("enum")) or []
        different = values and len({literal(v).text for v in values}) == len(values)
        if not different or has_first or least > 0 or (most or len(values)) < len(values):
            raise failure("schema-keyword", name="uniqueItems")
        members = [(Leaf(literal(value)), False) for value in values if fits(value, schema)]
        return Seq((Text("["), self._listed(members), Text("]")))

    def _repeated(
        self, opening: str, item: Node, least: int, most: int | None, closing: str
    ) -> Node:
        if least > _MOST_ITEMS or (most is not None and most < least):
            raise failure("schema-nothing")
        bound = None if most is None or most > _MOST_ITEMS else most - 1
        rule = Rule(self._new_rule(item))  # written once, however often it comes
        more = Times(Seq((_COMMA, rule)), max(0, least - 1), bound)
        inner: Node = Seq((rule, more)) if bound != 0 else rule
        return Seq((Text(opening), inner if least else optional(inner), Text(closing)))

    def _anything(self) -> Node:
        """Any value of JSON."""
        if "any" not in self._rules:
            self._rules["any"] = EMPTY
            value = Rule("any")
            member = Seq((Leaf(any_string(0, 40), plain=True), _COLON, value))
            simple = Either((Text("true"), Text("false"), Text("null")))
            kinds = (
                Seq(
                    (
                        Text("{"),
                        optional(Seq((member, Times(Seq((_COMMA, member)), 0, _MOST_OPEN)))),
                        Text("}"),
                    )
                ),
                Seq(
                    (
                        Text("["),
                        optional(Seq((value, Times(Seq((_COMMA, value)), 0, _MOST_OPEN)))),
                        Text("]"),
                    )
                ),
                Leaf(any_string(), plain=True),
                Leaf(_number({}, whole=False)),
                Leaf(simple),
            )
            self._rules["any"] = Either(kinds)
        return Rule("any")


def any_object() -> Grammar:
    """The grammar of any JSON object."""
    return json_grammar({"type": "object"})


def fits(value: Any, schema: Any) -> bool:
    """Whether a value is valid by a schema.

    Raises:
        MissingPackageError: The package that knows is not installed.
    """
    return first_fault(value, schema) is None


def first_fault(value: Any, schema: Any) -> str | None:
    """What a value lacks by a schema; None if it is valid."""
    try:
        import jsonschema
    except ImportError as error:
        raise failure("no-structured-extra", package="jsonschema") from error
    validator = jsonschema.Draft202012Validator(schema)
    found = next(validator.iter_errors(value), None)
    return None if found is None else str(found.message)


def check_ends(rules: Mapping[str, Node], root: Node) -> None:
    """Raise ParameterError for a schema whose values hold another of them without end."""
    ending: set[str] = set()
    while True:
        more = {name for name, node in rules.items() if name not in ending and _ends(node, ending)}
        if not more:
            break
        ending |= more
    if not _ends(root, ending):
        raise failure("schema-endless")


def _ends(node: Node, ending: set[str]) -> bool:
    match node:
        case Seq(parts):
            return all(_ends(part, ending) for part in parts)
        case Either(choices):
            return any(_ends(choice, ending) for choice in choices)
        case Times(part, least, _):
            return least == 0 or _ends(part, ending)
        case Rule(name):
            return name in ending
        case Text() | Chars() | Leaf():
            return True


def _told(schema: Any) -> dict[str, Any]:
    """What a schema says of what is valid."""
    if schema is True:
        return {}
    if not isinstance(schema, Mapping):
        raise failure("schema-no-schema", value=schema)
    for name in schema:
        if name not in _ALL:
            raise failure("schema-keyword", name=name)
    return {name: value for name, value in schema.items() if name not in _NOTES}


def _either(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Either(tuple(dict.fromkeys(nodes)))


def _list(told: Mapping[str, Any], name: str) -> list[Any]:
    values = told[name]
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise failure("schema-no-schema", value=values)
    return list(values)


def _size(told: Mapping[str, Any], name: str) -> int | None:
    value = told.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise failure("schema-no-schema", value=value)


def _string(told: Mapping[str, Any]) -> Node:
    least, most = _size(told, "minLength") or 0, _size(told, "maxLength")
    pattern = told.get("pattern")
    if (form := told.get("format")) is not None:
        if form not in FORMATS or pattern is not None:
            raise failure("schema-format", name=form, names=", ".join(sorted(FORMATS)))
        pattern = FORMATS[form]
    if most is not None and most < least:
        raise failure("schema-nothing")
    if pattern is None:
        return any_string(least, most)
    try:
        shortest, longest = width(pattern)
        if shortest < least or (most is not None and longest > most):
            raise failure("schema-keyword", name="minLength, maxLength")
        return string_like(pattern)
    except PatternError as error:
        raise failure("schema-pattern", pattern=pattern, part=error) from error


def _number(told: Mapping[str, Any], *, whole: bool) -> Node:
    bounds = {name: told.get(name) for name in ("minimum", "maximum")}
    strict = {name: told.get(f"exclusive{name.title()}") for name in bounds}
    for value in (*bounds.values(), *strict.values()):
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise failure("schema-no-schema", value=value)
    low, above = _tighter(bounds["minimum"], strict["minimum"], -1)
    high, below = _tighter(bounds["maximum"], strict["maximum"], 1)
    if (step := told.get("multipleOf")) not in {None, 1} or (step == 1 and not whole):
        return _multiples(step, low, high, above=above, below=below)
    if not whole:
        exact = [None if bound is None else Decimal(str(bound)) for bound in (low, high)]
        node = decimals(exact[0], exact[1], above=above, below=below)
    else:
        node = whole_numbers(_floor(low, above, -1), _floor(high, below, 1))
    if node is None:
        raise failure("schema-nothing")
    return node


def _tighter(bound: Any, strict: Any, side: int) -> tuple[Any, bool]:
    """The narrower of two bounds, and whether it is itself left out."""
    if strict is None or (bound is not None and side * bound < side * strict):
        return bound, False
    return strict, True


def _floor(bound: float | None, strict: bool, side: int) -> int | None:
    if bound is None:
        return None
    whole = math.floor(bound) if side > 0 else math.ceil(bound)
    return whole - side if strict and whole == bound else whole


def _multiples(step: Any, low: Any, high: Any, *, above: bool, below: bool) -> Node:
    """Multiples of a whole number within bounds, as a list."""
    if not isinstance(step, int) or step <= 0 or low is None or high is None:
        raise failure("schema-keyword", name="multipleOf")
    first, last = _floor(low, above, -1), _floor(high, below, 1)
    values = list(_range(first or 0, last or 0, step))
    if not values:
        raise failure("schema-nothing")
    return _either([literal(value) for value in values])


def _range(first: int, last: int, step: int) -> Iterator[int]:
    if (last - first) // step > MOST_VALUES:
        raise failure("schema-keyword", name="multipleOf")
    yield from range(-(-first // step) * step, last + 1, step)
