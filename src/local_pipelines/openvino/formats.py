"""The formats that a model is exported to, and the group sizes of int4."""

from __future__ import annotations

import re
from pathlib import Path

from local_pipelines.errors import failure
from local_pipelines.models.checkpoint import read_json
from local_pipelines.models.names import Model
from local_pipelines.wording.grammar import nearest
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.checks import is_whole

BYTES_PER_WEIGHT = {"fp32": 4.0, "int8": 1.1, "int4": 0.8}  # embeddings stay in int8 with int4
_GROUP_SIZES = (128, 64, 32)
_NOT_INT4 = re.compile(r"embed|lm_head|\bw[tp]e\b")


def checked_format(weight_format: object) -> str:
    """Give a format that can be exported, or raise ParameterError."""
    if isinstance(weight_format, str) and weight_format in BYTES_PER_WEIGHT:
        return weight_format
    near = nearest(str(weight_format).lower(), BYTES_PER_WEIGHT) or "int8"
    names = ", ".join(map(repr, BYTES_PER_WEIGHT))
    raise failure("no-such-format", weight_format=weight_format, names=names, near=near)


def check_group_size(size: object, weight_format: str) -> None:
    """Raise ParameterError for a group size that cannot be."""
    if size is None:
        return
    if weight_format != "int4":
        raise failure("group-size-without-int4", size=size, weight_format=weight_format)
    if not is_whole(size, -1) or size == 0:
        raise failure("no-group-size", size=size)


def choose_group_size(weight_format: str, wanted: int | None, model: Model) -> int | None:
    """The group size of int4: the one asked for, or the largest that divides all layers."""
    if weight_format != "int4":
        return None
    widths = _checkpoint_widths(model)
    fitting = [size for size in _GROUP_SIZES if all(width % size == 0 for width in widths)]
    if wanted is None:
        return fitting[0] if widths and fitting else -1
    odd = [width for width in sorted(widths) if width % wanted] if wanted > 0 else []
    if odd:
        names = tr(" or ").join(f"group_size={size}" for size in (*fitting, -1))
        raise failure("group-size-does-not-divide", group_size=wanted, odd=odd[0], names=names)
    return wanted


def _checkpoint_widths(model: Model) -> set[int]:
    """How wide the rows of the layers are that int4 changes: all but embeddings and the last."""
    kind = read_json((model.folder or Path()) / "config.json").get("model_type")
    # These few keep their layers transposed: transformers.pytorch_utils.Conv1D.
    turned = kind in ("gpt2", "openai-gpt", "imagegpt", "clvp")
    return {
        tensor.shape[-2] if turned else tensor.shape[-1]
        for name, tensor in model.tensors.items()
        if len(tensor.shape) >= 2 and name.endswith("weight") and not _NOT_INT4.search(name)
    }
