"""Each row of lesson 0's table "If it fails" is what really happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_ends import rows, shows

from local_pipelines import select_device, setup_environment
from local_pipelines.errors import DeviceError, EnvironmentFileError
from local_pipelines.workbench import packages
from local_pipelines.workbench.cache_folder import frozen_variables, place_cache

Provoke = Callable[[pytest.MonkeyPatch, Path], str]


def another_python(patch: pytest.MonkeyPatch, folder: Path) -> str:
    """Import the course where it is not installed."""
    words = [sys.executable, "-I", "-S", "-c", "import local_pipelines"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False).stderr


def too_late(patch: pytest.MonkeyPatch, folder: Path) -> str:
    """Choose the folder of models after the client was imported."""
    import huggingface_hub.constants  # noqa: F401

    patch.setenv("HF_HOME", str(folder))
    return "a note: " + " ".join(frozen_variables())


def no_folder(patch: pytest.MonkeyPatch, folder: Path) -> str:
    """Put a file where models should go."""
    (folder / "models").write_text("")
    patch.setenv("HF_HOME", str(folder / "models"))
    notes: list[str] = []
    place_cache(notes)
    return " ".join(notes)


def broken_settings(patch: pytest.MonkeyPatch, folder: Path) -> str:
    """Read a settings file that is no text."""
    (folder / ".env").write_bytes(b"\xff\x00")
    with pytest.raises(EnvironmentFileError) as caught:
        setup_environment(env_file=folder / ".env")
    return caught.typename


def other_torchvision(patch: pytest.MonkeyPatch, folder: Path) -> str:
    """Have a torchvision for GPUs beside a torch for the CPU."""
    versions = {"torch": "2.13.0+cpu", "torchvision": "0.28.0+cu130"}
    patch.setattr(packages, "installed_version", versions.get)
    patch.setattr(packages.platform, "system", lambda: "Linux")
    return packages.torchvision_fault()


def no_gpu(patch: pytest.MonkeyPatch, folder: Path) -> str:
    """Ask for a GPU where there is none."""
    import torch

    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError) as caught:
        select_device("cuda")
    return f"{caught.typename}: {caught.value}"


PROVOKED = (another_python, too_late, no_folder, broken_settings, other_torchvision, no_gpu)


@pytest.mark.parametrize(
    ("row", "provoke"),
    zip(rows("00"), PROVOKED, strict=True),
    ids=lambda part: getattr(part, "__name__", str(part)[:40]),
)
def test_row_is_what_happens(
    row: str, provoke: Provoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a row quotes is in the message that the fault gives."""
    message = provoke(monkeypatch, tmp_path)
    assert shows(row, message), message
