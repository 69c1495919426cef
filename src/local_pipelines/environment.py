"""Sets the stage for a notebook: `.env`, cache folder, token, tracing; and reports what is there.

It has to run before anything imports `huggingface_hub`, which reads its environment variables
once and never again.
"""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from local_pipelines._columns import columns, fold, html_table
from local_pipelines._messages import CHOICE, available_languages, find_language, tr
from local_pipelines.credentials import clean_token, find_env_file, find_token, hub_is_offline
from local_pipelines.errors import (
    CacheError,
    CredentialError,
    EnvironmentFileError,
    ParameterError,
    _paragraph,
)
from local_pipelines.packages import (
    NEEDED,
    OPTIONAL,
    install_packages,
    installed_versions,
    torchvision_fault,
    unmet_requirements,
    without_home,
)

if TYPE_CHECKING:
    from local_pipelines.devices import Device

__all__ = ["Environment", "install_packages", "setup_environment"]

# Set unless the learner's own environment or .env says otherwise.
_DEFAULTS = {
    # Nothing about what a learner runs is sent anywhere.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # transformers would report each model without safetensors, token included, to a service that
    # converts it.
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    # transformers' pipelines set this on their first list; set before, no `!command` in a cell
    # makes the tokenizers warn that the process was forked.
    "TOKENIZERS_PARALLELISM": "false",
    # No wall of advice above the answers. Errors still show, and so do Python's own warnings.
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
}
# An empty one is worse than none: it keeps .env's from being read, or is taken for a real path.
_EMPTY_IS_UNSET = ("HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_ENDPOINT")
_PATHS = ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN_PATH")
# What huggingface_hub.constants calls them, and the variables that they come from.
_FROZEN = {
    "HF_HOME": "HF_HOME",
    "HF_HUB_CACHE": "HF_HUB_CACHE",
    "HF_TOKEN_PATH": "HF_TOKEN_PATH",
    "ENDPOINT": "HF_ENDPOINT",
    "HF_HUB_OFFLINE": "HF_HUB_OFFLINE",
}
# In the order in which langsmith.utils.tracing_is_enabled looks at them.
_TRACING = (
    "LANGSMITH_TRACING_V2",
    "LANGCHAIN_TRACING_V2",
    "LANGSMITH_TRACING",
    "LANGCHAIN_TRACING",
)
_LINE = 88  # characters in a line of the plain report


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What `setup_environment` found; in a notebook it shows as a table.

    Args:
        python: Python's version.
        platform: System and processor family, such as `Linux x86_64`.
        cpu_cores: How many cores this process may use.
        ram_total: RAM in bytes; in a container, what the container may take.
        ram_free: Free RAM in bytes.
        hf_home: The folder in which the Hub's client keeps models and token.
        disk_free: Free bytes on the disk with the downloaded models.
        packages: For each package of the course its version, or `None`.
        env_file: The `.env` that was read, or `None`.
        token: Where a token was found, or `None`; never the token.
        online: Whether models may be downloaded.
        tracing: Whether LangChain sends prompts and answers to LangSmith.
        notes: What the learner should know or do, one or two sentences each.
        language: The language of the notebook, or `None`.
    """

    python: str
    platform: str
    cpu_cores: int
    ram_total: int
    ram_free: int
    hf_home: Path
    disk_free: int
    packages: dict[str, str | None]
    env_file: Path | None
    token: str | None
    online: str
    tracing: str
    notes: tuple[str, ...] = ()
    language: str | None = None

    @cached_property
    def device(self) -> Device:
        """The device that models will run on; asking for it imports torch, about two seconds.

        Raises:
            DeviceError: If no device can be selected.
        """
        from local_pipelines.devices import select_device

        return select_device()

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (
                "Python",
                tr("{version} on {system}").format(version=self.python, system=self.platform),
            ),
            (
                tr("Memory"),
                tr("{free} of {total} RAM free").format(
                    free=_gigabytes(self.ram_free), total=_gigabytes(self.ram_total)
                ),
            ),
            (tr("Disk"), tr("{free} free for models").format(free=_gigabytes(self.disk_free))),
            (tr("Cores"), str(self.cpu_cores)),
            (tr("Device"), self._device_line()),
            (tr("Packages"), ", ".join(f"{name} {v}" for name, v in self.packages.items() if v)),
            (tr("Not installed"), self._missing_line()),
            (tr("Settings"), _shown_env_file(self.env_file)),
            (tr("Models in"), f"{without_home(str(self.hf_home))} (HF_HOME)"),
            (tr("Token"), self._token_line()),
            ("Hub", self.online),
            (tr("Tracing"), self.tracing),
            (tr("Language"), self.language or ""),
            *((tr("Note"), note) for note in self.notes),
        ]
        return [row for row in rows if row[1]]

    def _token_line(self) -> str:
        if not self.token:
            return tr("none; only gated models need one")
        return tr("found: {source}").format(source=self.token)

    def _missing_line(self) -> str:
        missing = [name for name, version in self.packages.items() if not version]
        extras = sorted({OPTIONAL[name] for name in missing if name in OPTIONAL})
        calls = " ".join(f'install_packages("{extra}")' for extra in extras)
        names = ", ".join(missing)
        if not calls:
            return names
        return tr("{names}; lessons that need them: {calls}").format(names=names, calls=calls)

    def _device_line(self) -> str:
        try:
            device = self.device
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            # A report is wanted most where torch is missing or broken.
            return tr("unknown: {reason}").format(reason=without_home(str(error)))
        parts = (device.name, device.dtype, device.hardware)
        facts = ", ".join(part for part in parts if part)
        return tr("{facts}. {reason}").format(facts=facts, reason=device.reason)

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(columns(name) for name, _ in rows) + 2
        return "\n".join(fold(text, _LINE, head=name, indent=width) for name, text in rows)

    def _repr_html_(self) -> str:
        return html_table(self._rows(), row_heads=True)


def setup_environment(
    language: str | None = None, *, env_file: str | os.PathLike[str] | None = None
) -> Environment:
    """Read `.env`, prepare cache folder, token and tracing, and report the machine.

    What is set in the environment already wins over `.env`. Run the cell again after editing
    `.env`: what an earlier run set is taken back first.

    Args:
        language: The language of the notebook as a tag, such as `"fr"` or `"zh-CN"`: the
            package's messages come in it, as far as they are translated. When left out, the
            environment decides: LOCAL_PIPELINES_LANGUAGE, LANGUAGE, LC_ALL, LC_MESSAGES, LANG.
        env_file: The settings file; when left out, the nearest `.env` from the working folder
            upward. A relative path inside it counts from its own folder.

    Returns:
        The report. Its notes say what to do where something does not fit.

    Raises:
        EnvironmentFileError: If the settings file cannot be read.
        CacheError: If models cannot be kept in `HF_HOME`.
        ParameterError: If `language` is no language tag.
    """
    _check_language(language)
    notes: list[str] = []
    _take_back()
    _drop_empty()
    if language:
        _put(CHOICE, language)  # now, so that what follows is said in it
    path = Path(env_file) if env_file is not None else find_env_file()
    from_file = _load(path, notes) if path else set()
    notes += _language_notes(language)
    _drop_empty()
    _make_paths_absolute(path, from_file)
    token = _place_token(from_file, notes)
    for name, value in _DEFAULTS.items():
        if name not in os.environ:
            _put(name, value)
    tracing = _place_tracing(notes)
    home = _place_cache(notes)
    notes += _too_late()
    notes += _package_notes()
    return _report(
        language=language, env_file=path, token=token, tracing=tracing, home=home, notes=notes
    )


def _report(
    *,
    language: str | None,
    env_file: Path | None,
    token: str | None,
    tracing: str,
    home: Path,
    notes: list[str],
) -> Environment:
    from local_pipelines.devices import ram

    total, free = ram()
    system = "macOS" if platform.system() == "Darwin" else platform.system()
    return Environment(
        python=platform.python_version(),
        platform=f"{system} {platform.machine()}",
        cpu_cores=_cores(),
        ram_total=total,
        ram_free=free,
        hf_home=home,
        disk_free=_disk_free(Path(os.environ.get("HF_HUB_CACHE") or home)),
        packages=installed_versions(),
        env_file=env_file,
        token=token,
        online=tr("offline (HF_HUB_OFFLINE)") if hub_is_offline() else tr("online allowed"),
        tracing=tracing,
        notes=tuple(notes),
        language=language,
    )


def _check_language(language: str | None) -> None:
    if language is not None and not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", language):
        raise ParameterError(
            tr("{language!r} is no language.").format(language=language),
            next_step=tr(
                'Write a tag such as "fr" or "zh-CN"; a settings file goes into env_file=….'
            ),
        )


def _language_notes(language: str | None) -> list[str]:
    wanted = language or os.environ.get(CHOICE, "")
    if not wanted or find_language(wanted):
        return []
    return [
        tr(
            "There are no messages in {language!r}: they are in English. There are: {names}."
        ).format(language=wanted, names=", ".join(available_languages()))
    ]


# --- what this module changed in the environment ------------------------------------------------

# Each variable's value before and after, so that running the cell again starts from the learner's
# own environment: otherwise an edited .env would lose against what the first run took from it.
_changes: dict[str, tuple[str | None, str | None]] = {}


def _put(name: str, value: str | None) -> None:
    before = _changes[name][0] if name in _changes else os.environ.get(name)
    _changes[name] = (before, value)
    _assign(name, value)


def _assign(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _take_back() -> None:
    for name, (before, after) in _changes.items():
        if os.environ.get(name) == after:  # else it was changed by hand since, and stays
            _assign(name, before)
    _changes.clear()


def _drop_empty() -> None:
    for name in _EMPTY_IS_UNSET:
        if name in os.environ and not os.environ[name].strip():
            _put(name, None)


# --- .env ---------------------------------------------------------------------------------------


def _load(path: Path, notes: list[str]) -> set[str]:
    """Put a settings file's values into the environment where they are unset.

    Returns:
        The names that were taken from the file.
    """
    from dotenv.main import DotEnv
    from dotenv.parser import parse_stream

    lines = list(parse_stream(io.StringIO(_read(path))))
    if broken := [str(line.original.line) for line in lines if line.error]:
        notes.append(
            tr(
                "{file}, line {numbers}: not understood and left out. Each line is written"
                " NAME=value."
            ).format(file=_shown(path), numbers=", ".join(broken))
        )
    good = "".join(line.original.string for line in lines if not line.error)
    values = DotEnv(None, stream=io.StringIO(good), override=False).dict()
    filled = {name: value for name, value in values.items() if value}
    taken = {name for name in filled if name not in os.environ}
    if shadowed := [n for n, v in filled.items() if n not in taken and os.environ[n] != v]:
        notes.append(
            tr("Set in the environment already, so {file} does not count for: {names}.").format(
                file=_shown(path), names=", ".join(shadowed)
            )
        )
    for name in taken:
        _put(name, filled[name])
    return taken


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
        reason = tr("it is not text") if "\0" in text else ""
    except FileNotFoundError:
        raise EnvironmentFileError(
            tr("There is no settings file {path}.").format(path=_shown(path)),
            next_step=tr("Correct the path in env_file=…, or leave it out: none is needed."),
        ) from None
    except UnicodeDecodeError:
        reason = tr("it is not UTF-8 text")
    except OSError as error:
        reason = (error.strerror or tr("it cannot be opened")).lower()
    if not reason:
        return text
    # Raised outside the handlers: a decoding error carries the file's content, token included.
    raise EnvironmentFileError(
        tr("The settings file {path} cannot be read: {reason}.").format(
            path=_shown(path), reason=reason
        ),
        next_step=tr(
            "Save it as a UTF-8 text file that you may read, or take it away: the"
            " course runs without it."
        ),
    )


def _shown(path: Path) -> str:
    """Name a settings file as seen from here, which tells little about the machine."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    here = Path.cwd()
    if absolute.is_relative_to(here) or absolute.parent in here.parents:
        return os.path.relpath(absolute, here)
    return without_home(str(absolute))


