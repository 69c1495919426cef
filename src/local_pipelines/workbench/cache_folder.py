"""The folder in which the Hub's client keeps models, wherever the learner wants it.

Nothing here imports `huggingface_hub`: it reads the variables that are set here once, and never
again.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from local_pipelines.wording.messages import tr
from local_pipelines.wording.sentences import told
from local_pipelines.workbench.addresses import without_home
from local_pipelines.workbench.settings import expanded_path, hub_is_offline, set_variable

_PATHS = ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN_PATH")
# What huggingface_hub.constants takes over: one without its prefix, HF_ENDPOINT.
_FROZEN = (*_PATHS, "HF_ENDPOINT", "HF_HUB_OFFLINE")


def cache_home() -> Path:
    """Say where the client keeps models and token (`huggingface_hub.constants.HF_HOME`)."""
    if home := os.environ.get("HF_HOME"):
        return expanded_path(home)
    return expanded_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"


def hf_home() -> Path:
    """Say where the client keeps models: it reads the variable once, when it is imported."""
    client = sys.modules.get("huggingface_hub.constants")
    return Path(client.HF_HOME) if client else cache_home()


def make_paths_absolute(env_file: Path | None, from_file: set[str]) -> None:
    """Make the paths mean the same in every notebook, wherever it lies."""
    for name in _PATHS:
        if value := os.environ.get(name):
            base = env_file.parent if env_file and name in from_file else Path.cwd()
            absolute = os.path.abspath(base / expanded_path(value))  # noqa: PTH100 - resolve() would follow links
            if absolute != value:
                set_variable(name, absolute)


def place_cache(notes: list[str]) -> Path:
    """Create the folder for models and give it back; a note says if none can be kept there.

    That is no error: the model that comes with the course needs no folder.
    """
    home = cache_home()
    for folder, name in ((home, "HF_HOME"), (os.environ.get("HF_HUB_CACHE"), "HF_HUB_CACHE")):
        if folder and (fault := _cannot_write(Path(folder))):
            notes.append(_cache_note(Path(folder), name, fault))
            break
    return home


def _cache_note(folder: Path, name: str, fault: str) -> str:
    shown = without_home(str(folder))
    if hub_is_offline() and _is_folder(folder):
        return told("cache-only-read", folder=shown)
    reason = "no-cache-there" if name in os.environ else "no-cache-by-default"
    return told(reason, folder=shown, fault=fault, name=name)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # it lies in a folder that may not be looked into
        return False


def _cannot_write(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except FileExistsError:
        return tr("there is a file of that name")
    except OSError as error:
        return (error.strerror or tr("it cannot be used")).lower()


def frozen_variables() -> list[str]:
    """A note for each variable that the Hub's client no longer sees, as it was imported before."""
    client = sys.modules.get("huggingface_hub.constants")
    spec = importlib.util.find_spec("huggingface_hub.constants") if client else None
    if spec is None or spec.loader is None:
        return []
    # The client's own code, run once more on a copy, says what it would make of the environment.
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    late = [name for name in _FROZEN if _constant(client, name) != _constant(fresh, name)]
    if "HF_HOME" in late:  # the others that hang on it say nothing new
        late = [name for name in late if name not in _PATHS[1:]]
    return [told("changed-too-late", name=name) for name in late]


def _constant(client: object, variable: str) -> object:
    value = getattr(client, variable.replace("HF_ENDPOINT", "ENDPOINT"), None)
    if isinstance(value, str) and "://" not in value:
        return os.path.abspath(value)  # noqa: PTH100 - resolve() would follow links
    return value
