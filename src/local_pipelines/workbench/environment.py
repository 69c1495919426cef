"""Sets the stage for a notebook: `.env`, cache folder, token, tracing; and reports what is there.

It has to run before anything imports `huggingface_hub`, which reads its environment variables
once and never again.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from local_pipelines.errors import CredentialError, failure
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import CHOICE, available_languages, find_language, tr
from local_pipelines.wording.sentences import told
from local_pipelines.workbench.cache_folder import (
    frozen_variables,
    make_paths_absolute,
    place_cache,
)
from local_pipelines.workbench.credentials import clean_token, find_token
from local_pipelines.workbench.machine import disk_free, ram, usable_cores
from local_pipelines.workbench.packages import (
    NEEDED,
    installed_versions,
    torchvision_fault,
    unmet_requirements,
)
from local_pipelines.workbench.report import Environment
from local_pipelines.workbench.settings import (
    DEFAULT_HUB,
    drop_empty_variables,
    find_env_file,
    hub_address,
    hub_is_offline,
    load_env_file,
    restore_variables,
    set_variable,
)

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
    # torch's threads wait by sleeping. By default they spin, and beside another busy program they
    # take the cores from each other: forty times slower answers on two cores.
    "OMP_WAIT_POLICY": "passive",
}
# In the order in which langsmith.utils.tracing_is_enabled looks at them.
_TRACING = (
    "LANGSMITH_TRACING_V2",
    "LANGCHAIN_TRACING_V2",
    "LANGSMITH_TRACING",
    "LANGCHAIN_TRACING",
)


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
        ParameterError: If `language` is no language tag.
    """
    _check_language(language)
    notes: list[str] = []
    restore_variables()
    drop_empty_variables()
    if language:
        set_variable(CHOICE, language)  # now, so that what follows is said in it
    path = Path(env_file) if env_file is not None else find_env_file(notes)
    from_file = load_env_file(path, notes) if path else set()
    notes += _language_notes(language)
    drop_empty_variables()
    make_paths_absolute(path, from_file)
    token = _place_token(from_file, notes)
    for name, value in _DEFAULTS.items():
        if name not in os.environ:
            set_variable(name, value)
    tracing = _place_tracing(notes)
    home = place_cache(notes)
    notes += frozen_variables()
    notes += package_notes()
    total, free = ram()
    system = "macOS" if platform.system() == "Darwin" else platform.system()
    return Environment(
        python=platform.python_version(),
        platform=f"{system} {platform.machine()}",
        cpu_cores=usable_cores(),
        ram_total=total,
        ram_free=free,
        hf_home=home,
        disk_free=disk_free(Path(os.environ.get("HF_HUB_CACHE") or home)) or 0,
        packages=installed_versions(),
        env_file=path,
        token=token,
        online=_hub_line(),
        tracing=tracing,
        notes=tuple(notes),
        language=language,
    )


def _hub_line() -> str:
    state = tr("offline (HF_HUB_OFFLINE)") if hub_is_offline() else tr("online allowed")
    if (address := hub_address()) == DEFAULT_HUB:
        return state
    text = tr("{state}; its address is {address} (HF_ENDPOINT)")
    return text.format(state=state, address=address)


def _check_language(language: str | None) -> None:
    if language is not None and not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", language):
        raise failure("no-language", language=language)


def _language_notes(language: str | None) -> list[str]:
    wanted = language or os.environ.get(CHOICE, "")
    if not wanted or find_language(wanted):
        return []
    return [told("no-messages", language=wanted, names=", ".join(available_languages()))]


def _place_token(from_file: set[str], notes: list[str]) -> str | None:
    """Clean `HF_TOKEN`, copy LangChain's variable where it is unset, and say where a token is."""
    copied = False
    _clean_variable("HF_TOKEN", notes)
    if "HF_TOKEN" not in os.environ and (token := os.environ.get("HUGGINGFACEHUB_API_TOKEN")):
        set_variable("HF_TOKEN", token)
        copied = _clean_variable("HF_TOKEN", notes, source="HUGGINGFACEHUB_API_TOKEN")
    if copied:
        notes.append(told("token-copied"))
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
        notes.append(paragraph(str(error), tr("Until then it is left out.")))
        token = None
    if token != raw:
        set_variable(name, token)
    return token is not None


def _place_tracing(notes: list[str]) -> str:
    """Keep tracing off unless a variable asks for it, and say which one does."""
    asked = next((name for name in _TRACING if os.environ.get(name, "").strip()), None)
    if asked is None:
        set_variable("LANGSMITH_TRACING", "false")
    if langsmith := sys.modules.get("langsmith.utils"):
        langsmith.get_env_var.cache_clear()  # it remembers its first look at the environment
    # langsmith compares with this one word; "True" or "1" do not switch it on.
    if asked and os.environ[asked] == "true":
        return tr("on ({variable}): prompts and answers are sent to LangSmith").format(
            variable=asked
        )
    if asked and os.environ[asked].strip().lower() not in {"false", "0", "no", "off"}:
        notes.append(told("tracing-word", variable=asked))
    if os.environ.get("LANGCHAIN_TRACING", "") not in {"", "0", "false", "False"}:
        notes.append(told("tracing-of-old"))
    return tr("off ({variable})").format(variable=asked) if asked else tr("off")


def package_notes() -> list[str]:
    """What is to be said about packages."""
    notes = [note] if (note := torchvision_fault()) else []
    missing = unmet_requirements() or [n for n, v in installed_versions(NEEDED).items() if not v]
    if missing:
        words = ", ".join(f'"{name}"' for name in missing)
        notes.append(told("packages-missing", words=words))
    return notes
