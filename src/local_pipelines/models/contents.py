"""What a model's small files say: checked before a library reads them, explained when one fails.

A model's folder is somebody else's work. Libraries obey what stands in it, down to paths of this
machine, and answer what is broken with errors of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from local_pipelines.errors import LocalPipelinesError, ModelError, failure
from local_pipelines.models.checkpoint import SIZES, Weights, read_json
from local_pipelines.models.download import damaged_file
from local_pipelines.wording.grammar import fragment
from local_pipelines.workbench.checks import is_whole

# The files that some kind of tokenizer keeps its words in; transformers makes an empty one without.
_WORDS = ("*token*", "*.model", "*.spm", "*.tiktoken", "merges.txt", "tekken.json", "vocab*")
# transformers reads neither: many older models still name files of their authors' machines there.
_UNREAD = {"added_tokens_file", "special_tokens_map_file", "tokenizer_config_file"}
_PATHS = {"init_inputs", "merges", "vocab"}  # what a tokenizer also takes for a file if it is text
_TOKENS = {
    "begin_suppress_tokens",
    "bos_token_id",
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "pad_token_id",
    "suppress_tokens",
}


@contextmanager
def checked_loading(
    name: str, folder: Path, *, kind: type[ModelError] = ModelError
) -> Iterator[None]:
    """Load what lies in a folder, so that each fault in it ends in one sentence, a `kind`."""
    try:
        check_contents(folder)
    except ModelError as fault:
        raise kind(fault.fact, fault.cause, fault.next_step) from fault
    try:
        yield
    except LocalPipelinesError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise  # which says nothing about the files
        found = _explain_contents(name, folder, error)
        raise kind(found.fact, found.cause, found.next_step) from error


def check_contents(folder: Path) -> None:
    """Refuse, as a ModelError, what a model's small files must not say."""
    config = read_json(folder / "config.json")
    _check_config(folder, config)
    if not any(any(folder.glob(name)) for name in _WORDS):
        raise failure("no-tokenizer", folder=folder)
    if (folder / "tokenizer.json").is_file():
        _check_is_object(folder / "tokenizer.json")
    if (folder / "tokenizer_config.json").is_file():
        _check_tokenizer(folder, read_json(folder / "tokenizer_config.json"))
    if (folder / "chat_template.jinja").is_file():
        _check_is_text(folder / "chat_template.jinja")
    if (folder / "generation_config.json").is_file():
        _check_tokens(folder, config, read_json(folder / "generation_config.json"))


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    for part in (config, config.get("text_config") or {}):
        if not isinstance(part, dict):
            raise cannot_be(folder, "config.json", "text_config", part)
        for name, most in SIZES.items():
            if part.get(name) is not None and not is_whole(part[name], 1, most):
                raise cannot_be(folder, "config.json", name, part[name])
    if not isinstance(config.get("model_type", ""), str):
        raise cannot_be(folder, "config.json", "model_type", config["model_type"])


def _check_is_object(file: Path) -> None:
    """See that a file which may be large begins and ends as an object of JSON does."""
    with suppress(OSError):
        with file.open("rb") as stream:
            start = stream.read(64).strip()
            stream.seek(-min(64, file.stat().st_size), 2)
            end = stream.read().strip()
        if start.startswith(b"{") and end.endswith(b"}"):
            return
    read_json(file)  # which says what it is instead


def _check_is_text(file: Path) -> None:
    try:
        file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise failure("no-text", file=file) from error


def _check_tokenizer(folder: Path, config: Mapping[str, Any]) -> None:
    for name, value in config.items():
        if name in _PATHS or (name.endswith(("_file", "_files")) and name not in _UNREAD):
            _check_no_path(folder, name, value)
    template = config.get("chat_template")
    named = isinstance(template, list) and all(
        isinstance(each, dict) and {"name", "template"} <= each.keys() for each in template
    )
    if template is not None and not named and not isinstance(template, str | dict):
        raise cannot_be(folder, "tokenizer_config.json", "chat_template", template)


def _check_no_path(folder: Path, name: str, value: object) -> None:
    """Refuse a file that is not the model's own: transformers would read it into the vocabulary.

    It takes a bare name for a file in the working folder, such as `.env`.
    """
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            continue
        is_bare, own, here = not re.search(r"[/\\:]|^\.\.$", text), folder / text, Path(text)
        if is_bare and own.is_file() and (not here.exists() or here.samefile(own)):
            continue
        raise failure("path-in-tokenizer", folder=folder, name=name, value=text[:100])


def _check_tokens(folder: Path, config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    most = ((config.get("text_config") or config).get("vocab_size") or SIZES["vocab_size"]) - 1
    for name in sorted(_TOKENS & given.keys()):
        least = -1 if name == "pad_token_id" else 0  # old models write -1 for none
        for token in given[name] if isinstance(given[name], list) else [given[name]]:
            if token is not None and not is_whole(token, least, most):
                raise cannot_be(folder, "generation_config.json", name, token)


def cannot_be(folder: Path, file: str, name: str, value: object) -> LocalPipelinesError:
    """Make the error for what one of a model's files says."""
    shown = type(value).__name__  # Python writes no number of more than 4,300 digits
    with suppress(ValueError):
        shown = repr(value)
    return failure("cannot-be", folder=folder, file=file, name=name, value=shown[:100])


def check_is_filled(name: str, model: Any, stored: Weights) -> None:
    """See that a model of torch's got all its numbers from its files, or raise ModelError.

    transformers fills what the files lack with random numbers, and says so in a log only.
    """
    numbers = sum(each.numel() for each in model.parameters())  # what is shared counts once
    by_design = getattr(model, "_keys_to_ignore_on_load_missing", None)
    if stored.other_bytes or by_design or stored.floats >= numbers:
        return
    raise failure("not-filled", name=name, missing=numbers - stored.floats, numbers=numbers)


def _explain_contents(name: str, folder: Path, error: Exception) -> LocalPipelinesError:
    """The sentence for a model that is here and does not load."""
    if damaged := damaged_file(folder):
        return failure("damaged", file=damaged, model_id=name)
    for file in sorted(folder.glob("*.json")):
        try:
            read_json(file)
        except ModelError as broken:
            return broken
    if "trust_remote_code" in str(error):
        return failure("own-code", model_id=name)
    if "ignore_mismatched_sizes" in str(error):
        return failure("other-sizes", name=name)
    lines = [line.strip()[:300] for line in str(error).splitlines() if line.strip()]
    said = ": ".join([type(error).__name__, *lines[:1]])
    return _wrong_type(name, folder, error) or failure(
        "cannot-load", name=name, error=fragment(said)
    )


def _wrong_type(name: str, folder: Path, error: Exception) -> LocalPipelinesError | None:
    from transformers import CONFIG_MAPPING

    kind = read_json(folder / "config.json").get("model_type")
    if not kind:
        return failure("no-type", name=name)
    if kind not in CONFIG_MAPPING:
        return failure("unknown-type", name=name, kind=kind)
    if "Unrecognized configuration class" in str(error):
        return failure("other-task", name=name, kind=kind)
    return None
