"""`course_kit translations`: extract, update, build, check, stat, preview, add.

The pages of the course and the messages of the package are translated alike.

Without a word it does the first three, then shows the table: that is `make translations`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from course_kit.notebooks.pages import find_root
from course_kit.translate import messages
from course_kit.translate.build import build
from course_kit.translate.catalogue import extract, update
from course_kit.translate.checks import check
from course_kit.translate.gettext import GettextMissingError
from course_kit.translate.language_line import language_line
from course_kit.translate.languages import add_language, find_languages
from course_kit.translate.page import build_page
from course_kit.translate.progress import progress
from course_kit.translate.sources import find_sources
from course_kit.translate.stat import format_orphans, format_table, needs_run, overview

__all__ = ["main"]


def _extract(root: Path, names: Sequence[str]) -> int:
    print(f"{len(extract(root))} templates are in i18n/templates.")
    messages.extract(root)
    return 0


def _update(root: Path, names: Sequence[str]) -> int:
    update(root, names)
    messages.update(root)
    print("The catalogues of the pages and of the package are up to date.")
    return 0


def _build(root: Path, names: Sequence[str]) -> int:
    states = build(root, names)
    left = [s for s in states if needs_run(s) and (not names or s.language.code in names)]
    print(f"{sum(state.page.is_file() for state in states)} pages are built.")
    if left:
        words = " ".join(f"{s.language.code}/{s.source.path.stem[:2]}" for s in left)
        print(f"To execute: python -m course_kit execute {words}")
    return 0


def _check(root: Path, names: Sequence[str]) -> int:
    faults = [*check(root, tuple(names)), *messages.faults(root, names)]
    for fault in faults:
        print(fault)
    print(f"{len(find_languages(root))} languages, {len(faults) or 'no'} faults.")
    return int(bool(faults))


def _stat(root: Path, names: Sequence[str]) -> int:
    states = overview(root)
    shown = [s for s in states if not names or s.language.code in names]
    print(format_table(shown) + messages.format_messages(root) + format_orphans(root))
    return 0


def _preview(root: Path, names: Sequence[str]) -> int:
    """Build a language's pages, however little is translated, and open them in JupyterLab."""
    languages = [one for one in find_languages(root) if one.code in names[:1]]
    if not languages:
        there = ", ".join(one.code for one in find_languages(root)) or "none"
        print(f"Name a language: course_kit translations preview LANG; there are: {there}.",
              file=sys.stderr)  # fmt: skip
        return 2
    folder = root / "build" / f"preview-{languages[0].code}"
    states = [progress(languages[0], source) for source in find_sources(root)]
    pages = {state.source.place for state in states}
    for state in states:
        build_page(state, pages, folder / state.source.place, language_line(state, states))
    print(f"The pages are in {folder.relative_to(root).as_posix()}.")
    if "--no-open" in names:
        return 0
    return subprocess.call([sys.executable, "-m", "jupyter", "lab", str(folder / "notebooks")])


def _add(root: Path, names: Sequence[str]) -> int:
    for name in names:
        language = add_language(root, name)
        print(
            f"{language.name}: edit i18n/{language.code}/LC_MESSAGES/*.po and glossary.tsv there."
        )
    _extract(root, [])
    update(root)
    messages.update(root, [one.code for one in find_languages(root)])
    return 0 if names else 2


ACTIONS: dict[str, tuple[Callable[[Path, Sequence[str]], int], str]] = {
    "extract": (_extract, "collect the English texts of pages and package"),
    "update": (_update, "merge them into the catalogues of all languages"),
    "build": (_build, "write the translated pages"),
    "check": (_check, "look for everything that may not land"),
    "stat": (_stat, "show how much each language has"),
    "preview": (_preview, "open a language's pages in JupyterLab, finished or not"),
    "add": (_add, "begin a language: add de"),
}


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<9}{line}" for name, (_, line) in ACTIONS.items())
    parser = argparse.ArgumentParser(
        prog="course_kit translations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"actions:\n{lines}",
    )
    parser.add_argument("action", nargs="?", choices=ACTIONS, metavar="ACTION")
    parser.add_argument("languages", nargs="*", help="codes such as fr; all by default")
    parser.add_argument("--timing", action="store_true", help="say how long each step took")
    parser.add_argument("--no-open", action="store_true", help="with preview: only write the pages")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one action, or all that bring the pages up to date.

    Args:
        argv: The command's words.

    Returns:
        0 where all is well, 1 where a check found faults, 2 for a wrong call.
    """
    options = _parser().parse_args(argv)
    names = [*options.languages, *(["--no-open"] if options.no_open else [])]
    steps = [options.action] if options.action else ["extract", "update", "build", "stat"]
    root, status = find_root(), 0
    try:
        for step in steps:
            start = time.monotonic()
            status = max(status, ACTIONS[step][0](root, names))
            if options.timing:
                print(f"{step}: {time.monotonic() - start:.1f} s")
    except (GettextMissingError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"{error.cmd[0]} failed: {error.stderr}", file=sys.stderr)
        return 1
    return status
