"""From a GGUF file of a Llama or Qwen model to a checkpoint in the Hugging Face layout.

transformers reads such files as well, but turns a byte-level vocabulary into a tokenizer of another
kind, and leaves out how Llama 3 stretches its positions. OpenVINO GenAI reads them, but rounds the
numbers once more: of 15 prompts one had the answer that torch gives. Here each part comes from the
file's own metadata.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

from local_pipelines.errors import LocalPipelinesError, ModelError
from local_pipelines.models.gguf import GgufFile, GgufTensor
from local_pipelines.wording.messages import tr

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_STRETCH = "rope_freqs.weight"  # Llama 3's: no trained numbers, but how its positions are stretched
_CONTROL, _ADDED = 3, 4  # the types of tokens such as <|im_end|>, and of those that a text shows
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How a tokenizer of that name in llama.cpp cuts a text before it looks for tokens.
_CUTS = {
    "smollm": "",  # into digits, and what GPT-2 cuts a text into
    "qwen2": _WORDS.format(digits=""),
    "llama-bpe": _WORDS.format(digits="{1,3}"),
}
# What numbers are written as, by their format in the file: the names in safetensors and in torch.
_WRITTEN = {0: ("F32", "float32", 4), 1: ("F16", "float16", 2)}
_ROUNDED = ("BF16", "bfloat16", 2)


def write_checkpoint(gguf: GgufFile, folder: Path) -> None:
    """Write config.json, generation_config.json, weights in 16 bits and tokenizer files.

    Args:
        gguf: The file's header; its weights are de-quantised, a tensor at a time. They are written
            as they are where the file has 16 or 32 bits a number, else in bfloat16.
        folder: An existing, empty folder.

    Raises:
        ModelError: The model is of another architecture, or its tokenizer of another kind, or the
            file is not whole.
    """
    check_convertible(gguf)
    try:
        _write_json(folder / "config.json", _config(gguf))
        _write_json(folder / "generation_config.json", _defaults(gguf))
        _write_tokenizer(gguf, folder)
        _write_weights(gguf, folder / "model.safetensors")
    except (LocalPipelinesError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            tr("What {file} says of its model cannot be.").format(file=gguf.path.name),
            f"{type(error).__name__}: {error}."[:300],
            tr("Fetch the file again, or take another one."),
        ) from error


def check_convertible(gguf: GgufFile) -> None:
    """Raise ModelError for a file of which its header says that it cannot be converted here."""
    told, file = gguf.metadata, gguf.path.name
    step = tr("Take the model's safetensors, or run the file with llama.cpp, Ollama or LM Studio.")
    if told.get("split.count", 1) != 1:
        cause = tr("It is one part of a model that was cut into several files.")
        step = tr("Join them with `llama-gguf-split --merge`, and name the file that it writes.")
    elif gguf.architecture not in _CLASSES:
        cause = tr("Its architecture is {name!r}; read here are {known}.")
        cause = cause.format(name=gguf.architecture[:40], known=", ".join(_CLASSES))
    elif (name := _tokenizer_name(gguf)) not in _CUTS:
        cause = tr("Its tokenizer is {name!r}; read here are {known}.")
        cause = cause.format(name=name[:40], known=", ".join(_CUTS))
    elif gguf.setting("rope.scaling.type", "none") != "none":
        cause = tr("It counts positions in a way that is not read here.")
    elif name := _unreadable_format(gguf):
        cause = tr("Its numbers are in the format {name}, which the package gguf does not read.")
        cause = cause.format(name=name)
    elif name := next((each.name for each in gguf.tensors if not _name(gguf, each.name)), ""):
        cause = tr("The tensor {name} is not one of a Llama model.").format(name=name)
    elif any(tensor.offset + _size(tensor) > gguf.path.stat().st_size for tensor in gguf.tensors):
        fact = tr("{file} is cut off: its header announces more than the file holds.")
        raise ModelError(
            fact.format(file=file),
            tr("It was probably copied or downloaded only in part."),
            tr("Delete it and fetch it again."),
        )
    else:
        return
    raise ModelError(tr("{file} cannot be converted here.").format(file=file), cause, step)


def written_bytes(gguf: GgufFile) -> int:
    """How many bytes the weights of its checkpoint take."""
    return gguf.parameters * _written(gguf)[2]


def _tokenizer_name(gguf: GgufFile) -> str:
    kind = gguf.metadata.get("tokenizer.ggml.model")
    return str(gguf.metadata.get("tokenizer.ggml.pre") if kind == "gpt2" else kind)


def main_format(gguf: GgufFile) -> str:
    """The format of most numbers in the file, as llama.cpp calls it, such as "Q4_K"."""
    from gguf.constants import GGMLQuantizationType

    return GGMLQuantizationType(gguf.main_kind).name


def _written(gguf: GgufFile) -> tuple[str, str, int]:
    """The number format of the checkpoint: that of most numbers, where it is no smaller one."""
    return _WRITTEN.get(gguf.main_kind, _ROUNDED)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _marks(gguf: GgufFile) -> dict[str, int]:
    """The tokens that begin, end and fill a text, as far as the file names them."""
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    told = {key: f"tokenizer.ggml.{name}_token_id" for key, name in names.items()}
    found = {key: gguf.metadata[name] for key, name in told.items() if name in gguf.metadata}
    return {**found, "pad_token_id": found.get("pad_token_id", found["eos_token_id"])}


def _defaults(gguf: GgufFile) -> dict[str, Any]:
    """The marks, and among those that end an answer the one that ends a turn."""
    marks = _marks(gguf)
    end = marks["eos_token_id"]
    turn = gguf.metadata.get("tokenizer.ggml.eot_token_id", end)
    return {**marks, "eos_token_id": end if turn == end else [end, turn]}


def _config(gguf: GgufFile) -> dict[str, Any]:
    shape = gguf.shape
    sizes = {
        "head_dim": shape.head_dim,
        "hidden_size": gguf.whole("embedding_length"),
        "intermediate_size": gguf.whole("feed_forward_length"),
        "max_position_embeddings": shape.context,
        "num_attention_heads": gguf.whole("attention.head_count"),
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
    }
    if missing := [name for name, size in sizes.items() if size is None]:
        raise ValueError(f"no {missing[0]}")
    return {
        "architectures": [_CLASSES[gguf.architecture]],
        "model_type": gguf.architecture,
        "dtype": _written(gguf)[1],
        "hidden_act": "silu",
        **sizes,
        "rms_norm_eps": round(gguf.setting("attention.layer_norm_rms_epsilon"), 9),
        "rope_parameters": _positions(gguf),
        "tie_word_embeddings": gguf.tensor("output.weight") is None,
        "vocab_size": len(gguf.metadata["tokenizer.ggml.tokens"]),
        **_marks(gguf),
    }


def _positions(gguf: GgufFile) -> dict[str, Any]:
    """How positions are counted, stretched as in Llama 3 where the file has factors for that."""
    import numpy as np

    theta = gguf.setting("rope.freq_base", 10_000.0)
    if (tensor := gguf.tensor(_STRETCH)) is None:
        return {"rope_type": "default", "rope_theta": theta}
    factors = _dequantized(gguf, tensor)
    most, low, high, before = float(factors.max()), 1.0, 4.0, 8192
    waves = 2 * math.pi * theta ** (np.arange(factors.size) / factors.size)
    share = np.clip((before / waves - low) / (high - low), 0, 1)
    if not np.allclose(1 / ((1 - share) / most + share), factors, rtol=1e-3):
        raise ValueError(f"{_STRETCH} holds other numbers than Llama 3's")
    return {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": most,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": before,
    }


# --- the weights -------------------------------------------------------------------------------


def _write_weights(gguf: GgufFile, path: Path) -> None:
    """Write a safetensors file, with one tensor at a time in memory."""
    name, _, width = _written(gguf)
    tensors = {_name(gguf, each.name): each for each in gguf.tensors if each.name != _STRETCH}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, tensor in tensors.items():
        begin, end = end, end + tensor.numbers * width
        header[key] = {"dtype": name, "shape": tensor.shape, "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(head)) + head)
        for tensor in tensors.values():
            stream.write(_raw(_as_in_pytorch(gguf, tensor), name))


def _dequantized(gguf: GgufFile, tensor: GgufTensor) -> Any:
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    raw = np.memmap(gguf.path, np.uint8, "r", tensor.offset, (_size(tensor),))
    rows = raw.reshape(*tensor.shape[:-1], -1)
    return dequantize(rows, GGMLQuantizationType(tensor.kind)).reshape(tensor.shape)


def _size(tensor: GgufTensor) -> int:
    """How many bytes it takes in the file."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    return tensor.numbers // block * size