def _shown_env_file(path: Path | None) -> str:
    if path is None:
        return tr("no .env found; none is needed")
    return tr("read from {file}").format(file=_shown(path))


# --- token --------------------------------------------------------------------------------------


def _place_token(from_file: set[str], notes: list[str]) -> str | None:
    """Clean `HF_TOKEN`, copy LangChain's variable where it is unset, and say where a token is."""
    copied = False
    _clean_variable("HF_TOKEN", notes)
    if "HF_TOKEN" not in os.environ and (token := os.environ.get("HUGGINGFACEHUB_API_TOKEN")):
        _put("HF_TOKEN", token)
        copied = _clean_variable("HF_TOKEN", notes, source="HUGGINGFACEHUB_API_TOKEN")
    if copied:
        notes.append(
            tr(
                "HF_TOKEN was unset; it is now a copy of HUGGINGFACEHUB_API_TOKEN, which LangChain"
                " reads and the Hub's client does not."
            )
        )
    try:
        found = find_token()
    except CredentialError as error:
        notes.append(str(error))
        return None
    if found is None:
        return None
    source = "HUGGINGFACEHUB_API_TOKEN" if copied else found.source
    return tr("{source}, from .env").format(source=source) if source in from_file else source


def _clean_variable(name: str, notes: list[str], source: str = "") -> bool:
    """Clean a token's variable in place, or drop it: the client would print it in its error."""
    if name not in os.environ:
        return False
    raw = os.environ[name]
    try:
        token = clean_token(raw, source or name)
    except CredentialError as error:
        notes.append(_paragraph(str(error), tr("Until then it is left out.")))
        token = None
    if token != raw:
        _put(name, token)
    return token is not None


