r"""What an answer may look like: a grammar of a few kinds of nodes, and the two texts of it.

Each engine has a grammar library of its own: llguidance beside torch, xgrammar inside OpenVINO
GenAI. Both are given the same grammar, made by the same rooms, so both hold an answer to the same
form. (GenAI's own way from a JSON schema to a grammar does not always: asked for a number from 0.5
to 2.25, openvino-genai 2026.4 writes 0x5, and any number of blanks.)

>>> digits = Leaf(Times(Chars(((48, 57),)), 1, 3))
>>> grammar = Grammar.of({"root": Seq((Text("n="), digits))})
>>> print(grammar.ebnf)
root ::= "n=" [\u0030-\u0039]{1,3}
>>> print(grammar.lark)
start: "n=" T1
T1: /[\x{30}-\x{39}]{1,3}/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Text:
    """These letters."""

    text: str


@dataclass(frozen=True)
class Chars:
    """One letter out of these ranges of code points, their ends included."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Seq:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Either:
    """One of them."""

    choices: tuple[Node, ...]


@dataclass(frozen=True)
class Times:
    """The same again and again, `most` times at most; None: without end."""

    node: Node
    least: int
    most: int | None


@dataclass(frozen=True)
class Rule:
    """What a rule of this name says, which may be the rule that it stands in."""

    name: str


@dataclass(frozen=True)
class Leaf:
    """A part without rules in it that a reader takes as one word: a string, a number.

    `plain` says that each letter decides what comes next, as it stands.
    """

    node: Node
    plain: bool = False


Node = Text | Chars | Seq | Either | Times | Rule | Leaf

EMPTY = Seq(())


@dataclass(frozen=True)
class Grammar:
    """Rules by their names; an answer is what the rule "root" says."""

    rules: tuple[tuple[str, Node], ...]

    @classmethod
    def of(cls, rules: Mapping[str, Node]) -> Grammar:
        """Make a grammar of rules; one of them is named "root"."""
        return cls(tuple(rules.items()))

    @cached_property
    def ebnf(self) -> str:
        """As xgrammar reads it."""
        return "\n".join(f"{name} ::= {_ebnf(node)}" for name, node in self.rules)

    @cached_property
    def lark(self) -> str:
        """As llguidance reads it: leaves become regular expressions of their own."""
        leaves: dict[Node, str] = {}
        lines = [
            f"{'start' if name == 'root' else name}: {_lark(node, leaves)}"
            for name, node in self.rules
        ]
        lines += [f"{name}: /{_regex(node)}/" for node, name in leaves.items()]
        return "\n".join(lines)


def optional(node: Node) -> Times:
    """A part that may be missing."""
    return Times(node, 0, 1)


def _ebnf(node: Node) -> str:
    match node:
        case Text(text):
            return _spelt(text)
        case Chars(ranges):
            return "[" + "".join(f"{_point(low)}-{_point(high)}" for low, high in ranges) + "]"
        case Seq(parts):
            return " ".join(map(_ebnf, parts)) if parts else '""'
        case Either(choices):
            return "(" + " | ".join(map(_ebnf, choices)) + ")"
        case Times(part, least, most):
            text = _ebnf(part)
            single = isinstance(part, Chars | Rule | Either)
            return (text if single else f"({text})") + _count(least, most)
        case Rule(name):
            return name
        case Leaf(part, _):
            return _ebnf(part)


def _lark(node: Node, leaves: dict[Node, str]) -> str:
    match node:
        case Text(text):
            return _quoted(text)
        case Seq(parts):
            return " ".join(_lark(part, leaves) for part in parts) if parts else '""'
        case Either(choices):
            return "(" + " | ".join(_lark(choice, leaves) for choice in choices) + ")"
        case Times(part, least, most):
            return f"({_lark(part, leaves)})" + _count(least, most)
        case Rule(name):
            return name
        case Leaf(part, _):
            return leaves.setdefault(part, f"T{len(leaves) + 1}")
        case Chars():
            return leaves.setdefault(node, f"T{len(leaves) + 1}")


def _regex(node: Node) -> str:
    match node:
        case Text(text):
            return "".join(_letter(letter) for letter in text)
        case Chars(ranges):
            return "[" + "".join(rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in ranges) + "]"
        case Seq(parts):
            return "".join(map(_regex, parts))
        case Either(choices):
            return "(" + "|".join(map(_regex, choices)) + ")"
        case Times(part, least, most):
            single = isinstance(part, Chars | Either)
            return (_regex(part) if single else f"({_regex(part)})") + _count(least, most)
        case Leaf(part, _):
            return _regex(part)
        case Rule(name):
            raise TypeError(name)  # a leaf has no rules in it


def _count(least: int, most: int | None) -> str:
    short = {(0, 1): "?", (0, None): "*", (1, None): "+"}.get((least, most))
    return short or f"{{{least},{'' if most is None else most}}}"


def _spelt(text: str) -> str:
    """A text for xgrammar, letter by letter: it would read "ße" as one, with the number dfe."""
    runs = re.findall(r"[\x20-\x7e]+|.", text, re.DOTALL) or [""]
    return " ".join(
        _quoted(run) if run.isascii() else f"[{_point(ord(run))}-{_point(ord(run))}]"
        for run in runs
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _point(number: int) -> str:
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _letter(letter: str) -> str:
    return letter if letter.isalnum() and letter.isascii() else rf"\x{{{ord(letter):x}}}"