def _unreadable_format(gguf: GgufFile) -> str:
    """A number format of the file that the package gguf cannot turn into floats; "" if none."""
    import numpy as np
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    for kind in sorted({tensor.kind for tensor in gguf.tensors}):
        name = str(kind)
        try:
            form = GGMLQuantizationType(kind)
            name = form.name
            dequantize(np.zeros(GGML_QUANT_SIZES[form][1], np.uint8), form)
        except (LookupError, NotImplementedError, ValueError):
            return name
    return ""


def _as_in_pytorch(gguf: GgufFile, tensor: GgufTensor) -> Any:
    """A tensor's numbers, as they were before convert_hf_to_gguf.py paired the rows of heads."""
    numbers, part = _dequantized(gguf, tensor), tensor.name.split(".")[-2]
    heads = {"attn_q": gguf.whole("attention.head_count"), "attn_k": gguf.shape.kv_heads}.get(part)
    if gguf.architecture != "llama" or heads is None:
        return numbers
    half = numbers.shape[0] // heads // 2
    return numbers.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(numbers.shape)


def _raw(numbers: Any, name: str) -> bytes:
    """The bytes of numbers; to bfloat16 they are rounded to the nearest, half to even."""
    import numpy as np

    if name != "BF16":
        return bytes(numbers.astype({"F32": "<f4", "F16": "<f2"}[name]).tobytes())
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes())


