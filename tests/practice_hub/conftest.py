"""A practice Hub for each test, with a client that does not wait long."""

from __future__ import annotations

from collections.abc import Iterator

import huggingface_hub.constants
import pytest

from local_pipelines.models import access, download
from local_pipelines.practice_hub import PracticeHub


@pytest.fixture
def hub() -> Iterator[PracticeHub]:
    """A practice Hub that the client in this process asks."""
    with PracticeHub() as hub:
        yield hub


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let us pause for tenths of a second between two tries, where learners wait for seconds."""
    # The client writes 10 MB at a time: what it can keep of a broken file shows in larger files.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr(access, "PAUSES", (0.1, 0.1))
    monkeypatch.setattr(download, "PAUSES", (0.1, 0.1, 0.1))


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client and us give up after a second, for tests in which nothing comes.

    All others keep the real limits: on a busy machine an answer may take a second.
    """
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(access, "PATIENCE", 1.0)
    monkeypatch.setattr(download, "STANDSTILL", 1.0)
