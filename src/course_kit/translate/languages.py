"""The languages: each is a folder of i18n/, and says in `language.toml` what it is called."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Language", "add_language", "find_languages", "plural_forms"]

_PLURALS = "nplurals=2; plural=(n != 1);"


@dataclass(frozen=True)
class Language:
    """A language of the course.

    Attributes:
        code: Its name as a locale, which is its folder's: `fr`, `zh_CN`.
        folder: Where its catalogues and pages are.
        name: Its name in itself.
        direction: `ltr` or `rtl`.
    """

    code: str
    folder: Path
    name: str
    direction: str = "ltr"

    @property
    def tag(self) -> str:
        """The name as a web page has it: `zh-CN`."""
        return self.code.replace("_", "-")

    @property
    def is_cjk(self) -> bool:
        """Whether it is written without spaces between words."""
        return self.code.partition("_")[0] in {"zh", "ja"}

    def catalogue(self, domain: str) -> Path:
        """Return the file that a translator edits."""
        return self.folder / "LC_MESSAGES" / f"{domain}.po"


def find_languages(root: Path) -> list[Language]:
    """List the languages of a repository by their codes."""
    return [_read(path) for path in sorted(root.glob("i18n/*/language.toml"))]


def _read(path: Path) -> Language:
    facts = tomllib.loads(path.read_text(encoding="utf-8"))
    return Language(path.parent.name, path.parent, facts["name"], facts.get("direction", "ltr"))


def add_language(root: Path, code: str) -> Language:
    """Make a language's folder; what is there already stays.

    Args:
        root: The repository.
        code: The language as a locale, `de` or `pt_BR`.

    Returns:
        The language, known to Babel or not.

    Raises:
        ValueError: The code has not the form of a locale.
    """
    code = code.replace("-", "_")
    if not (code.replace("_", "").isalnum() and code.isascii()):
        raise ValueError(f"{code!r} is no language: write a code such as de or pt_BR.")
    path = root / "i18n" / code / "language.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        name, direction = _known(code)
        lines = ["# What the language is called in itself, and which way it is written."]
        lines += [f"name = {json.dumps(name, ensure_ascii=False)}", f'direction = "{direction}"']
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    glossary = path.with_name("glossary.tsv")
    if not glossary.exists():
        glossary.write_text("term\ttranslation\tpattern\tnote\n", encoding="utf-8", newline="\n")
    return _read(path)


def _known(code: str) -> tuple[str, str]:
    from babel import Locale, UnknownLocaleError

    try:
        locale = Locale.parse(code)
    except (UnknownLocaleError, ValueError):
        return code, "ltr"
    name = locale.get_display_name(code) or code
    return name[:1].upper() + name[1:], locale.text_direction


def plural_forms(code: str) -> str:
    """Return a language's rule for plurals as gettext writes it; English's if it is not known."""
    from babel import UnknownLocaleError
    from babel.messages.plurals import get_plural

    try:
        return str(get_plural(code).plural_forms)
    except (UnknownLocaleError, ValueError):
        return _PLURALS
