"""Importing the package is quick, because nothing heavy comes along."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

import local_pipelines

HEAVY = {"torch", "transformers", "huggingface_hub", "langchain_core", "IPython", "matplotlib"}


def _modules_after(run_python: Callable[..., str], statement: str) -> set[str]:
    return set(run_python(f"{statement}\nimport sys\nprint(*sys.modules)").split())


def test_importing_the_package_loads_next_to_nothing(run_python: Callable[..., str]) -> None:
    """Importing the package loads itself and a few modules of the standard library."""
    before = _modules_after(run_python, "")
    added = _modules_after(run_python, "import local_pipelines") - before
    assert not added & HEAVY
    assert {name for name in added if name.startswith("local_pipelines")} == {"local_pipelines"}
    assert len(added) < 40


def test_the_public_names_load_no_framework(run_python: Callable[..., str]) -> None:
    """Looking up all public names imports neither torch nor anything that freezes HF_HOME."""
    loaded = _modules_after(run_python, "from local_pipelines import *")
    assert "local_pipelines.workbench.environment" in loaded
    # LocalPipeline and LocalChat are classes of LangChain's, so its core comes with them.
    assert not loaded & (HEAVY - {"langchain_core"})


def test_every_public_name_exists() -> None:
    """Each name in `__all__` can be looked up."""
    for name in local_pipelines.__all__:
        assert getattr(local_pipelines, name) is not None


def test_tab_completion_offers_the_public_names_alone() -> None:
    """A learner who presses Tab sees what the course teaches, and no helper of the package's."""
    assert dir(local_pipelines) == sorted(local_pipelines.__all__)


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    """A slip of the pen costs no search in the documentation."""
    with pytest.raises(AttributeError, match="Did you mean 'load_llm'"):
        local_pipelines.load_lm  # noqa: B018 - it is looked up, which is enough


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that the package does not have is reported as Python does."""
    assert not hasattr(local_pipelines, "no_such_name")


def test_the_import_time_is_shown(run_python: Callable[..., str]) -> None:
    """The import's time is measured and printed (`pytest -rP`); a busy machine fails nothing."""
    code = (
        "import time; start = time.perf_counter(); import local_pipelines; "
        "print(time.perf_counter() - start)"
    )
    seconds = [float(run_python(code)) for _ in range(5)]
    print(f"import local_pipelines: {1000 * statistics.median(seconds):.1f} ms (median of 5)")