# --- cache folder -------------------------------------------------------------------------------


def _make_paths_absolute(env_file: Path | None, from_file: set[str]) -> None:
    """Make the paths mean the same in every notebook, wherever it lies."""
    for name in _PATHS:
        if value := os.environ.get(name):
            base = env_file.parent if env_file and name in from_file else Path.cwd()
            path = Path(os.path.expandvars(value)).expanduser()
            absolute = os.path.abspath(base / path)  # noqa: PTH100 - resolve() would follow links
            if absolute != value:
                _put(name, absolute)


def _place_cache(notes: list[str]) -> Path:
    """Create the folder for models and make sure that they can be kept there."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
    home = Path(os.environ.get("HF_HOME") or default)
    cache = Path(os.environ.get("HF_HUB_CACHE") or home)
    for folder, name in ((home, "HF_HOME"), (cache, "HF_HUB_CACHE")):
        if fault := _cannot_write(folder):
            if not (hub_is_offline() and folder.is_dir()):
                raise CacheError(
                    tr("Models cannot be kept in {folder}: {fault}.").format(
                        folder=without_home(str(folder)), fault=fault
                    ),
                    tr("{name} says so.").format(name=name)
                    if name in os.environ
                    else tr("It is where they go as long as HF_HOME is not set."),
                    tr(
                        "Set HF_HOME in .env to a folder that you may write to, then run this"
                        " again."
                    ),
                )
            notes.append(
                tr(
                    "{folder} cannot be written to; as offline mode is on, the models in it can be"
                    " used all the same."
                ).format(folder=without_home(str(folder)))
            )
    return home


def _cannot_write(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except FileExistsError:
        return tr("there is a file of that name")
    except OSError as error:
        return (error.strerror or tr("it cannot be used")).lower()


def _too_late() -> list[str]:
    """Say which variables the Hub's client no longer sees, because it was imported before."""
    client = sys.modules.get("huggingface_hub.constants")
    spec = importlib.util.find_spec("huggingface_hub.constants") if client else None
    if spec is None or spec.loader is None:
        return []
    # The client's own code, run once more on a copy, says what it would make of the environment.
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    late = [
        variable
        for name, variable in _FROZEN.items()
        if _comparable(getattr(client, name, None)) != _comparable(getattr(fresh, name, None))
    ]
    if "HF_HOME" in late:  # the others that hang on it say nothing new
        late = [name for name in late if name in {"HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE"}]
    return [
        tr(
            "{name} was changed after huggingface_hub had been imported, so it does not count yet:"
            " restart the kernel and run this cell first."
        ).format(name=name)
        for name in late
    ]


