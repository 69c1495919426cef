"""`course_kit check`: what every notebook must be, English and translated.

A rule gets a `Page` and yields a `Finding` for each place where the notebook breaks it. The rules
in `OUTPUT_RULES` are about what a run leaves behind, those in `SOURCE_RULES` about what an author
writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from course_kit.notebooks.output_rules import OUTPUT_RULES
from course_kit.notebooks.page import Finding, Page, Rule
from course_kit.notebooks.pages import find_all_lessons, find_root, read_as_stored
from course_kit.notebooks.source_rules import SOURCE_RULES

__all__ = ["check", "find_faults", "main"]


def find_faults(page: Page, rules: Sequence[Rule] = OUTPUT_RULES + SOURCE_RULES) -> list[Finding]:
    """Check one notebook.

    Args:
        page: The notebook.
        rules: The rules to check; all by default.

    Returns:
        What breaks them, rule by rule.
    """
    return [finding for rule in rules for finding in rule(page)]


def check(path: Path, root: Path) -> list[Finding]:
    """Read one notebook and check it against all rules.

    Args:
        path: The notebook.
        root: The repository it belongs to.

    Returns:
        What breaks them; a file that is no notebook is a finding too.
    """
    path, root = path.resolve(), root.resolve()
    if not path.is_relative_to(root):
        return [Finding(path.name, None, f"It is outside the repository {root.name}.")]
    private = tuple(str(folder) for folder in (root, Path.home()) if len(folder.parts) > 1)
    try:
        return find_faults(Page(path, root, read_as_stored(path), private))
    except (OSError, ValueError) as error:
        return [Finding(path.name, None, str(error))]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the findings, one a line.

    Args:
        argv: The command's words.

    Returns:
        0 where there are none, 1 where there are some, 2 where there is no notebook.
    """
    parser = argparse.ArgumentParser(
        prog="course_kit check", description="Check notebooks against the hygiene rules."
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of every language by default")
    root = find_root()
    lessons = parser.parse_args(argv).notebooks or find_all_lessons(root)
    if not lessons:
        print(f"There is no notebook in {root / 'notebooks'}.", file=sys.stderr)
        return 2
    findings = [finding for lesson in lessons for finding in check(lesson, root)]
    for finding in findings:
        print(finding)
    print(f"{len(lessons)} notebooks, {len(findings) or 'no'} findings.")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
