"""A version that is too old or breaks a promise is named in one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from local_pipelines.errors import MissingPackageError, ModelError
from local_pipelines.workbench import versions
from local_pipelines.workbench.versions import TRIED, check_versions, explained_by_version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend that every package has the version in this list."""
    told = ["5.23.0"]
    monkeypatch.setattr(versions, "installed_version", lambda name: told[0])
    return told


def test_the_oldest_versions_are_those_that_pip_is_told() -> None:
    """What the package refuses is what pyproject.toml excludes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [Requirement(line) for line in project["dependencies"]]
    bounds = {need.name: str(need.specifier).removeprefix(">=") for need in needs}
    assert {name: bounds[name] for name in TRIED} == {n: t.oldest for n, t in TRIED.items()}


def test_the_pinned_versions_are_among_those_tried() -> None:
    """constraints.txt names no version outside the range that is said to have been tried."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split(" ")[0].split("==") for line in lines if "==" in line)
    names = {name.lower().replace("_", "-"): name for name in TRIED}
    for name, tried in ((names[key], TRIED[names[key]]) for key in names):
        version = Version(pinned.get(name) or pinned[name.replace("_", "-")])
        assert Version(tried.oldest) <= version <= Version(tried.newest), name


def test_an_old_version_is_refused_by_name(version: list[str]) -> None:
    """A package older than the lower bound is told with the command that helps."""
    version[0] = "4.30.0"
    with pytest.raises(MissingPackageError, match=r"transformers 4\.30\.0 is too old") as refused:
        check_versions("transformers")
    assert "pip install --upgrade transformers" in refused.value.next_step


@pytest.mark.parametrize("error", [AttributeError("x"), TypeError("x"), ImportError("x")])
def test_a_newer_version_is_blamed_for_what_it_broke(version: list[str], error: Exception) -> None:
    """A raw error below a version nobody tried becomes a sentence that names the version."""
    version[0] = "99.0"
    blamed = pytest.raises(MissingPackageError, match=r"transformers 99\.0")
    with blamed as told, explained_by_version("transformers"):
        raise error
    assert told.value.__cause__ is error


def test_a_version_that_was_tried_is_not_blamed(version: list[str]) -> None:
    """With a known version the error stays what it is: the fault is ours, or the caller's."""
    with pytest.raises(AttributeError), explained_by_version("transformers"):
        raise AttributeError("x")


def test_a_sentence_of_the_course_stays_as_it_is(version: list[str]) -> None:
    """An error of the family says already what to do."""
    version[0] = "99.0"
    with pytest.raises(ModelError), explained_by_version("transformers"):
        raise ModelError("fact")
