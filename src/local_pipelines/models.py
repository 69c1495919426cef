"""Which model: the catalogue, the folder behind "pocket", and whether a model fits this machine."""

from __future__ import annotations

import difflib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local_pipelines import _checkpoint
from local_pipelines._access import check_token, host, within
from local_pipelines._catalogue import (
    Catalogue,
    CatalogueEntry,
    catalogue,
    gigabytes,
    pocket_folder,
)
from local_pipelines._checkpoint import Shape, Weights
from local_pipelines._columns import columns, pad
from local_pipelines._fetch import cached_model, fetch_model
from local_pipelines._fetch import disk_free as _disk_free
from local_pipelines._messages import mark, tr
from local_pipelines.devices import Device, select_device
from local_pipelines.errors import (
    DeviceError,
    LocalPipelinesError,
    ModelError,
    OfflineError,
    ParameterError,
    _paragraph,
)

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

__all__ = ["Catalogue", "CatalogueEntry", "Fit", "catalogue", "model_path", "will_it_fit"]

_PATIENCE = 5.0  # seconds for one question to the Hub, name look-up and slow answers included
# The few old ids without an owner that generate text; the Hub still redirects them.
_OLD_IDS = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", "openai-gpt"}
_LIST_STEP = mark("Run `catalogue()` for ids that work here, or name a folder with a model in it.")


# --- from what a learner writes to what from_pretrained takes ----------------------------------


def model_path(model: str | os.PathLike[str], *, revision: str | None = None) -> str:
    """Turn a model's name into what every `from_model_id` and `from_pretrained` takes.

    Args:
        model: "pocket" (the embedded model), a folder with a model in it, or an id of the Hub.
        revision: A branch, tag or commit of the Hub; the main branch if not given.

    Returns:
        The absolute path of the folder that the model lies in. A model of the Hub is downloaded
        first, if it is not in the cache: safetensors only, every file compared with its sum.

    Raises:
        ModelError: There is no such model, or the folder holds none.
        CredentialError: The model is gated and there is no token, or not the right one.
        AccessError: The model is gated and its licence is not accepted.
        OfflineError: The model has to be downloaded and the Hub cannot be reached, which is known
            after 5 seconds at most, or the download does not get through.
        CacheError: The disk is full, or cannot be written to.
    """
    found = _locate(model)
    if isinstance(found, Path):
        return str(found)
    folder = cached_model(found, revision)
    if folder is None:
        _ask_hub(found)
        folder = fetch_model(found, revision=revision)
    return str(folder)


def _locate(model: str | os.PathLike[str]) -> Path | str:
    """A checked folder, or a well-formed id of the Hub."""
    if isinstance(model, os.PathLike):
        return _checked_folder(Path(model))
    if not isinstance(model, str) or not model.strip():
        raise ModelError(
            tr("{model!r} names no model.").format(model=model),
            next_step=tr('Write MODEL_ID = "pocket", an id of the Hub in quotes, or a folder.'),
        )
    model = model.strip()
    if model == "pocket":
        return _checked_pocket()
    if "://" in model:
        raise _is_address(model)
    if _looks_like_path(model) or _exists(Path(model)):
        return _checked_folder(Path(model))
    if _is_hub_id(model):
        return model
    raise ModelError(
        tr(
            "{model!r} is no model: there is no folder of that name here, and an id of the Hub"
            " has the form owner/name."
        ).format(model=model),
        _did_you_mean(model),
        tr(_LIST_STEP),
    )


def _checked_pocket() -> Path:
    folder = pocket_folder()
    try:
        _checkpoint.read_weights(_checkpoint.weight_files(folder))
    except ModelError as error:
        raise ModelError(
            tr("The embedded model is not whole in this installation."),
            error.fact,
            tr("Install the package again with pip, or name another model."),
        ) from error
    return folder.resolve()


