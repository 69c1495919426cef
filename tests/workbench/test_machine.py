"""What the disks say."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_pipelines.workbench.machine import disk_free, sha256_of


def test_the_room_is_that_of_the_disk_a_new_folder_would_lie_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest folder that is there is asked."""
    asked: list[Path] = []

    def usage(folder: Path) -> Any:
        asked.append(folder)
        if folder != tmp_path:
            raise FileNotFoundError
        return SimpleNamespace(free=5)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert disk_free(tmp_path / "new" / "folder") == 5
    assert asked[-1] == tmp_path


def test_a_drive_that_is_not_there_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even the root answers, nothing is known, and nothing is raised."""

    def usage(folder: Path) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert disk_free(Path("Z:/models")) is None


def test_the_sum_of_a_file_is_sha256(tmp_path: Path) -> None:
    """It is what other tools tell for the same bytes."""
    (tmp_path / "file").write_bytes(b"bytes")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"bytes").hexdigest()


@pytest.mark.parametrize(
    "variables",
    [
        {"HF_HOME": "$SCRATCH/hf", "SCRATCH": "/scratch"},
        {"HF_HOME": "~/hf"},
        {"HF_HOME": "hf"},
        {"XDG_CACHE_HOME": "/cache"},
        {},
    ],
)
def test_models_are_kept_where_the_client_keeps_them(
    run_python: Callable[..., str], variables: dict[str, str]
) -> None:
    """Variables and `~` are expanded as it does, before it is imported and after."""
    printed = run_python(
        "import os; [os.environ.pop(name, None) for name in ('HF_HOME', 'XDG_CACHE_HOME')]\n"
        f"os.environ |= {variables!r}\n"
        "from local_pipelines.workbench.cache_folder import hf_home; print(hf_home())\n"
        "from huggingface_hub import constants; print(constants.HF_HOME); print(hf_home())"
    )
    assert len(set(printed.split())) == 1
