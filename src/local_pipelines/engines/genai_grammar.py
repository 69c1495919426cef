"""A grammar as xgrammar, the library inside OpenVINO GenAI, reads it and keeps it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from local_pipelines.engines.automaton import leaf_rules
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
)
from local_pipelines.errors import failure

_MOST_REPEATS = 20


@lru_cache(maxsize=64)
def for_xgrammar(grammar: Grammar, special: frozenset[str]) -> str:
    """The rules of a grammar, in which no special token is a text.

    xgrammar takes the name of a special token for a text like any other: `<|end|>` inside a string
    would end the answer there. So the letters that these names begin with stand in no text, and in
    JSON they are written as escapes.
    """
    rules = _Rules(frozenset(name[0] for name in special if name))
    nodes = {name: rules.turned(node) for name, node in grammar.rules}
    return Grammar.of({"root": nodes.pop("root")} | nodes | rules.made).ebnf


class _Rules:
    """Turns the nodes of one grammar into what xgrammar keeps, and collects the rules for it."""

    def __init__(self, letters: frozenset[str]) -> None:
        self.made: dict[str, Node] = {}
        self._letters = letters
        self._leaves: dict[Leaf, Node] = {}
        self._chains: dict[Node, str] = {}

    def turned(self, node: Node) -> Node:
        """A node without leaves."""
        match node:
            case Leaf():
                if node not in self._leaves:
                    self._leaves[node] = self._leaf(node)
                return self._leaves[node]
            case Seq(parts):
                return Seq(tuple(map(self.turned, parts)))
            case Either(choices):
                return Either(tuple(map(self.turned, choices)))
            case Times(part, least, most):
                return Times(self.turned(part), least, most)
        return node

    def _leaf(self, leaf: Leaf) -> Node:
        safe = _without(leaf.node, self._letters)
        if leaf.plain or isinstance(safe, Text):
            return self._chained(safe)
        node, more = leaf_rules(Leaf(safe), f"l{len(self._leaves)}x")
        self.made |= more
        return node

    def _chained(self, node: Node) -> Node:
        """A string, letter by letter: of {0,500} xgrammar makes an automaton for minutes."""
        if isinstance(node, Seq):
            return Seq(tuple(map(self._chained, node.parts)))
        if not isinstance(node, Times) or node.most is None or node.most <= _MOST_REPEATS:
            return node
        name = self._chains.setdefault(node.node, f"c{len(self._chains)}x")
        one = Rule(f"{name}one")
        self.made[one.name] = node.node
        return Seq((*[one] * node.least, self._up_to(node.most - node.least, one, name)))

    def _up_to(self, most: int, one: Rule, name: str) -> Node:
        """So many letters at most: whole blocks of them, and then a few.

        xgrammar looks through all tokens for each state when a grammar is first used; so there are
        some sixty states, and not a thousand.
        """
        size = math.isqrt(most) + 1
        few, whole, blocks = f"{name}f", f"{name}w{size}", f"{name}b{most}s"
        self.made |= {f"{few}0": EMPTY, whole: Seq((one,) * size)}
        for count in range(1, size):
            some = Seq((one, Rule(f"{few}{count - 1}")))
            self.made.setdefault(f"{few}{count}", Either((some, EMPTY)))
        rest = most % size
        self.made[f"{blocks}0"] = Rule(f"{few}{rest}")
        for count in range(1, most // size + 1):
            more = Seq((Rule(whole), Rule(f"{blocks}{count - 1}")))
            self.made[f"{blocks}{count}"] = Either((more, Rule(f"{few}{size - 1}")))
        return Rule(f"{blocks}{most // size}")


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