def _comparable(value: object) -> object:
    if isinstance(value, str) and "://" not in value:
        return os.path.abspath(value)  # noqa: PTH100 - resolve() would follow links
    return value


# --- tracing ------------------------------------------------------------------------------------


def _place_tracing(notes: list[str]) -> str:
    """Keep tracing off unless a variable asks for it, and say which one does."""
    asked = next((name for name in _TRACING if os.environ.get(name, "").strip()), None)
    if asked is None:
        _put("LANGSMITH_TRACING", "false")
    if langsmith := sys.modules.get("langsmith.utils"):
        langsmith.get_env_var.cache_clear()  # it remembers its first look at the environment
    # langsmith compares with this one word; "True" or "1" do not switch it on.
    if asked and os.environ[asked] == "true":
        return tr("on ({variable}): prompts and answers are sent to LangSmith").format(
            variable=asked
        )
    if asked and os.environ[asked].strip().lower() not in {"false", "0", "no", "off"}:
        notes.append(
            tr('{variable} does not switch tracing on: only the word "true" does.').format(
                variable=asked
            )
        )
    if os.environ.get("LANGCHAIN_TRACING", "") not in {"", "0", "false", "False"}:
        notes.append(
            tr(
                "LANGCHAIN_TRACING makes every chain fail: take it away; its successor is"
                " LANGSMITH_TRACING."
            )
        )
    return tr("off ({variable})").format(variable=asked) if asked else tr("off")


# --- machine and packages -----------------------------------------------------------------------


def _package_notes() -> list[str]:
    notes = [torchvision_fault()]
    missing = unmet_requirements() or [n for n, v in installed_versions(NEEDED).items() if not v]
    if missing:
        words = ", ".join(f'"{name}"' for name in missing)
        notes.append(
            tr("The course needs other packages than are here: install_packages({words}).").format(
                words=words
            )
        )
    return [note for note in notes if note]


def _cores() -> int:
    # A container or a scheduler may allow fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _disk_free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
