"""What a translation may not lose or break, one function a rule, each about one unit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from course_kit.translate.blocks import parser
from course_kit.translate.glossary import Term, terms_in
from course_kit.translate.languages import Language
from course_kit.translate.units import CODE_SPAN, MATH, bare

__all__ = ["CHECKS", "SOFT", "Entry", "find_faults"]

CJK = r"\u3040-\u30ff\u3400-\u9fff\uff00-\uffef\u3000-\u303f"
_CODE_KINDS = {"comment", "string", "f-string"}
_FIELD = re.compile(r"(?<!\{)\{[^{}]*\}(?!\})|%\([^)]+\)[sdf]|%[sd]\b")


@dataclass(frozen=True)
class Entry:
    """An English unit and its translation, with what the checks need to know.

    Attributes:
        language: The language.
        kinds: What the unit is; it can be several things at several places.
        english: Its English.
        text: Its translation.
        terms: The language's glossary.
    """

    language: Language
    kinds: frozenset[str]
    english: str
    text: str
    terms: tuple[Term, ...] = field(default=(), repr=False)

    @property
    def is_markdown(self) -> bool:
        """Whether it is rendered; comments and strings are not."""
        return not self.kinds <= _CODE_KINDS

    @property
    def is_string(self) -> bool:
        """Whether it is a string of the code."""
        return bool(self.kinds & {"string", "f-string"})


Check = Callable[[Entry], Iterator[str]]


# --- after rendering ----------------------------------------------------------------------------


def _inline(text: str) -> list[Any]:
    tokens = parser().parseInline(text)[0].children or []
    return [*tokens, *(inner for token in tokens for inner in token.children or [])]


def _lost(what: str, english: Counter[str], text: Counter[str]) -> Iterator[str]:
    if english != text:
        lost = ", ".join((english - text).elements()) or "nothing"
        new = ", ".join((text - english).elements()) or "nothing"
        yield f"other {what}: missing {lost}; too much {new}"


def code_spans(entry: Entry) -> Iterator[str]:
    """Keep what stands between backticks, letter by letter; of a message, the error's name."""

    def spans(text: str) -> Counter[str]:
        if entry.kinds == {"message"}:
            return Counter([text.partition(":")[0]])
        return Counter(" ".join(match[2].split()) for match in CODE_SPAN.finditer(text))

    yield from _lost("code", spans(entry.english), spans(entry.text))
    if entry.english.count("`") % 2 != entry.text.count("`") % 2:
        yield "a backtick without its partner"


def links(entry: Entry) -> Iterator[str]:
    """Keep the targets of links; build makes them right for the language."""
    if entry.is_markdown:
        yield from _lost("links", *(_targets(t, "href") for t in (entry.english, entry.text)))


def images(entry: Entry) -> Iterator[str]:
    """Keep the pictures, and some words for those who do not see them."""
    if entry.is_markdown:
        yield from _lost("images", *(_targets(t, "src") for t in (entry.english, entry.text)))
        if re.search(r"!\[\s*\]", entry.text):
            yield "an image without a description"


def _targets(text: str, attribute: str) -> Counter[str]:
    found = (str(token.attrs[attribute]) for token in _inline(text) if attribute in token.attrs)
    return Counter(found)


def emphasis(entry: Entry) -> Iterator[str]:
    """Count bold and italics after rendering: `**重要：**文字` is not bold."""
    if not entry.is_markdown:
        return
    english, text = (_marks(t) for t in (entry.english, entry.text))
    yield from _lost("emphasis after rendering", english, text)
    shown = "".join(token.content for token in _inline(entry.text) if token.type == "text")
    if "**" in shown and "**" not in entry.english.replace("**", "", 2 * english["strong"]):
        yield "`**` is shown as it is: put a space or move the punctuation outside"


def _marks(text: str) -> Counter[str]:
    opened = (token.type for token in _inline(text) if token.nesting == 1)
    return Counter(t.removesuffix("_open") for t in opened if t in {"strong_open", "em_open"})


def mathematics(entry: Entry) -> Iterator[str]:
    """Keep formulas as they are."""
    if entry.is_markdown:
        english, text = (
            Counter(m[0] for m in MATH.finditer(CODE_SPAN.sub("", t)))
            for t in (entry.english, entry.text)
        )
        yield from _lost("formulas", english, text)


def html(entry: Entry) -> Iterator[str]:
    """Keep tags and entities."""
    if entry.is_markdown:
        pattern = re.compile(r"</?[A-Za-z][^>]*>|<!--.*?-->|&\w+;")
        english, text = (
            Counter(pattern.findall(CODE_SPAN.sub("", t))) for t in (entry.english, entry.text)
        )
        yield from _lost("HTML", english, text)


