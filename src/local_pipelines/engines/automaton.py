"""A leaf of a grammar as rules in which each letter decides what comes next.

xgrammar in openvino-genai 2026.4 joins states of an automaton that are not the same: asked for
`([4-9] | [1-9] [0-9] | [1-9] [0-9] [0-9]) ("." [0-9])? | "x"` it writes numbers of any length.
Where no two choices begin with the same letter there is nothing that it could join.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from local_pipelines.engines.grammar import (
    EMPTY,
    Chars,
    Either,
    Leaf,
    Node,
    Rule,
    Seq,
    Text,
    Times,
)
from local_pipelines.errors import failure

_MOST_STATES = 20_000

_Ranges = tuple[tuple[int, int], ...]


@dataclass
class _Nfa:
    """States by number: where each may go without a letter, and where with one."""

    free: list[list[int]] = field(default_factory=list)
    steps: list[list[tuple[_Ranges, int]]] = field(default_factory=list)

    def state(self) -> int:
        if len(self.free) > _MOST_STATES:
            raise failure("schema-too-large", number=_MOST_STATES)
        self.free.append([])
        self.steps.append([])
        return len(self.free) - 1

    def add(self, node: Node, start: int) -> int:
        """Write a node behind a state, and give the state behind it."""
        match node:
            case Text(text):
                for letter in text:
                    start = self._step(start, ((ord(letter), ord(letter)),))
                return start
            case Chars(ranges):
                return self._step(start, ranges)
            case Seq(parts):
                for part in parts:
                    start = self.add(part, start)
                return start
            case Either(choices):
                end = self.state()
                for choice in choices:
                    self.free[self.add(choice, self._beside(start))].append(end)
                return end
            case Times(part, least, most):
                return self._times(part, least, most, start)
        raise TypeError(node)  # a leaf has no rules in it

    def _step(self, start: int, ranges: _Ranges) -> int:
        end = self.state()
        self.steps[start].append((ranges, end))
        return end

    def _beside(self, start: int) -> int:
        beside = self.state()
        self.free[start].append(beside)
        return beside

    def _times(self, part: Node, least: int, most: int | None, start: int) -> int:
        for _ in range(least):
            start = self.add(part, start)
        if most is None:
            loop = self._beside(start)
            self.free[self.add(part, loop)].append(loop)
            return self._beside(loop)
        end = self.state()
        self.free[start].append(end)
        for _ in range(most - least):
            start = self.add(part, self._beside(start))
            self.free[start].append(end)
        return end

    def closed(self, states: frozenset[int]) -> frozenset[int]:
        """The states that are reached without a letter."""
        found, waiting = set(states), list(states)
        while waiting:
            new = [state for state in self.free[waiting.pop()] if state not in found]
            found.update(new)
            waiting += new
        return frozenset(found)


def leaf_rules(leaf: Leaf, prefix: str) -> tuple[Node, dict[str, Node]]:
    """The node that stands for a leaf, and the rules, named with a prefix, that it needs."""
    nfa = _Nfa()
    start = nfa.state()
    end = nfa.add(leaf.node, start)
    first = nfa.closed(frozenset({start}))
    names = {first: f"{prefix}0"}
    exits: dict[str, tuple[dict[str, list[tuple[int, int]]], bool]] = {}
    waiting = [first]
    while waiting:
        states = waiting.pop()
        targets: dict[str, list[tuple[int, int]]] = {}
        for low, high, reached in _letters(nfa, states):
            if reached not in names:
                names[reached] = f"{prefix}{len(names)}"
                waiting.append(reached)
            targets.setdefault(names[reached], []).append((low, high))
        exits[names[states]] = targets, end in states
    return _written(exits, names[first])


def _letters(nfa: _Nfa, states: frozenset[int]) -> Iterator[tuple[int, int, frozenset[int]]]:
    """Ranges of letters that lead to the same states, and these states."""
    steps = [
        (low, high, end) for s in states for ranges, end in nfa.steps[s] for low, high in ranges
    ]
    borders = sorted({low for low, _, _ in steps} | {high + 1 for _, high, _ in steps})
    for low, after in pairwise(borders):
        reached = frozenset(end for a, b, end in steps if a <= low and after - 1 <= b)
        if reached:
            yield low, after - 1, nfa.closed(reached)


def _written(
    exits: dict[str, tuple[dict[str, list[tuple[int, int]]], bool]], first: str
) -> tuple[Node, dict[str, Node]]:
    """States as rules; a state that goes one way only is written where it is reached."""
    counts: dict[str, int] = {}
    for targets, _ in exits.values():
        for name in targets:
            counts[name] = counts.get(name, 0) + 1

    def behind(name: str) -> list[Node]:
        parts: list[Node] = []
        while True:
            targets, ends = exits[name]
            if ends and not targets:
                return parts
            if ends or len(targets) > 1 or counts[name] > 1:
                return [*parts, Rule(name)]
            ((after, ranges),) = targets.items()
            parts.append(_one(ranges))
            name = after

    counts[first] = 2
    rules: dict[str, Node] = {}
    for name, (targets, ends) in exits.items():
        choices = [Seq((_one(ranges), *behind(after))) for after, ranges in targets.items()]
        rules[name] = Either((*choices, *([EMPTY] if ends else [])))
    used, waiting = set[str](), [first]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += _named(rules[name])
    return Rule(first), {name: rules[name] for name in rules if name in used}


def _named(node: Node) -> list[str]:
    match node:
        case Rule(name):
            return [name]
        case Seq(parts) | Either(parts):
            return [name for part in parts for name in _named(part)]
    return []


def _one(ranges: list[tuple[int, int]]) -> Node:
    low, high = ranges[0]
    single = len(ranges) == 1 and low == high
    return Text(chr(low)) if single else Chars(tuple(ranges))
