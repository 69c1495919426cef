"""Write constraints.txt: the exact versions that stand in an environment known to work.

Only what pyproject.toml asks for is listed, with all that this asks for in turn, on any system and
any supported Python, so that one file serves Linux, macOS and Windows.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

__all__ = ["freeze", "main"]

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
)
HEADER = """\
# The exact versions that `make` installs and CI tests; pyproject.toml says what is wanted and why.
# Written by `python -m course_kit freeze` from an environment in which the tests pass: do not edit.
"""


def freeze(prefix: str | Path = sys.prefix) -> str:
    """Return the text of constraints.txt for the environment at a folder.

    Args:
        prefix: The environment's folder, such as `.venv`; by default the running one.

    Returns:
        A header and one `name==version` a line, without local labels such as `+cpu`. An extra of
        which something is not installed there is left out, and the header says so.
    """
    installed = installed_distributions(Path(prefix))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted, left_out = requirements_of(project, installed)
    reached = closure(wanted, installed)
    pins = [
        f"{name}=={Version(installed[name].version).public}"
        for name in sorted(reached)
        if name in installed and name != canonicalize_name(project["name"])
    ]
    elsewhere = sorted(name for name in reached if name not in installed)
    notes = [("Extras left out, not installed here", left_out)]
    notes += [("Free, needed only on another system or Python", elsewhere)]
    return "\n".join([HEADER + comments(notes), *pins, ""])


def comments(notes: list[tuple[str, list[str]]]) -> str:
    """Return what the pins do not cover as wrapped comment lines."""
    lines = [f"{title}: {', '.join(names)}." for title, names in notes if names]
    return "".join(
        textwrap.fill(line, 99, initial_indent="# ", subsequent_indent="#   ") + "\n"
        for line in lines
    )


def installed_distributions(prefix: Path) -> dict[str, Distribution]:
    """Return the distributions in an environment by their normalised name."""
    folders = [*prefix.glob("lib/python*/site-packages"), prefix / "Lib" / "site-packages"]
    found = distributions(path=[str(folder) for folder in folders])
    return {canonicalize_name(each.metadata["Name"]): each for each in found}


def requirements_of(
    project: Mapping[str, Any], installed: Mapping[str, Distribution]
) -> tuple[list[Requirement], list[str]]:
    """Return what the project and its installed extras ask for, and the extras that are not."""
    wanted = [Requirement(text) for text in project["dependencies"]]
    left_out = []
    for extra, texts in project["optional-dependencies"].items():
        asked = [Requirement(text) for text in texts]
        asked = [each for each in asked if each.name != project["name"]]
        if all(canonicalize_name(each.name) in installed for each in asked):
            wanted += asked
        else:
            left_out.append(extra)
    return wanted, left_out


def closure(wanted: list[Requirement], installed: Mapping[str, Distribution]) -> set[str]:
    """Return the names of all that is reached from requirements, each with its extras."""
    reached: set[tuple[str, str]] = set()
    waiting = [pair for requirement in wanted for pair in names_and_extras(requirement)]
    while waiting:
        pair = waiting.pop()
        if pair in reached:
            continue
        reached.add(pair)
        name, extra = pair
        for text in installed[name].requires or [] if name in installed else []:
            requirement = Requirement(text)
            if applies(requirement, extra):
                waiting += names_and_extras(requirement)
    return {name for name, _ in reached}


def names_and_extras(requirement: Requirement) -> Iterator[tuple[str, str]]:
    """Yield the package alone, then the package with each extra asked for."""
    for extra in ["", *requirement.extras]:
        yield canonicalize_name(requirement.name), extra


def applies(requirement: Requirement, extra: str) -> bool:
    """Tell whether a requirement counts on any system and Python that the course supports."""
    if requirement.marker is None:
        return not extra
    environments = (
        {**system, "python_version": python, "python_full_version": f"{python}.0", "extra": extra}
        for system in SYSTEMS
        for python in PYTHONS
    )
    return any(requirement.marker.evaluate(environment) for environment in environments)


def main(argv: list[str]) -> int:
    """Write constraints.txt from an environment."""
    parser = argparse.ArgumentParser(prog="course_kit freeze", description=main.__doc__)
    parser.add_argument("prefix", nargs="?", default=sys.prefix, help="the environment's folder")
    arguments = parser.parse_args(argv)
    text = freeze(arguments.prefix)
    (ROOT / "constraints.txt").write_text(text, encoding="utf-8", newline="\n")
    print(f"constraints.txt: {text.count('==')} packages")
    return 0