def one_block(entry: Entry) -> Iterator[str]:
    """Let a block be one block: a `#`, a `-` or an empty line at the wrong place makes another."""
    if not entry.is_markdown or entry.kinds & {"heading", "image description", "link text"}:
        return
    english, text = ([t.type for t in parser().parse(text) if t.nesting == 1]
                     for text in (entry.english, entry.text))  # fmt: skip
    if english != text:
        yield f"it is rendered as {' + '.join(text) or 'nothing'}, not as {' + '.join(english)}"


# --- in code ------------------------------------------------------------------------------------


def placeholders(entry: Entry) -> Iterator[str]:
    """Keep the fields that a program fills."""
    fields = (Counter(_FIELD.findall(CODE_SPAN.sub("", t))) for t in (entry.english, entry.text))
    yield from _lost("placeholders", *fields)


def ends(entry: Entry) -> Iterator[str]:
    """Keep spaces and line ends at both ends of a string, and its line ends within."""
    if not entry.is_string:
        return
    for pattern in (r"^\s*", r"\s*$"):
        english, text = (re.search(pattern, t) for t in (entry.english, entry.text))
        if english and text and english[0] != text[0]:
            yield "other spaces or line ends at its beginning or end"
    if entry.english.count("\n") != entry.text.count("\n"):
        yield "another number of line ends"


def one_line(entry: Entry) -> Iterator[str]:
    """Allow no line break that the English does not have; in CJK text it shows as a space."""
    if entry.text.count("\n") > entry.english.count("\n"):
        inside = re.search(rf"[{CJK}]\s*\n\s*[{CJK}]", entry.text)
        yield "a line break inside CJK text" if inside else "a line break within the text"


# --- language -----------------------------------------------------------------------------------


def glossary(entry: Entry) -> Iterator[str]:
    """Use the one translation that the glossary has for a term."""
    if not entry.is_string:
        for term in terms_in(bare(entry.english), entry.terms):
            if not term.is_used(bare(entry.text)):
                yield f"the glossary has “{term.translation}” for “{term.english}”"


def identical(entry: Entry) -> Iterator[str]:
    """Report a text that was left in English."""
    words = re.findall(r"[^\W\d_]{2,}", bare(entry.english))
    if not entry.is_string and entry.text == entry.english and len(words) > 3:
        yield "the same as the English"


_NARROW = "\u00a0\u202f"


def french_spacing(entry: Entry) -> Iterator[str]:
    """Ask for no-break spaces before ; : ! ? and within « »."""
    if entry.language.code.partition("_")[0] != "fr" or entry.is_string:
        return
    text = bare(entry.text)
    if match := re.search(rf"(?:^|[^{_NARROW}!?…:;])(?:[;!?»]|:(?=\s|$|\*|_|\]|\)))", text):
        yield f"a no-break space (U+202F or U+00A0) is missing in “{_around(text, match)}”"
    if match := re.search(rf"«[^{_NARROW}]", text):
        yield f"a no-break space is missing after « in “{_around(text, match)}”"
    if re.search(r"\"\w|\w\"", text):
        yield "straight quotation marks: French has « and »"


def _around(text: str, match: re.Match[str]) -> str:
    return text[max(match.start() - 12, 0) : match.end() + 4].strip()


def cjk_punctuation(entry: Entry) -> Iterator[str]:
    """Let autocorrect look at the spaces and punctuation of CJK text."""
    if not entry.language.is_cjk or entry.is_string:
        return
    import autocorrect_py

    if match := re.search(rf"[{CJK}][*_]*[,;:!?](?!\w)|[,;:!?][*_]*[{CJK}]", bare(entry.text)):
        yield f"half-width punctuation in “{_around(bare(entry.text), match)}”"
    for line in autocorrect_py.lint_for(entry.text, "text.md").lines:
        if line.old != line.new and not _is_only_about_code(line.old, line.new):
            yield f"autocorrect would write “{line.new.strip()}”"


def _is_only_about_code(old: str, new: str) -> bool:
    """Tell whether nothing but spaces beside markup would change, which is a matter of taste."""
    return re.sub(r"\s*([`*_\[\]()]+)\s*", r"\1", old) == re.sub(
        r"\s*([`*_\[\]()]+)\s*", r"\1", new
    )


CHECKS: dict[str, Check] = {
    "code": code_spans,
    "links": links,
    "images": images,
    "emphasis": emphasis,
    "math": mathematics,
    "html": html,
    "block": one_block,
    "placeholders": placeholders,
    "ends": ends,
    "lines": one_line,
    "glossary": glossary,
    "identical": identical,
    "french": french_spacing,
    "cjk": cjk_punctuation,
}
# A translator may overrule these in one entry, with a comment `ok: glossary`.
SOFT = frozenset({"glossary", "identical", "french", "cjk", "emphasis"})


def find_faults(entry: Entry, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Check one translation.

    Args:
        entry: The unit and its translation.
        allowed: Names of soft checks that a translator has overruled.

    Returns:
        What is wrong, each with the check's name.
    """
    return [
        f"[{name}] {fault}"
        for name, check in CHECKS.items()
        if name not in allowed & SOFT
        for fault in check(entry)
    ]
