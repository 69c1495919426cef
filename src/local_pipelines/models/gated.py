"""Loads a model of the Hub, gated or not, so that every obstacle is one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_pipelines.errors import failure
from local_pipelines.models.contents import check_is_filled, checked_loading
from local_pipelines.models.download import fetch_model
from local_pipelines.models.names import ModelName, locate
from local_pipelines.workbench.devices import Device, select_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_gated_model(
    model_id: ModelName,
    *,
    revision: str | None = None,
    device: str | int | Device = "auto",
    **options: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Download a model, gated or not, if it is not here yet, and load it.

    The token is taken from where `login()` puts it. Only safetensors are read, and no program code
    of the model's owners is run.

    Args:
        model_id: An id of the Hub; "pocket" and folders work, too.
        revision: A branch, tag or commit of the Hub; the main branch if not given.
        device: What `select_device` takes, or what it returned.
        options: More for transformers' `from_pretrained`, such as `quantization_config` for
            4-bit weights, `attn_implementation`, or `dtype`.

    Returns:
        The model, ready to generate, and its tokenizer.

    Raises:
        CredentialError: A token is needed and there is none, or not the right one.
        AccessError: The licence is not accepted, or the owners have not said yes.
        OfflineError: The Hub cannot be reached, or the download does not get through.
        ModelError: There is no such model, or it cannot be loaded safely.
        CacheError: The disk is full, or cannot be written to.
    """
    _check_options(options)
    chosen = device if isinstance(device, Device) else select_device(device)
    model = locate(model_id)
    folder = fetch_model(model, revision=revision)
    with checked_loading(model.title, folder):
        loaded, tokenizer = _load(folder, chosen, options)
    check_is_filled(model.title, loaded, model.fetched(folder).weights)
    return loaded, tokenizer


def _check_options(options: Mapping[str, Any]) -> None:
    if "token" in options:
        raise failure("token-argument")
    if unsafe := {"trust_remote_code", "use_safetensors"} & options.keys():
        raise failure("unsafe-argument", name=unsafe.pop())


def _load(
    folder: Path, device: Device, options: Mapping[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    safe = {"trust_remote_code": False, "local_files_only": True}
    wanted = {"dtype": device.torch_dtype, **options}
    if "quantization_config" in wanted:  # such a model cannot be moved once it is loaded
        wanted.setdefault("device_map", {"": device.name})
    tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **safe, **wanted)
    if "device_map" not in wanted:
        model = model.to(device.name)
    return model.eval(), tokenizer