def _checked_folder(folder: Path) -> Path:
    try:
        folder = folder.expanduser()
        if not folder.exists():
            raise ModelError(
                tr("The folder {folder} was not found.").format(folder=folder),
                tr("It was looked for in {cwd}.").format(cwd=Path.cwd())
                if not folder.is_absolute()
                else "",
                tr("Correct the path, or write an id of the Hub as owner/name."),
            )
        if not folder.is_dir():
            raise ModelError(
                tr("{folder} is a file, not a folder.").format(folder=folder),
                tr(
                    "A model is a folder with config.json, weights and tokenizer files side by"
                    " side."
                ),
                tr("Write the folder it lies in: {parent!r}.").format(parent=str(folder.parent)),
            )
        _checkpoint.read_weights(_checkpoint.weight_files(folder))
    except ModelError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # no right, no such ~user, an odd name
        raise ModelError(
            tr("The folder {folder} cannot be read.").format(folder=folder),
            f"{error}.",
            tr("Correct the path, or give yourself the right to read it."),
        ) from error
    return folder.resolve()


def _is_address(model: str) -> ModelError:
    parts = [part for part in urlsplit(model).path.split("/") if part][:2]
    step = tr(_LIST_STEP)
    if len(parts) == 2:
        step = tr('Write MODEL_ID = "{model_id}".').format(model_id="/".join(parts))
    return ModelError(
        tr("{model!r} is an address, not a model's id.").format(model=model), next_step=step
    )


def _looks_like_path(model: str) -> bool:
    return (
        model[0] in "./~"
        or "\\" in model
        or model.count("/") > 1
        or model.endswith("/")
        or re.match(r"[A-Za-z]:", model) is not None
    )


def _exists(path: Path) -> bool:
    with suppress(OSError, ValueError):  # far too long a name, or characters no file may have
        return path.exists()
    return False


def _is_hub_id(model: str) -> bool:
    """The rule of `huggingface_hub.utils.validate_repo_id`, without importing it."""
    return model in _OLD_IDS or (
        re.fullmatch(r"\w[\w.-]*/\w([\w.-]{0,94}\w)?", model, re.ASCII) is not None
        and "--" not in model
        and ".." not in model
        and not model.endswith(".git")
    )


def _did_you_mean(model: str) -> str:
    """A sentence with the nearest id of the catalogue; empty if none is near."""
    nearest = _nearest(model)
    if not nearest or nearest == model:
        return ""
    return tr('Did you mean "{near}"?').format(near=nearest)


def _nearest(model: str) -> str | None:
    names: dict[str, str] = {}
    for entry in catalogue():
        names[entry.id.lower()] = entry.id
        names[entry.id.split("/")[-1].lower()] = entry.id
    wanted = model.lower().replace(" ", "-")
    for text in (wanted, wanted.split("/")[-1]):
        if near := difflib.get_close_matches(text, names, n=1):
            return names[near[0]]
    return None


# --- the cache and the Hub ---------------------------------------------------------------------


def _cached_weights(model_id: str) -> list[Path] | None:
    """The weight files of a model in the cache; None unless all that loading needs is there."""
    folder = _cached_folder(model_id)
    if folder is None:
        return None
    tokenizer = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    if not any((folder / name).is_file() for name in tokenizer):
        return None
    with suppress(ModelError):
        return _checkpoint.weight_files(folder, pickled=True)
    return None


def _cached_folder(model_id: str) -> Path | None:
    """Where the cache has the newest known version of a model, whole or in part."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None


def _ask_hub(model_id: str) -> ModelInfo | None:
    """Ask the Hub once about a model.

    Returns:
        What it says; None if it answers but refuses: `check_access` says why.

    Raises:
        CredentialError: What stands in the token's place cannot be one.
        ModelError: The Hub has no such model.
        OfflineError: There is no way to the Hub.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise _offline(model_id)
    check_token()

    def look() -> ModelInfo:
        return HfApi().model_info(model_id, files_metadata=True, timeout=_PATIENCE)

    try:
        return within(_PATIENCE, look)
    except GatedRepoError:
        return None
    except RepositoryNotFoundError:
        refusal: LocalPipelinesError = _absent(model_id)
    except HfHubHTTPError:
        return None
    except LocalPipelinesError as error:
        refusal = error.with_traceback(None)
    except Exception:  # noqa: BLE001 - no route, no name, no time, or a Wi-Fi log-in page
        refusal = _offline(model_id, host())
    raise refusal  # outside the handler: the client's error may hold the header with the token


