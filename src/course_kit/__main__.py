"""`python -m course_kit`: one command for everything that a maintainer runs."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence

# Each sub-command is a module with a `main(argv) -> int`, imported only when it is asked for.
COMMANDS = {
    "run": (
        "course_kit.notebooks.run",
        "run the notebooks into build/run/, with other parameters if asked",
    ),
    "execute": (
        "course_kit.notebooks.execute",
        "run the notebooks in place and store clean outputs",
    ),
    "check": (
        "course_kit.notebooks.check",
        "check every notebook against the course's hygiene rules",
    ),
    "new": ("course_kit.new", "begin an exercise, or put a lesson's exercises into its notebook"),
    "train": ("course_kit.pocket_model.train", "train the pocket model"),
    "table": ("course_kit.pocket_model.table", "show the pocket model's exact-answer table"),
    "translations": (
        "course_kit.translate.cli",
        "bring pages and messages up to date in all languages, check and count them",
    ),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="course_kit",
        description=sys.modules[__name__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:<14}{line}" for name, (_, line) in COMMANDS.items())
        + "\n\n`course_kit COMMAND -h` explains one of them.",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after the program's name; those of this process by default.

    Returns:
        The exit status: 0 where all went well.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a narrow console shows `?` instead of failing
            stream.reconfigure(errors="replace")
    choice = _parser().parse_args(argv)
    try:
        command = importlib.import_module(COMMANDS[choice.command][0])
        return int(command.main(choice.arguments) or 0)
    except ModuleNotFoundError as error:
        print(
            f"`course_kit {choice.command}` needs the package {error.name}, which is not installed:"
            ' `make install` installs what a maintainer needs, `pip install -e ".[lab,test]"` too.',
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
