"""Checks in which direction the wings of local_pipelines import each other.

The contract stands in pyproject.toml, below `tool.importlinter`; docs/architecture.md draws it.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> int:
    """Let import-linter check the contract, and say what breaks it.

    Returns:
        0 where nothing does.
    """
    from importlinter.cli import lint_imports

    return int(lint_imports(no_cache=True, no_logo=True))


if __name__ == "__main__":
    raise SystemExit(main())
