"""GNU gettext's own programs: they merge and check the catalogues."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["GettextMissingError", "gettext", "merge"]

_INSTALL = (
    "install GNU gettext: `sudo apt install gettext` (Debian, Ubuntu), `brew install gettext` "
    "(macOS), `choco install gettext` (Windows) or `conda install -c conda-forge gettext` (conda)"
)


class GettextMissingError(RuntimeError):
    """A program of GNU gettext is not on this machine; the message says how to get it."""


def gettext(program: str, *words: str | Path) -> str:
    """Run one of gettext's programs.

    Args:
        program: Its name.
        words: Its arguments.

    Returns:
        What it said.

    Raises:
        GettextMissingError: It is not installed.
        subprocess.CalledProcessError: It failed; `stderr` says why.
    """
    found = shutil.which(program)
    if found is None:
        raise GettextMissingError(f"{program} was not found; {_INSTALL}.")
    done = subprocess.run(
        [found, *map(str, words)], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return done.stdout + done.stderr


def merge(catalogue: Path, template: Path) -> None:
    """Merge a template into a catalogue; what the template no longer has is dropped.

    Args:
        catalogue: The file that a translator edits. A text that changed becomes fuzzy there, and
            keeps its old English beside it.
        template: The English texts of today.

    Raises:
        GettextMissingError: GNU gettext is not installed.
        subprocess.CalledProcessError: One of its programs failed.
    """
    gettext("msgmerge", "--quiet", "--update", "--backup=none", "--previous", "--no-wrap",
            catalogue, template)  # fmt: skip
    gettext("msgattrib", "--no-obsolete", "--no-wrap", "--output-file", catalogue, catalogue)