def _absent(model_id: str) -> ModelError:
    return ModelError(
        tr(
            'The Hub has no model "{model_id}" that you may see, and there is no such folder here.'
        ).format(model_id=model_id),
        _did_you_mean(model_id) or tr("The id is misspelt, or the model is private."),
        tr(_LIST_STEP),
    )


def _offline(model_id: str, host: str = "") -> OfflineError:
    """The error for a model that is not here whole, where its Hub is forbidden or out of reach."""
    partly = _cached_folder(model_id) is not None
    if host:
        fact = (
            tr(
                '"{model_id}" is only in part on this machine, and the Hub ({host}) cannot be'
                " reached."
            )
            if partly
            else tr('"{model_id}" is not on this machine, and the Hub ({host}) cannot be reached.')
        )
        step = tr(
            'Write MODEL_ID = "pocket", which needs no download, or connect to the internet and'
            " run the cell once."
        )
    else:
        fact = (
            tr(
                '"{model_id}" is only in part on this machine, and HF_HUB_OFFLINE forbids'
                " downloads."
            )
            if partly
            else tr('"{model_id}" is not on this machine, and HF_HUB_OFFLINE forbids downloads.')
        )
        step = tr(
            'Write MODEL_ID = "pocket", which needs no download, or set HF_HUB_OFFLINE=0, restart'
            " the kernel and run the cells again with a connection."
        )
    hint = "" if catalogue().find(model_id) else _did_you_mean(model_id)
    cause = tr("A model of the Hub is downloaded once, when it is first used.")
    return OfflineError(fact.format(model_id=model_id, host=host), _paragraph(cause, hint), step)


# --- will it fit? ------------------------------------------------------------------------------

# Bytes a number takes. int8 and int4 leave a few layers wider, so the true size is a little larger.
_WIDTH = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}
_USUAL_CONTEXT = 2048  # tokens; more than any lesson's prompt and answer
_SLACK = 0.8  # of the free memory; a system that is fuller than this slows down


