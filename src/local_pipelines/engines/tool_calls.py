"""Calls of tools inside an answer: the grammar that keeps their form, and what reads them.

A call is `<tool_call>`, an object with "name" and "arguments", and `</tool_call>`, each on a line
of its own: the form of Hermes and Qwen, and of the templates of many other models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from local_pipelines.engines.json_schema import SchemaRules
from local_pipelines.engines.json_strings import literal

BEGIN, END = "<tool_call>", "</tool_call>"
MOST_CALLS = 8
_HEAD = re.compile(r'\s*\{"name": ?"((?:[^"\\]|\\.)*)", ?"arguments": ?')
_BLANK = optional(Text(" "))
_ANY = ((9, 10), (13, 13), (0x20, 0x3B), (0x3D, 0xD7FF), (0xE000, 0x10FFFF))  # but not "<"


def calls_grammar(tools: Mapping[str, Any], *, forced: bool, several: bool) -> Grammar:
    """What an answer looks like that calls tools, or, unless that is `forced`, speaks in words.

    Words hold no "<": it begins a call.

    Args:
        tools: The JSON schemas of the tools' arguments, by their names.
        forced: At least one call, and no words.
        several: Up to eight calls, not just one.
    """
    rules: dict[str, Node] = {"root": EMPTY}
    bodies = [_body(name, schema, rules) for name, schema in tools.items()]
    rules["call"] = bodies[0] if len(bodies) == 1 else Either(tuple(bodies))
    one = Seq((_called(rules), Leaf(Text(f"\n{END}"))))
    more = Times(Seq((Leaf(Text(f"\n{BEGIN}")), one)), 0, MOST_CALLS - 1) if several else EMPTY
    words = Times(Chars(_ANY), 1, None)
    begins = (
        Leaf(Text(BEGIN))
        if forced
        else Either((Leaf(Text(BEGIN)), Leaf(Seq((words, Text(BEGIN))))))
    )
    calls = Seq((begins, one, more))
    rules["root"] = calls if forced else optional(Either((Leaf(words), calls)))
    return Grammar.of(rules)


def _called(rules: dict[str, Node]) -> Node:
    return Seq((Leaf(Text("\n")), Rule("call")))


def _body(name: str, schema: Any, rules: dict[str, Node]) -> Node:
    head = (
        Text('{"name":'),
        _BLANK,
        literal(name),
        Text(","),
        _BLANK,
        Text('"arguments":'),
        _BLANK,
    )
    arguments = SchemaRules({"type": "object", **schema}, rules).root()
    return Seq((Leaf(Seq(head)), arguments, Leaf(Text("}"))))


@dataclass
class Words:
    """Text of an answer that belongs to no call."""

    text: str


@dataclass
class Call:
    """The beginning of a call: which it is, and of which tool."""

    index: int
    name: str


@dataclass
class Arguments:
    """A piece of a call's arguments, as JSON."""

    index: int
    text: str


Event = Words | Call | Arguments


class CallReader:
    r"""Reads an answer that comes in pieces.

    >>> reader = CallReader()
    >>> list(reader.feed('<tool_call>\n{"name": "add", "argum'))
    []
    >>> [*reader.feed('ents": {"a": 1}}\n</tool'), *reader.feed("_call>")]
    [Call(index=0, name='add'), Arguments(index=0, text='{"a": 1}')]
    """

    def __init__(self) -> None:
        self.calls = 0
        self.is_inside = False  # a call has begun and not ended
        self.broken = ""  # what stood where a call had begun
        self._held = ""
        self._state = "words"
        self._depth, self._quoted, self._escaped = 0, False, False

    def feed(self, text: str) -> Iterator[Event]:
        """Take more of the answer and give what is certain."""
        self._held += text
        going = True
        while going:
            before = self._state, self._held
            yield from getattr(self, f"_{self._state}")()
            going = bool(self._held) and before != (self._state, self._held)

    def flush(self) -> Iterator[Event]:
        """Give what was held back: the answer has ended."""
        if self._state in {"words", "between"} and self._held.strip():
            yield Words(self._held)
        elif self.is_inside:
            self.broken = self._held
        self._held = ""

    def _words(self) -> Iterator[Event]:
        place = self._held.find(BEGIN)
        if place >= 0:
            words, self._held = self._held[:place], self._held[place + len(BEGIN) :]
            self._state, self.is_inside = "head", True
        else:
            held = next(
                (n for n in range(len(BEGIN) - 1, 0, -1) if self._held.endswith(BEGIN[:n])), 0
            )
            cut = len(self._held) - held
            words, self._held = self._held[:cut], self._held[cut:]
        if words and (self.calls == 0 or words.strip()):
            yield Words(words)

    def _head(self) -> Iterator[Event]:
        if found := _HEAD.match(self._held):
            import json

            yield Call(self.calls, json.loads(f'"{found[1]}"'))
            self._held, self._state = self._held[found.end() :], "arguments"

    def _arguments(self) -> Iterator[Event]:
        if self._depth == 0:
            self._held = self._held.lstrip()
        for place, letter in enumerate(self._held):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = letter == "\\", letter != '"'
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    yield Arguments(self.calls, self._held[: place + 1])
                    self._held, self._state = self._held[place + 1 :], "end"
                    return
        if self._held:
            yield Arguments(self.calls, self._held)
        self._held = ""

    def _end(self) -> Iterator[Event]:
        place = self._held.find(END)
        if place >= 0:
            self._held, self._state = self._held[place + len(END) :], "words"
            self.calls, self.is_inside = self.calls + 1, False
        yield from ()
