"""What lies in a model's folder, read from its files: no torch, no transformers, no network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines.errors import ModelError
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
        raise _no_config(folder)
    # The names that transformers looks for, in its order.
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / "model.safetensors.index.json").is_file():
        return _shards(folder / "model.safetensors.index.json")
    if not (folder / "openvino_model.xml").is_file():
        raise _no_weights(folder)
    if (folder / "openvino_model.bin").is_file():
        return [folder / "openvino_model.bin"]
    raise ModelError(
        tr("{folder} has openvino_model.xml without openvino_model.bin.").format(folder=folder),
        tr("The first describes the model, the second holds its weights."),
        tr("Copy both, or export the model again."),
    )


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
    heads, width = _first(text, *_HEADS), _first(text, *_WIDTH)
    return Shape(
        layers=_first(text, *_LAYERS),
        kv_heads=_first(text, "num_key_value_heads") or heads,
        head_dim=_first(text, "head_dim") or (width // heads if width and heads else None),
        context=_first(text, *_CONTEXT),
    )


def _first(config: dict[str, Any], *names: str) -> int | None:
    return next((config[n] for n in names if is_whole(config.get(n), 1, SIZES[n])), None)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file of a model, which holds an object, or raise ModelError."""
    cause = tr("It was probably cut off, or damaged on its way.")
    try:
        text = file.read_text(encoding="utf-8")
        if text.lstrip().startswith("<"):
            cause = tr("It holds a web page, such as the log-in page of a network.")
        content = json.loads(text)
        if isinstance(content, dict):
            return content
    except (OSError, ValueError, RecursionError):
        pass
    raise ModelError(
        tr("{file} cannot be read as JSON with names and values.").format(file=file),
        cause,
        tr("Delete it and fetch the model again."),
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        paths = [Path(name) for name in names]
        if not paths or any(path.is_absolute() or ".." in path.parts for path in paths):
            raise ValueError("no files, or files outside the folder")
    except (ModelError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            tr("{index} cannot be read as an index of weight files.").format(index=index),
            tr("It was probably cut off on its way."),
            tr("Delete the folder and fetch the model again."),
        ) from error
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


def _no_config(folder: Path) -> ModelError:
    if (folder / "adapter_config.json").is_file():
        return ModelError(
            tr("{folder} is an adapter (LoRA), not a model.").format(folder=folder),
            tr("An adapter only changes another model, which adapter_config.json names."),
            tr("Merge the two with peft's `merge_and_unload()`, or name the other model."),
        )
    return ModelError(
        tr("{folder} is no model: it has no config.json.").format(folder=folder),
        tr("A model is a folder with config.json, weights and tokenizer files side by side."),
        tr("Name the folder that holds config.json."),
    )


def _no_weights(folder: Path) -> ModelError:
    if any(folder.glob("pytorch_model*.bin")):
        fact = tr("{folder} has its weights only as .bin files, not as safetensors.")
        return ModelError(
            fact.format(folder=folder),
            tr("Such a file is a Python pickle, which can run anything when it is opened."),
            tr(
                "Take a copy with *.safetensors; if you trust this one, load it with transformers"
                " and call save_pretrained() on it, which writes safetensors."
            ),
        )
    if others := sorted(file.name for file in folder.glob("*.safetensors")):
        fact = tr("{folder} has {file} but no model.safetensors and no index of its parts.")
        return ModelError(
            fact.format(folder=folder, file=others[0]),
            tr("transformers finds weights by these names only."),
            tr("Add model.safetensors.index.json, or fetch the model again."),
        )
    return ModelError(
        tr("{folder} has config.json but no weights.").format(folder=folder),
        tr("Neither model.safetensors nor openvino_model.xml lies beside it."),
        tr("Fetch the model again, weights included."),
    )


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
        fact = tr("{file} is cut off: its header announces more than the file holds.")
        raise ModelError(
            fact.format(file=file),
            tr("It was probably copied or downloaded only in part."),
            tr("Delete it and fetch it again."),
        ) from error
    except OSError as error:
        raise _not_safetensors(file) from error


def _not_safetensors(file: Path) -> ModelError:
    with suppress(OSError), file.open("rb") as stream:
        if stream.read(11) == b"version htt":
            return ModelError(
                tr("{file} is a placeholder of Git LFS, not the weights.").format(file=file),
                tr("The repository was cloned without Git LFS."),
                tr("Run `git lfs pull` in the folder."),
            )
    return ModelError(
        tr("{file} is no safetensors file, or a damaged one.").format(file=file),
        tr("Its header cannot be read."),
        tr("Delete it and fetch it again."),
    )
