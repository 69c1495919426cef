"""Whether a model fits this machine, estimated before a download."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape

from local_pipelines.errors import DeviceError, OfflineError, failure
from local_pipelines.models.catalogue import CatalogueEntry, catalogue, is_pocket
from local_pipelines.models.checkpoint import Shape, Tensor, Weights, weigh
from local_pipelines.models.download import download_space
from local_pipelines.models.gguf import GgufFile
from local_pipelines.models.gguf_checkpoint import check_convertible, main_format, written_bytes
from local_pipelines.models.names import ModelName, did_you_mean, locate
from local_pipelines.models.paths import ask_hub
from local_pipelines.wording.columns import columns, html_table, pad
from local_pipelines.wording.grammar import gigabytes, paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.wording.sentences import told
from local_pipelines.workbench.checks import is_whole, whole_number
from local_pipelines.workbench.devices import Device, select_device

# Bytes a number takes. int8 and int4 leave a few layers wider, so the true size is a little larger.
_WIDTH = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}
_USUAL_CONTEXT = 2048  # tokens; more than any lesson's prompt and answer
_REASONS = {  # with and without a KV cache whose size is known
    "fits": ("fits", "fits-without-cache"),
    "tight": ("tight", "tight-without-cache"),
    "does not fit": ("does-not-fit", "does-not-fit-without-cache"),
}
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
    file: str = ""  # what a GGUF file holds; what is downloaded is then what its checkpoint takes

    def __bool__(self) -> bool:
        return self.verdict in {"fits", "tight"}

    def _rows(self) -> list[tuple[str, str]]:
        download = (
            tr("{size} (already here)") if self.cached else tr("{size} ({free} free on disk)")
        ).format(size=gigabytes(self.download_bytes), free=gigabytes(self.disk_free))
        weights = tr("{size} in {dtype}").format(
            size=gigabytes(self.weights_bytes), dtype=self.dtype
        )
        cache = tr("{size} for {batch_size} × {context} tokens").format(
            size=gigabytes(self.kv_cache_bytes), batch_size=self.batch_size, context=self.context
        )
        free = tr("{size} on {device}").format(size=gigabytes(self.memory_free), device=self.device)
        return [
            *([(tr("GGUF file"), self.file)] if self.file else []),
            (tr("as a checkpoint") if self.file else tr("download"), download),
            (tr("weights"), weights),
            (tr("KV cache"), cache),
            (tr("working memory"), gigabytes(self.working_bytes)),
            (tr("needed"), gigabytes(self.memory_needed)),
            (tr("free"), free),
        ]

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(columns(name) for name, _ in rows) + 1
        return "\n".join([self.reason, *(f"  {pad(name, width)}{text}" for name, text in rows)])

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.reason)}</p>{html_table(self._rows(), row_heads=True)}"


@dataclass(frozen=True)
class Facts:
    """What an estimate rests on; None where it is unknown."""

    model_id: str
    cached: bool
    download_bytes: int | None = None
    weights: Weights | None = None
    shape: Shape = field(default_factory=Shape)
    hub_answers: bool = True
    file: str = ""  # what a GGUF file holds, of which a checkpoint is made: that is no download


def will_it_fit(
    model_id: ModelName,
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
        model_id: "pocket", "smollm2", a folder, a GGUF file (of which only the header is read), or
            an id of the Hub.
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
    whole_number("batch_size", batch_size)
    whole_number("context", 1 if context is None else context)
    width = None if dtype is None else str(dtype).removeprefix("torch.")
    if width is not None and width not in _WIDTH:
        raise failure("no-number-format", dtype=dtype, names=", ".join(_WIDTH))
    facts = known_facts(model_id)
    device = _measured(device)
    conditions = (device, width or device.dtype, context, batch_size)
    fit = _judge(facts, *conditions)
    if fit.verdict not in {"tight", "does not fit"}:
        return fit
    for entry in _smaller(facts):
        if _judge(_facts_from_entry(entry), *conditions).verdict == "fits":
            advice = tr('Try "{model_id}" instead.').format(model_id=entry.id)
            return replace(fit, alternative=entry.id, reason=paragraph(fit.reason, advice))
    return fit


def _measured(device: Device | str | int | None) -> Device:
    """The device with its free memory, which `available_devices` leaves out."""
    if not isinstance(device, Device):
        return select_device("auto" if device is None else device)
    if device.memory_free is None:
        with suppress(DeviceError):  # a description of another machine's device
            return replace(device, memory_free=select_device(device.name).memory_free)
    return device


def known_facts(model: ModelName) -> Facts:
    """What is known about a model without downloading it, or ModelError: there is none."""
    found = locate(model)
    if found.gguf and found.folder is None:
        return _facts_from_gguf(found.title, found.gguf, found.place is not None)
    if found.place is not None:
        name = found.name if found.has_own_name else str(found.folder)
        size = found.packaged and found.packaged.download_bytes
        size = size or sum(file.stat().st_size for file in found.files)
        return Facts(name, True, size, found.weights, found.shape)
    if entry := catalogue().find(found.name):
        return _facts_from_entry(entry)
    return _facts_from_hub(found.name)


def _facts_from_gguf(name: str, gguf: GgufFile, converted: bool) -> Facts:
    """What the header says; the bytes are those of the checkpoint that is made of the file."""
    check_convertible(gguf)
    size = gigabytes(gguf.path.stat().st_size)
    file = tr("{size}, {count:,} numbers, most of them in {format}")
    return Facts(
        name,
        converted,
        written_bytes(gguf),
        Weights(gguf.parameters),
        gguf.shape,
        file=file.format(size=size, count=gguf.parameters, format=main_format(gguf)),
    )


def _facts_from_entry(entry: CatalogueEntry) -> Facts:
    weights = None if entry.parameters is None else Weights(entry.parameters)
    return Facts(entry.id, is_pocket(entry.id), entry.download_bytes, weights, entry.shape)


def _facts_from_hub(model_id: str) -> Facts:
    """The Hub knows sizes without a download, but not the shape of the KV cache."""
    try:
        info = ask_hub(model_id)
    except OfflineError:
        return Facts(model_id, cached=False, hub_answers=False)
    counts = getattr(info and info.safetensors, "parameters", None) or {}
    if info is None or not _are_sizes(counts.values()):
        return Facts(model_id, cached=False)
    weights = weigh([], {kind: Tensor(kind, (count,)) for kind, count in counts.items()})
    sizes = [f.size or 0 for f in info.siblings or [] if f.rfilename.endswith(".safetensors")]
    total = sum(sizes) if _are_sizes(sizes) else None
    return Facts(model_id, False, total or None, weights)


def _are_sizes(values: Collection[object]) -> bool:
    """Whether these can be counts of bytes or numbers; something else may answer as a Hub."""
    return bool(values) and all(is_whole(value, 0, 2**60) for value in values)


def _judge(facts: Facts, device: Device, dtype: str, context: int | None, batch_size: int) -> Fit:
    tokens = min(context or _USUAL_CONTEXT, facts.shape.context or context or _USUAL_CONTEXT)
    figures = _memory(facts, dtype, tokens * batch_size)
    disk_free = None if facts.cached else download_space()
    verdict, reason = _verdict(facts, device, figures.get("memory_needed"), disk_free)
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
        alternative=None,
        file=facts.file,
        **figures,
    )


def _memory(facts: Facts, dtype: str, tokens: int) -> dict[str, int]:
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
    facts: Facts, device: Device, needed: int | None, disk_free: int | None
) -> tuple[str, str]:
    free = device.memory_free
    words = {"name": facts.model_id, "device": device.name, "needed": gigabytes(needed)}
    if disk_free is not None and facts.download_bytes and facts.download_bytes > disk_free:
        size = gigabytes(facts.download_bytes)
        fault = "disk-too-small-for-checkpoint" if facts.file else "disk-too-small"
        return "does not fit", told(fault, size=size, free=gigabytes(disk_free), **words)
    if needed is None:
        hint = "" if facts.hub_answers else did_you_mean(facts.model_id)
        reason = "size-unknown" if facts.hub_answers else "existence-unknown"
        return "unknown", paragraph(told(reason, **words), hint)
    if free is None:
        return "unknown", told("free-memory-unknown", **words)
    verdict = "fits" if needed <= _SLACK * free else "tight" if needed <= free else "does not fit"
    whole, without_cache = _REASONS[verdict]
    is_whole_sum = facts.shape.kv_values_per_token() is not None
    return verdict, told(whole if is_whole_sum else without_cache, free=gigabytes(free), **words)


def _smaller(facts: Facts) -> list[CatalogueEntry]:
    """The smaller models of the catalogue that ask for no account, the best first."""
    size = facts.weights.floats if facts.weights else 0
    smaller = [e for e in catalogue() if e.parameters and e.parameters < size and not e.gated]
    return sorted(smaller, key=lambda e: (e.has_chat_template, e.parameters), reverse=True)