def _name(gguf: GgufFile, name: str) -> str:
    """A tensor's name in transformers, such as "model.layers.3.mlp.up_proj.weight"; "" if none."""
    if name == _STRETCH:
        return name
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    is_odd = found and found[3] == "bias" and gguf.architecture != "qwen2"
    if found is None or found[2] not in _NAMES or is_odd:
        return ""
    layer = f"model.layers.{found[1]}." if found[1] else ""
    return f"{layer}{_NAMES[found[2]]}.{found[3]}"


# --- the tokenizer -----------------------------------------------------------------------------


def _write_tokenizer(gguf: GgufFile, folder: Path) -> None:
    """Write the byte-level tokenizer that the file's own metadata describe."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    told, pre = gguf.metadata, _tokenizer_name(gguf)
    words = told["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in told["tokenizer.ggml.merges"]]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre == "llama-bpe"))
    _set_cuts(tokenizer, pre)
    tokenizer.decoder = decoders.ByteLevel()
    for word, kind in zip(words, told["tokenizer.ggml.token_type"], strict=True):
        if kind in {_CONTROL, _ADDED}:
            add = tokenizer.add_special_tokens if kind == _CONTROL else tokenizer.add_tokens
            add([AddedToken(word, special=kind == _CONTROL, normalized=False)])
    named = {key.removesuffix("_id"): words[number] for key, number in _marks(gguf).items()}
    if told.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe"):  # as llama.cpp has it
        first = named["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[first, "$A"], special_tokens=[(first, vocabulary[first])]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "clean_up_tokenization_spaces": False,
            "model_max_length": gguf.setting("context_length"),
            "padding_side": "left",
            "tokenizer_class": "PreTrainedTokenizerFast",
            **named,
        },
    )
    if template := told.get("tokenizer.chat_template"):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _set_cuts(tokenizer: Any, pre: str) -> None:
    from tokenizers import Regex, normalizers, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(False, use_regex=not _CUTS[pre])
    cut: Any = pre_tokenizers.Digits(individual_digits=True)
    if pattern := _CUTS[pre]:
        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
    if pre == "qwen2":  # its authors' tokenizer writes é as one letter, however it was typed
        tokenizer.normalizer = normalizers.NFC()
