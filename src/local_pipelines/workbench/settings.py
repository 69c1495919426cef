"""Settings: this process's environment variables, and the `.env` that fills their gaps.

Every change is remembered, so that running a notebook's first cell again starts from the learner's
own environment: otherwise an edited `.env` would lose against what the first run took from it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from local_pipelines.errors import failure
from local_pipelines.wording.messages import tr
from local_pipelines.wording.sentences import told
from local_pipelines.workbench.addresses import shown_address, without_home

# An empty one is worse than none: it keeps .env's from being read, or is taken for a real path.
_EMPTY_IS_UNSET = ("HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_ENDPOINT")
_TRUE = {"1", "ON", "YES", "TRUE"}  # the words that huggingface_hub takes for true
DEFAULT_HUB = "https://huggingface.co"

# Each variable's value before and after.
_changes: dict[str, tuple[str | None, str | None]] = {}


def set_variable(name: str, value: str | None) -> None:
    """Set an environment variable, or take it away with `None`, so that it can be restored."""
    before = _changes[name][0] if name in _changes else os.environ.get(name)
    _changes[name] = (before, value)
    assign_variable(name, value)


def assign_variable(name: str, value: str | None) -> None:
    """Set an environment variable, or take it away with `None`."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def restore_variables() -> None:
    """Take back what `set_variable` changed, except what was changed by hand since."""
    for name, (before, after) in _changes.items():
        if os.environ.get(name) == after:
            assign_variable(name, before)
    _changes.clear()


def drop_empty_variables() -> None:
    """Take away the variables that do harm when they are empty."""
    for name in _EMPTY_IS_UNSET:
        if name in os.environ and not os.environ[name].strip():
            set_variable(name, None)


def expanded_path(path: str) -> Path:
    """Read a path as the Hub's client does: with `$VARIABLE` and `~`."""
    return Path(os.path.expandvars(path)).expanduser()


def hub_is_offline() -> bool:
    """Say whether the Hub's client is switched to offline mode.

    The client goes by its frozen setting once it is imported, before by the environment.
    """
    client = sys.modules.get("huggingface_hub.constants")
    if client is not None:
        return bool(client.HF_HUB_OFFLINE)
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


def hub_address() -> str:
    """Say which Hub the client asks, without a password in its address."""
    client = sys.modules.get("huggingface_hub.constants")
    address = client.ENDPOINT if client else os.environ.get("HF_ENDPOINT", DEFAULT_HUB)
    return shown_address(str(address).rstrip("/"))


def find_env_file(notes: list[str] | None = None) -> Path | None:
    """Find the nearest `.env` upward, unless python-dotenv's own switch turns it off.

    A file that belongs to another user is passed over, with a note, as git does with its settings:
    in a folder that many can write to, anybody could send our token to a Hub of their own.
    """
    for path in _env_files():
        if _is_trusted(path):
            return path
        if notes is not None:
            notes.append(told("settings-of-another-user", file=shown_path(path)))
    return None


def _env_files() -> Iterator[Path]:
    if os.environ.get("PYTHON_DOTENV_DISABLED", "").casefold() in {"1", "true", "t", "yes", "y"}:
        return
    folder = Path.cwd()
    for path in (parent / ".env" for parent in (folder, *folder.parents)):
        # Some name their virtual environment .env: that is none of ours.
        if os.path.exists(path) and not os.path.exists(path / "pyvenv.cfg"):  # noqa: PTH110 - never raises
            yield path


def _is_trusted(path: Path) -> bool:
    """Whether a file is ours, the system's, or of whoever owns the folder that we work in.

    The last is for containers: there we are root, and the course's folder is of a user outside.
    """
    if not hasattr(os, "geteuid"):
        return True  # Windows has no owners by number
    return _owner(path) in {os.geteuid(), 0, _owner(Path.cwd())}


def _owner(path: Path) -> int:
    return path.stat().st_uid


def load_env_file(path: Path, notes: list[str]) -> set[str]:
    """Put a settings file's values into the environment where they are unset.

    Args:
        path: The file.
        notes: Where a sentence about lines that do not count is added.

    Returns:
        The names that were taken from the file.

    Raises:
        EnvironmentFileError: If the file cannot be read.
    """
    from dotenv.main import DotEnv
    from dotenv.parser import parse_stream

    lines = list(parse_stream(io.StringIO(_read(path))))
    if broken := [str(line.original.line) for line in lines if line.error]:
        numbers = ", ".join(broken)
        notes.append(told("lines-not-understood", file=shown_path(path), numbers=numbers))
    good = "".join(line.original.string for line in lines if not line.error)
    values = DotEnv(None, stream=io.StringIO(good), override=False).dict()
    filled = {name: value for name, value in values.items() if value}
    taken = {name for name in filled if name not in os.environ}
    if shadowed := [n for n, v in filled.items() if n not in taken and os.environ[n] != v]:
        names = ", ".join(shadowed)
        notes.append(told("settings-shadowed", file=shown_path(path), names=names))
    for name in taken:
        set_variable(name, filled[name])
    return taken


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
        reason = tr("it is not text") if "\0" in text else ""
    except FileNotFoundError:
        raise failure("no-settings-file", path=shown_path(path)) from None
    except UnicodeDecodeError:
        reason = tr("it is not UTF-8 text")
    except OSError as error:
        reason = (error.strerror or tr("it cannot be opened")).lower()
    if not reason:
        return text
    # Raised outside the handlers: a decoding error carries the file's content, token included.
    raise failure("settings-unreadable", path=shown_path(path), reason=reason)


def shown_path(path: Path) -> str:
    """Name a settings file as seen from here, which tells little about the machine."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    here = Path.cwd()
    if absolute.is_relative_to(here) or absolute.parent in here.parents:
        return os.path.relpath(absolute, here)
    return without_home(str(absolute))
