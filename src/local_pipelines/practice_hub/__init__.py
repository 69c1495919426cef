"""A Hub on this machine to practise tokens, licences and downloads: no network, no account."""

from __future__ import annotations

from local_pipelines.practice_hub.faults import FaultKind
from local_pipelines.practice_hub.hub import PracticeHub
from local_pipelines.practice_hub.repositories import Repository
from local_pipelines.practice_hub.server import Request

__all__ = ["FaultKind", "PracticeHub", "Repository", "Request"]
