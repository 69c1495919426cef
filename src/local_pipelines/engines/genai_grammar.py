"""A grammar as xgrammar, the library inside OpenVINO GenAI, reads it and keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from local_pipelines.engines.automaton import leaf_rules
from local_pipelines.engines.grammar import Chars, Either, Grammar, Leaf, Node, Seq, Text, Times
from local_pipelines.errors import failure


@lru_cache(maxsize=64)
def for_xgrammar(grammar: Grammar, special: frozenset[str]) -> str:
    """The rules of a grammar, in which no special token is a text.

    xgrammar takes the name of a special token for a text like any other: `<|end|>` inside a string
    would end the answer there. So the letters that these names begin with stand in no text, and in
    JSON they are written as escapes.
    """
    firsts = frozenset(name[0] for name in special if name)
    known: dict[Node, Node] = {}
    rules: dict[str, Node] = {}

    def turned(node: Node) -> Node:
        match node:
            case Leaf(part, plain):
                if node not in known:
                    safe = _without(part, firsts)
                    if plain or isinstance(part, Text):
                        known[node] = safe
                    else:
                        known[node], more = leaf_rules(Leaf(safe), f"l{len(known)}x")
                        rules.update(more)
                return known[node]
            case Seq(parts):
                return Seq(tuple(map(turned, parts)))
            case Either(choices):
                return Either(tuple(map(turned, choices)))
            case Times(part, least, most):
                return Times(turned(part), least, most)
        return node

    for name, node in grammar.rules:
        rules[name] = turned(node)
    rules = {"root": rules.pop("root")} | rules
    return Grammar.of(rules).ebnf


def _without(node: Node, letters: Iterable[str]) -> Node:
    """A node of JSON without some letters."""
    match node:
        case Text(text):
            if text.startswith('"'):  # a value or a name: as escapes, they are the same
                for letter in letters:
                    text = (
                        text.replace(letter, f"\\u{ord(letter):04x}")
                        if letter not in '"\\'
                        else text
                    )
            return Text(text)
        case Chars(ranges):
            left = list(ranges)
            for letter in letters:
                number = ord(letter)
                parts = [((a, min(b, number - 1)), (max(a, number + 1), b)) for a, b in left]
                left = [(a, b) for part in parts for a, b in part if a <= b]
            if not left:
                raise failure("schema-nothing")
            return Chars(tuple(left))
        case Seq(parts):
            return Seq(tuple(_without(part, letters) for part in parts))
        case Either(choices):
            return Either(tuple(_without(choice, letters) for choice in choices))
        case Times(part, least, most):
            return Times(_without(part, letters), least, most)
    return node