@dataclass(frozen=True, kw_only=True, repr=False)
class Fit:
    """Whether a model fits: the verdict, and the figures it rests on (bytes; None if unknown).

    It is true in a condition (`if will_it_fit(…):`) when the verdict is "fits" or "tight".
    """

    model_id: str
    device: str
    dtype: str
    context: int
    batch_size: int
    verdict: str  # "fits", "tight", "does not fit", "unknown"
    reason: str
    cached: bool
    download_bytes: int | None = None
    weights_bytes: int | None = None
    kv_cache_bytes: int | None = None
    working_bytes: int | None = None
    memory_needed: int | None = None
    memory_free: int | None = None
    disk_free: int | None = None
    alternative: str | None = None

    def __bool__(self) -> bool:
        return self.verdict in {"fits", "tight"}

    def _rows(self) -> list[tuple[str, str]]:
        download = (
            tr("{size} (already here)") if self.cached else tr("{size} ({free} free on disk)")
        ).format(size=gigabytes(self.download_bytes), free=gigabytes(self.disk_free))
        return [
            (tr("download"), download),
            (
                tr("weights"),
                tr("{size} in {dtype}").format(
                    size=gigabytes(self.weights_bytes), dtype=self.dtype
                ),
            ),
            (
                tr("KV cache"),
                tr("{size} for {batch_size} × {context} tokens").format(
                    size=gigabytes(self.kv_cache_bytes),
                    batch_size=self.batch_size,
                    context=self.context,
                ),
            ),
            (tr("working memory"), gigabytes(self.working_bytes)),
            (tr("needed"), gigabytes(self.memory_needed)),
            (
                tr("free"),
                tr("{size} on {device}").format(
                    size=gigabytes(self.memory_free), device=self.device
                ),
            ),
        ]

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(columns(name) for name, _ in rows) + 1
        return "\n".join([self.reason, *(f"  {pad(name, width)}{text}" for name, text in rows)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>"
            for name, text in self._rows()
        )
        return f"<p>{escape(self.reason)}</p><table><tbody>{rows}</tbody></table>"


@dataclass(frozen=True)
class _Facts:
    model_id: str
    cached: bool
    download_bytes: int | None = None
    weights: Weights | None = None
    shape: Shape = field(default_factory=Shape)


def will_it_fit(
    model_id: str | os.PathLike[str],
    device: Device | str | int | None = None,
    *,
    dtype: str | None = None,
    context: int | None = None,
    batch_size: int = 1,
) -> Fit:
    """Estimate, before any download, whether a model fits memory and disk.

    memory = weights + KV cache + working memory, with
    weights = parameters × bytes per number,
    KV cache = 2 (key and value) × layers × KV heads × head size × tokens × batch size × bytes,
    working memory = 20 % of the weights.

    The last is the rule of thumb that accelerate's model size estimator quotes from EleutherAI's
    "Transformer Math 101". Python and its libraries are not counted: they are loaded already.

    Args:
        model_id: "pocket", a folder, or an id of the Hub.
        device: A device, or what `select_device` takes; the best one if not given.
        dtype: "float32", "bfloat16", "float16", "int8" or "int4"; the device's if not given.
        context: Tokens of prompt and answer together; at most what the model can take, and 2048
            if not given.
        batch_size: Prompts answered at a time.

    Returns:
        The verdict with its figures; "unknown" if nothing here or on the Hub knows the model's.

    Raises:
        ModelError: There is no such model.
        DeviceError: There is no such device.
        ParameterError: `dtype`, `context` or `batch_size` cannot be.
    """
    _check_positive("batch_size", batch_size)
    _check_positive("context", 1 if context is None else context)
    width = None if dtype is None else str(dtype).removeprefix("torch.")
    if width is not None and width not in _WIDTH:
        raise ParameterError(
            tr("{dtype!r} is no number format.").format(dtype=dtype),
            next_step=tr("Write one of {names}.").format(names=", ".join(_WIDTH)),
        )
    facts = _facts(model_id)
    device = _measured(device)
    return _judge(facts, device, width or device.dtype, context, batch_size, advise=True)


def _measured(device: Device | str | int | None) -> Device:
    """The device with its free memory, which `available_devices` leaves out."""
    if not isinstance(device, Device):
        return select_device("auto" if device is None else device)
    if device.memory_free is None:
        with suppress(DeviceError):  # a description of another machine's device
            return replace(device, memory_free=select_device(device.name).memory_free)
    return device


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ParameterError(
            tr("{name} = {value!r} cannot be.").format(name=name, value=value),
            next_step=tr("Write a whole number from 1, as {name}=1.").format(name=name),
        )


def _facts(model: str | os.PathLike[str]) -> _Facts:
    found = _locate(model)
    if isinstance(found, Path):
        is_pocket = isinstance(model, str) and model.strip() == "pocket"
        name = "pocket" if is_pocket else str(found)
        return _facts_from_files(name, _checkpoint.weight_files(found))
    if (files := _cached_weights(found)) is not None:
        return _facts_from_files(found, files)
    if entry := catalogue().find(found):
        return _facts_from_entry(entry)
    return _facts_from_hub(found)


def _facts_from_files(name: str, files: list[Path]) -> _Facts:
    size = sum(file.stat().st_size for file in files)
    weights = _checkpoint.read_weights(files)
    return _Facts(name, True, size, weights, _checkpoint.read_shape(files[0].parent))


def _facts_from_entry(entry: CatalogueEntry) -> _Facts:
    weights = None if entry.parameters is None else Weights(entry.parameters)
    return _Facts(entry.id, entry.id == "pocket", entry.download_bytes, weights, entry.shape)


def _facts_from_hub(model_id: str) -> _Facts:
    """The Hub knows sizes without a download, but not the shape of the KV cache."""
    try:
        info = _ask_hub(model_id)
    except OfflineError:
        info = None
    if info is None or info.safetensors is None:
        return _Facts(model_id, cached=False)
    counts = info.safetensors.parameters
    floats = sum(count for kind, count in counts.items() if kind in _checkpoint.FLOATS)
    other = sum(
        count * _checkpoint.INTEGERS.get(kind, 1)
        for kind, count in counts.items()
        if kind not in _checkpoint.FLOATS
    )
    sizes = [f.size for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    total = sum(size for size in sizes if size) or None
    return _Facts(model_id, False, total, Weights(floats, other))


def _judge(
    facts: _Facts, device: Device, dtype: str, context: int | None, batch_size: int, *, advise: bool
) -> Fit:
    tokens = min(context or _USUAL_CONTEXT, facts.shape.context or context or _USUAL_CONTEXT)
    figures = _memory(facts, dtype, tokens * batch_size)
    disk_free = None if facts.cached else _disk_free()
    verdict, reason = _verdict(facts, device, figures.get("memory_needed"), disk_free)
    alternative = None
    if advise and verdict in {"tight", "does not fit"}:
        alternative = _smaller(facts, device, dtype, context, batch_size)
        if alternative:
            advice = tr('Try "{model_id}" instead.').format(model_id=alternative)
            reason = _paragraph(reason, advice)
    return Fit(
        model_id=facts.model_id,
        device=device.name,
        dtype=dtype,
        context=tokens,
        batch_size=batch_size,
        verdict=verdict,
        reason=reason,
        cached=facts.cached,
        download_bytes=facts.download_bytes,
        memory_free=device.memory_free,
        disk_free=disk_free,
        alternative=alternative,
        **figures,
    )


def _memory(facts: _Facts, dtype: str, tokens: int) -> dict[str, int]:
    """The figures of the formula in `will_it_fit`, as far as they are known."""
    if facts.weights is None:
        return {}
    weights = round(facts.weights.floats * _WIDTH[dtype]) + facts.weights.other_bytes
    figures = {"weights_bytes": weights, "working_bytes": weights // 5}
    if (per_token := facts.shape.kv_values_per_token()) is not None:
        # Quantised weights still compute, and remember, in 16 bits.
        figures["kv_cache_bytes"] = per_token * tokens * max(2, int(_WIDTH[dtype]))
    return {**figures, "memory_needed": sum(figures.values())}


def _verdict(
    facts: _Facts, device: Device, needed: int | None, disk_free: int | None
) -> tuple[str, str]:
    name, free = facts.model_id, device.memory_free
    if disk_free is not None and facts.download_bytes and facts.download_bytes > disk_free:
        return "does not fit", tr(
            "{name} does not fit on the disk: the download takes {size} and {free} are free."
        ).format(name=name, size=gigabytes(facts.download_bytes), free=gigabytes(disk_free))
    if needed is None:
        return "unknown", tr(
            "How much memory {name} takes is unknown here: it is not in the cache, not in the"
            " catalogue, and the Hub gives no figures."
        ).format(name=name)
    if free is None:
        return "unknown", tr(
            "{name} needs about {needed}; how much is free on {device} is unknown."
        ).format(name=name, needed=gigabytes(needed), device=device.name)
    verdict = "fits" if needed <= _SLACK * free else "tight" if needed <= free else "does not fit"
    reason = _reasons(verdict, whole=facts.shape.kv_values_per_token() is not None)
    return verdict, reason.format(
        name=name, device=device.name, needed=gigabytes(needed), free=gigabytes(free)
    )


def _reasons(verdict: str, *, whole: bool) -> str:
    """The sentence for a verdict; without the KV cache where its size is not known."""
    if whole:
        return {
            "fits": tr("{name} fits on {device}: it needs about {needed} and {free} are free."),
            "tight": tr(
                "{name} fits tightly on {device}: it needs about {needed} and {free} are free."
            ),
        }.get(verdict) or tr(
            "{name} does not fit on {device}: it needs about {needed} and {free} are free."
        )
    return {
        "fits": tr(
            "{name} fits on {device}: it needs about {needed} without its KV cache and {free} are"
            " free."
        ),
        "tight": tr(
            "{name} fits tightly on {device}: it needs about {needed} without its KV cache and"
            " {free} are free."
        ),
    }.get(verdict) or tr(
        "{name} does not fit on {device}: it needs about {needed} without its KV cache and {free}"
        " are free."
    )


def _smaller(
    facts: _Facts, device: Device, dtype: str, context: int | None, batch_size: int
) -> str | None:
    """The best smaller model of the catalogue that fits and asks for no account."""
    size = facts.weights.floats if facts.weights else 0
    smaller = [e for e in catalogue() if e.parameters and e.parameters < size and not e.gated]
    for entry in sorted(smaller, key=lambda e: (e.has_chat_template, e.parameters), reverse=True):
        other = _facts_from_entry(entry)
        fit = _judge(other, device, dtype, context, batch_size, advise=False)
        if fit.verdict == "fits":
            return entry.id
    return None
