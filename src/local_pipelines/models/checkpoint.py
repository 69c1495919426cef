"""What lies in a model's folder, read from its files: no torch, no transformers, no network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines.errors import LocalPipelinesError, ModelError, failure
from local_pipelines.wording.messages import ntr, tr
from local_pipelines.workbench.checks import is_whole

FLOATS = {"F64", "F32", "F16", "BF16"}  # as safetensors names its number formats
INTEGERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}  # bytes; all others take 1
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")
SIZES = {
    **dict.fromkeys(_LAYERS, 10_000),
    **dict.fromkeys((*_HEADS, "num_key_value_heads", "head_dim"), 2**16),
    **dict.fromkeys(_WIDTH, 2**20),
    **dict.fromkeys(_CONTEXT, 2**31),
    "intermediate_size": 2**24,
    "vocab_size": 2**26,
}
"""Names in a config.json that stand for whole numbers, and the most that makes sense."""

_MOST_TENSORS = 200_000  # in one file; the largest models of today have half of that in all files


@dataclass(frozen=True)
class Shape:
    """The measures of a decoder that decide how large its KV cache grows; None where unknown."""

    layers: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    context: int | None = None

    def kv_values_per_token(self) -> int | None:
        """Numbers stored for each token: a key and a value in every layer and head."""
        if self.layers is None or self.kv_heads is None or self.head_dim is None:
            return None
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Tensor:
    """One array of weights, as the header of its file announces it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """How much there is to load."""

    floats: int  # stored as floating point, and loaded in the dtype asked for
    other_bytes: int = 0  # loaded as they are: quantised weights, OpenVINO files


def weight_files(folder: Path) -> list[Path]:
    """Find all weight files of a model, at least one.

    Raises:
        ModelError: `folder` is no model in the Hugging Face or OpenVINO layout, or not a whole one.
    """
    if not (folder / "config.json").is_file():
        is_adapter = (folder / "adapter_config.json").is_file()
        raise failure("adapter" if is_adapter else "no-config", folder=folder)
    # The names that transformers looks for, in its order.
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / "model.safetensors.index.json").is_file():
        return _shards(folder / "model.safetensors.index.json")
    if not (folder / "openvino_model.xml").is_file():
        raise _no_weights(folder)
    if (folder / "openvino_model.bin").is_file():
        return [folder / "openvino_model.bin"]
    raise failure("half-export", folder=folder)


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Read the headers of the safetensors files among `files`, or raise ModelError."""
    headers = (_header(file) for file in files if file.suffix == ".safetensors")
    return {name: tensor for header in headers for name, tensor in header.items()}


def weigh(files: Iterable[Path], tensors: Mapping[str, Tensor]) -> Weights:
    """Count what there is to load: `tensors`, and all bytes of files in other formats."""
    floats, other = 0, sum(f.stat().st_size for f in files if f.suffix != ".safetensors")
    for tensor in tensors.values():
        if tensor.dtype in FLOATS:
            floats += math.prod(tensor.shape)
        else:
            other += math.prod(tensor.shape) * INTEGERS.get(tensor.dtype, 1)
    return Weights(floats, other)


def formats_in(folder: Path) -> frozenset[str]:
    """In which formats a folder has weights: "safetensors", "openvino", "gguf", "pickle"."""
    patterns = {
        "safetensors": ("model.safetensors", "model.safetensors.index.json"),
        "openvino": ("openvino_model.xml",),
        "gguf": ("*.gguf",),
        "pickle": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    }
    return frozenset(
        name for name, globs in patterns.items() if any(any(folder.glob(glob)) for glob in globs)
    )


def read_shape(folder: Path) -> Shape:
    """Read the measures from `config.json`, under whichever names the model's family has them."""
    config: dict[str, Any] = {}
    with suppress(ModelError):
        config = read_json(folder / "config.json")
    inner = config.get("text_config")  # models that also see keep their decoder in there
    text = inner if inner and isinstance(inner, dict) else config
    heads, width = _whole_setting(text, *_HEADS), _whole_setting(text, *_WIDTH)
    return Shape(
        layers=_whole_setting(text, *_LAYERS),
        kv_heads=_whole_setting(text, "num_key_value_heads") or heads,
        head_dim=_whole_setting(text, "head_dim") or (width // heads if width and heads else None),
        context=_whole_setting(text, *_CONTEXT),
    )


def _whole_setting(config: dict[str, Any], *names: str) -> int | None:
    return next((config[n] for n in names if is_whole(config.get(n), 1, SIZES[n])), None)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file of a model, which holds an object, or raise ModelError."""
    fault = "no-json"
    try:
        text = file.read_text(encoding="utf-8")
        fault = "web-page" if text.lstrip().startswith("<") else fault
        content = json.loads(text)
        if isinstance(content, dict):
            return content
    except (OSError, ValueError, RecursionError):
        pass
    raise failure(fault, file=file)


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        paths = [Path(name) for name in names]
        if not paths or any(path.is_absolute() or ".." in path.parts for path in paths):
            raise ValueError("no files, or files outside the folder")
    except (ModelError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise failure("no-index", index=index) from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        fact = tr("{folder} lacks the weight file {name}, of {total}.")
        if more := len(missing) - 1:
            fact = ntr(
                "{folder} lacks the weight file {name} and {more} more, of {total}.",
                "{folder} lacks the weight file {name} and {more} more, of {total}.",
                more,
            )
        raise ModelError(
            fact.format(folder=index.parent, name=missing[0], more=more, total=len(names)),
            tr("The model was probably copied or downloaded only in part."),
            ntr(
                "Add the missing file, or fetch the model again.",
                "Add the missing files, or fetch the model again.",
                len(missing),
            ),
        )
    return [index.parent / name for name in names]


def _no_weights(folder: Path) -> LocalPipelinesError:
    if any(folder.glob("pytorch_model*.bin")):
        return failure("pickled", folder=folder)
    if others := sorted(file.name for file in folder.glob("*.safetensors")):
        return failure("parts-without-index", folder=folder, file=others[0])
    return failure("no-weights", folder=folder)


def _header(file: Path) -> dict[str, Tensor]:
    """Read what a safetensors file announces; its library checks that sizes and file agree."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:  # type: ignore[no-untyped-call]
            names = opened.keys()
            if not 0 < len(names) <= _MOST_TENSORS:
                raise _not_safetensors(file)
            slices = {name: opened.get_slice(name) for name in names}
            return {n: Tensor(s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
    except SafetensorError as error:
        if "incomplete" not in str(error).lower():
            raise _not_safetensors(file) from error
        raise failure("cut-off", file=file) from error
    except OSError as error:
        raise _not_safetensors(file) from error


def _not_safetensors(file: Path) -> LocalPipelinesError:
    with suppress(OSError), file.open("rb") as stream:
        if stream.read(11) == b"version htt":
            return failure("git-lfs", file=file)
    return failure("no-safetensors", file=file)
