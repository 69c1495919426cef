"""Which versions of the packages below the course were tried, and what to say about others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import NamedTuple

from packaging.version import Version

from local_pipelines.errors import LocalPipelinesError, failure


class Tried(NamedTuple):
    """The oldest and the newest version that answered every question of the tests."""

    oldest: str  # the lower bound in pyproject.toml; anything older is refused
    newest: str  # a newer one is used, and blamed only where it fails


# Tried by tests/wheel/test_versions_of_packages.py and .github/workflows/versions.yml.
TRIED = {
    "accelerate": Tried("1.0", "1.15.0"),
    "huggingface_hub": Tried("1.3", "1.33.0"),
    "langchain-core": Tried("1.2.11", "1.7.2"),
    "langchain-huggingface": Tried("1.2.1", "1.2.3"),
    "safetensors": Tried("0.4.5", "0.8.0"),
    "torch": Tried("2.4", "2.15.0"),
    "transformers": Tried("5.0", "5.23.0"),
}

# How a package breaks a promise that its users relied on: a name, an argument or a module went.
_BROKEN_PROMISES = (AttributeError, ImportError, TypeError, NotImplementedError)


def check_versions(*names: str) -> None:
    """Refuse a package of `TRIED` that is too old; one that is absent passes: its import says more.

    Raises:
        MissingPackageError: One is too old; the sentence names it and the command that helps.
    """
    for name in names:
        version, oldest = installed_version(name), TRIED[name].oldest
        if version is not None and Version(version) < Version(oldest):
            raise failure("package-too-old", name=name, version=version, oldest=oldest)


@contextmanager
def explained_by_version(*names: str) -> Iterator[None]:
    """Name the package of `TRIED` behind an error that only a version newer than tried explains.

    Raises:
        MissingPackageError: In place of a raw error, where one of `names` is newer than tried.
    """
    try:
        yield
    except LocalPipelinesError:
        raise
    except _BROKEN_PROMISES as error:
        newer = [
            name
            for name in names
            if (found := installed_version(name)) and Version(found) > Version(TRIED[name].newest)
        ]
        if not newer:
            raise
        raise _broken(newer, error) from error


def installed_version(name: str) -> str | None:
    """Read a package's version from its metadata, without importing it; None if it is absent."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _broken(names: list[str], error: Exception) -> LocalPipelinesError:
    found = ", ".join(f"{name} {installed_version(name)}" for name in names)
    tried = " ".join(f'"{name}<={TRIED[name].newest}"' for name in names)
    said = f"{type(error).__name__}: {error}"
    return failure("package-too-new", found=found, error=said, tried=tried)
