"""`explain(error)`: what the errors that learners really meet mean, and what to do about them.

Many messages name a symptom, and some the wrong cause: a token without the right scope is reported
as a missing connection. Each rule of explaining.toml was met in practice; the first that fits
counts.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

from local_pipelines.engines.options import GENERATION_OPTIONS
from local_pipelines.errors import LocalPipelinesError, failure
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.credentials import TOKEN_PAGE

_MOST = 300  # characters of a foreign message that are repeated


@dataclass(frozen=True, repr=False)
class Explanation:
    """What an error means."""

    fact: str  # what happened
    cause: str  # why it probably happened
    next_step: str  # what to type, click or change now
    known: bool = True  # whether the error is one that this package knows

    def __repr__(self) -> str:
        return "\n  ".join(part for part in (self.fact, self.cause, self.next_step) if part)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self.fact)}</b></p>"]
        parts += [f"<p>{escape(part)}</p>" for part in (self.cause, self.next_step) if part]
        return "".join(parts)


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    cause: str
    next_step: str
    fact: str = ""


def explain(error: BaseException | None = None) -> Explanation:
    """Say what an error means and what to do now.

    Args:
        error: The error; the last one that a cell of the notebook ended with, if not given.

    Returns:
        The explanation, which a notebook shows as three short paragraphs.

    Raises:
        ParameterError: There is no error to explain.
    """
    error = error or getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if not isinstance(error, BaseException):
        raise failure("nothing-to-explain")
    chain = _chain(error)
    for each in chain:
        if isinstance(each, LocalPipelinesError):
            return Explanation(each.fact, each.cause, each.next_step)
    for rule in _rules():
        for each in chain:
            if match := rule.pattern.search(_described(each)):
                return _filled(rule, match, _fact(each))
    return _unknown(error)


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what led to it, the last one first."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and not any(following is each for each in seen):
        seen.append(following)
        following = following.__cause__ or following.__context__
    return seen


def _described(error: BaseException) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"{type(error).__name__}: {error}" + (f" [HTTP {status}]" if status else "")


def _fact(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "").strip()
    first = first if len(first) <= _MOST else first[:_MOST] + " …"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _filled(rule: _Rule, match: re.Match[str], fact: str) -> Explanation:
    words = {name: value or "" for name, value in match.groupdict().items()}
    words["token_page"] = TOKEN_PAGE
    cause, next_step = (tr(each).format(**words) for each in (rule.cause, rule.next_step))
    return Explanation(tr(rule.fact) or fact, cause, next_step)


def _unknown(error: BaseException) -> Explanation:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = str(frame.tb_frame.f_globals.get("__name__", "")) if frame else ""
    package = module.partition(".")[0]
    unknown = package in {"", "__main__"}
    where = "" if unknown else tr("It was raised in {package}.").format(package=package)
    return Explanation(
        _fact(error),
        paragraph(tr("This error is not among those known here."), where),
        tr("Read the message's last lines, and search for them together with the package's name."),
        known=False,
    )


@cache
def _rules() -> list[_Rule]:
    table = (files("local_pipelines.lessons") / "explaining.toml").read_text(encoding="utf-8")
    options = "|".join(sorted(GENERATION_OPTIONS))
    rules = tomllib.loads(table)["rule"]
    for rule in rules:
        pattern = rule["pattern"].replace("OPTION", options)
        rule["pattern"] = re.compile(pattern, re.DOTALL | re.IGNORECASE)
    return [_Rule(**rule) for rule in rules]
