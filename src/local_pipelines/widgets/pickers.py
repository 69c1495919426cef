"""Pickers and a chat box for notebooks; each has a plain value, and a text without a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Generic, TypeVar

from local_pipelines.errors import CredentialError, DeviceError, ModelError, failure
from local_pipelines.models.catalogue import catalogue
from local_pipelines.models.fit import will_it_fit
from local_pipelines.models.names import locate
from local_pipelines.widgets import style
from local_pipelines.wording.grammar import capitalised, fragment, gigabytes, sentence
from local_pipelines.wording.messages import mark, tr
from local_pipelines.workbench import front_end
from local_pipelines.workbench.credentials import find_token
from local_pipelines.workbench.devices import available_devices, select_device
from local_pipelines.workbench.settings import hub_is_offline

Value = TypeVar("Value", bound=str | int)


@dataclass(frozen=True, kw_only=True)
class Choice(Generic[Value]):
    """Something to choose."""

    value: Value  # what a parameter would be set to
    name: str
    facts: str  # what one wants to know before choosing it
    obstacle: str = ""  # why it cannot be chosen here

    def __str__(self) -> str:
        facts = " · ".join(part for part in (self.facts, self.obstacle) if part)
        return f"{self.name} — {facts}" if facts else self.name


class Picker(Generic[Value]):
    """A list to choose from, with a plain value: set in the browser, or by `picker.value = …`.

    Args:
        kind: What is chosen: "device" or "model".
        parameter: The parameter that the value is for.
        choices: What there is, with what cannot be chosen.
        value: The value at first; it may be one that cannot be recommended here.
        describe: Says in one line what a value means here.
    """

    def __init__(
        self,
        kind: str,
        parameter: str,
        choices: Sequence[Choice[Value]],
        value: Value,
        describe: Callable[[Value], str],
    ) -> None:
        self._kind, self._parameter, self._describe = kind, parameter, describe
        self._open = [each for each in choices if not each.obstacle or each.value == value]
        self._closed = [each for each in choices if each.obstacle and each.value != value]
        self._value = value
        self._radio: Any = None
        self._widget: Any = None

    @property
    def value(self) -> Value:
        """What is chosen, as the parameter takes it."""
        return self._value

    @value.setter
    def value(self, value: Value) -> None:
        # 0 == False and 1 == True: a slip, not a device
        names = [each.value for each in self._open]
        if isinstance(value, bool) or value not in names:
            obstacle = next((each.obstacle for each in self._closed if each.value == value), "")
            reason = "no-device-to-choose" if self._kind == "device" else "no-model-to-choose"
            hint = sentence(capitalised(obstacle)) if obstacle else ""
            raise failure(reason, hint, value=value, names=", ".join(map(repr, names)))
        self._value = value
        if self._radio is not None:
            self._radio.value = value

    def __repr__(self) -> str:
        return tr("{label}: {text}").format(label=tr(self._kind), text=self._describe(self._value))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if not front_end.widgets_work():
            return {"text/plain": repr(self)}
        if self._widget is None:
            self._widget = self._make_widget()
        return style.show(self._widget, repr(self))

    def _make_widget(self) -> Any:
        self._radio = style.made(
            "RadioButtons",
            "lp-radio",
            options=[(str(each), each.value) for each in self._open],
            value=self._value,
            description=capitalised(tr(self._kind)),
        )
        chosen = style.made("HTML", "lp-chosen", self._chosen())

        def choose(change: dict[str, Any]) -> None:
            self._value = change["new"]
            chosen.value = self._chosen()

        self._radio.observe(choose, names="value")
        closed = style.made("HTML", "lp-closed", self._closed_rows())
        parts = [self._radio, *([closed] if self._closed else []), chosen]
        return style.styled("lp-picker", parts)

    def _closed_rows(self) -> str:
        rows = "".join(
            f'<label><input type="radio" disabled><span>{escape(str(replace(each, obstacle="")))}'
            f'<span class="lp-why"> · {escape(each.obstacle)}</span></span></label>'
            for each in self._closed
        )
        label = escape(tr("Not to be had here"))
        return f'<div role="group" aria-label="{label}">{rows}</div>'

    def _chosen(self) -> str:
        value = f'"{self._value}"' if isinstance(self._value, str) else str(self._value)
        return (
            f"<code>{self._parameter} = {escape(value, quote=False)}</code> "
            f"<span>{escape(self._describe(self._value))}</span>"
        )


def device_picker(value: str | int = "auto") -> Picker[str | int]:
    """Show the devices of this machine to choose from, and why others are not there.

    Args:
        value: The device at first, as `select_device` takes it: "auto", a name or a number.

    Returns:
        A picker. Its `.value` is what `DEVICE` takes: "auto", -1 for the CPU, 0 for the first
        GPU. Without a browser it shows one line.

    Raises:
        DeviceError: The machine has no such device.
    """
    best, wanted = select_device(), select_device(value)
    facts = tr("the best one here: {device}").format(device=best.name)
    choices: list[Choice[str | int]] = [Choice(value="auto", name="auto", facts=facts)]
    for device in available_devices():
        memory = f"{device.memory_total / 1e9:.0f} GB" if device.memory_total else ""
        facts = " · ".join(filter(None, (device.hardware, device.dtype, memory)))
        number = _number(device.name, device.index)
        if device.name == wanted.name and str(value).strip().lower() != "auto":
            value = number
        choices.append(Choice(value=number, name=device.name, facts=facts))
    choices += _absent_devices({str(choice.name).split(":")[0] for choice in choices})
    return Picker(mark("device"), "DEVICE", choices, value, _describe_device)


def _number(name: str, index: int) -> str | int:
    """The number of a device, or its name where the number means another one."""
    return index if select_device(index).name == name else name


def _describe_device(value: str | int) -> str:
    device = select_device(value)
    return tr("{name} ({facts})").format(name=device.name, facts=fragment(device.reason))


def _absent_devices(present: set[str]) -> Iterator[Choice[str | int]]:
    makers = {"cuda": tr("NVIDIA or AMD GPU"), "xpu": tr("Intel GPU"), "mps": tr("Apple GPU")}
    for family in [each for each in makers if each not in present]:
        reason = tr("torch finds none in this machine")
        try:
            select_device(family)
        except DeviceError as error:
            if family == "cuda":  # the cause it gives is about CUDA, whichever was asked for
                reason = fragment(error.cause) or reason
        yield Choice(value=family, name=family, facts=makers[family], obstacle=reason)


def model_picker(value: str = "pocket") -> Picker[str]:
    """Show the models of the catalogue to choose from, and why others cannot be had here.

    Nothing is downloaded, and the Hub is not asked.

    Args:
        value: The model at first: "pocket", an id of the Hub, or a folder. It can be chosen
            whatever speaks against it.

    Returns:
        A picker. Its `.value` is what `MODEL_ID` takes. Without a browser it shows one line.

    Raises:
        ModelError: `value` cannot be a model's name, or is a folder without a model.
    """
    entry = catalogue().find(value) if isinstance(value, str) else None
    wanted = entry.id if entry else str(value).strip()
    model = None if entry else locate(value)
    device = select_device()
    choices = [_model_choice(each.id, device) for each in catalogue()]
    if wanted not in {choice.value for choice in choices}:
        choices.append(
            _model_choice(wanted, device)
            if model and (model.place or model.gguf)
            else Choice(value=wanted, name=wanted, facts=tr("from the Hub, not downloaded yet"))
        )
    lines = {choice.value: choice for choice in choices}

    def describe(name: str) -> str:
        facts = filter(None, [*lines[name].facts.split(" · "), lines[name].obstacle])
        return tr("{name} ({facts})").format(name=lines[name].name, facts=tr(", ").join(facts))

    return Picker(mark("model"), "MODEL_ID", choices, wanted, describe)


def _model_choice(model_id: str, device: Any) -> Choice[str]:
    try:
        fit = will_it_fit(model_id, device)
    except ModelError as error:
        return Choice(value=model_id, name=model_id, facts="", obstacle=fragment(error.fact))
    entry = catalogue().find(model_id)
    facts = [tr("size unknown") if fit.download_bytes is None else gigabytes(fit.download_bytes)]
    if entry:
        facts += [tr("chats") if entry.has_chat_template else tr("continues a text")]
        facts += [tr("gated")] if entry.gated else []
    facts.append(tr("already here") if fit.cached or fit.file else tr("to download"))
    obstacle = _obstacle(fit, gated=bool(entry and entry.gated))
    if fit:
        facts.append(tr("fits") if fit.verdict == "fits" else tr("fits tightly"))
    return Choice(value=model_id, name=model_id, facts=" · ".join(facts), obstacle=obstacle)


def _obstacle(fit: Any, *, gated: bool) -> str:
    """Why a model cannot be had here, the most stubborn reason first; empty if it can."""
    if fit.verdict == "does not fit":
        if fit.disk_free is not None and (fit.download_bytes or 0) > fit.disk_free:
            reason = tr("does not fit on the disk: {free} are free")
            return reason.format(free=gigabytes(fit.disk_free))
        reason = tr("does not fit: needs {needed}, {free} are free on {device}")
        needed, free = gigabytes(fit.memory_needed), gigabytes(fit.memory_free)
        return reason.format(needed=needed, free=free, device=fit.device)
    if fit.cached:
        return ""
    if hub_is_offline():
        return tr("not downloaded, and HF_HUB_OFFLINE forbids it")
    try:
        if gated and not find_token():
            return tr("wants a login: accept its terms on its page, then run login()")
    except CredentialError as error:
        return fragment(error.fact)
    return ""
