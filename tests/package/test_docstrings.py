"""The examples in the package's docstrings are run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import local_pipelines

ROOT = Path(local_pipelines.__file__).parent


def modules_with_examples() -> list[str]:
    files = [file for file in ROOT.glob("**/*.py") if ">>> " in file.read_text(encoding="utf-8")]
    return sorted(".".join(file.relative_to(ROOT.parent).with_suffix("").parts) for file in files)


@pytest.mark.parametrize("module", modules_with_examples())
def test_the_examples_of_a_module_give_what_they_show(module: str) -> None:
    """Each example in a docstring shows what the function gives back today."""
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted
    assert not found.failed


def test_there_are_examples() -> None:
    """An example says quicker than a sentence what a small function does."""
    assert modules_with_examples()
