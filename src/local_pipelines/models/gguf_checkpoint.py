"""From a GGUF file of a Llama-type model to a checkpoint in the Hugging Face layout.

transformers reads such files as well, but turns a byte-level vocabulary into a tokenizer of another
kind. Here each part comes from the file's own metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_pipelines.errors import ModelError
from local_pipelines.models.gguf import GgufFile, GgufTensor
from local_pipelines.wording.messages import tr

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL = 3  # the token type of marks such as <|im_end|>


def write_checkpoint(gguf: GgufFile, folder: Path) -> None:
    """Write config.json, generation_config.json, weights in bfloat16 and tokenizer files.

    Args:
        gguf: The file's header; its weights are de-quantised, a tensor at a time.
        folder: An existing, empty folder.

    Raises:
        ModelError: The model is of another architecture, or its tokenizer of another kind.
    """
    if gguf.architecture != "llama" or gguf.metadata.get("tokenizer.ggml.pre") != "smollm":
        raise ModelError(
            tr("{file} cannot be converted here.").format(file=gguf.path.name),
            tr("Only Llama-type models with SmolLM's tokenizer can."),
        )
    _write_json(folder / "config.json", _config(gguf))
    _write_json(folder / "generation_config.json", _ends(gguf))
    _write_tokenizer(gguf, folder)
    _write_weights(gguf, folder / "model.safetensors")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _ends(gguf: GgufFile) -> dict[str, Any]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return {key: gguf.metadata[f"tokenizer.ggml.{name}_token_id"] for key, name in names.items()}


def _config(gguf: GgufFile) -> dict[str, Any]:
    heads = gguf.setting("attention.head_count")
    tied = not any(tensor.name == "output.weight" for tensor in gguf.tensors)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": gguf.setting("embedding_length"),
        "intermediate_size": gguf.setting("feed_forward_length"),
        "max_position_embeddings": gguf.setting("context_length"),
        "num_attention_heads": heads,
        "num_hidden_layers": gguf.setting("block_count"),
        "num_key_value_heads": gguf.setting("attention.head_count_kv", heads),
        "rms_norm_eps": round(gguf.setting("attention.layer_norm_rms_epsilon"), 9),
        "rope_parameters": {"rope_type": "default", "rope_theta": gguf.setting("rope.freq_base")},
        "tie_word_embeddings": tied,
        "vocab_size": len(gguf.metadata["tokenizer.ggml.tokens"]),
        **_ends(gguf),
    }


# --- the weights -------------------------------------------------------------------------------


def _write_weights(gguf: GgufFile, path: Path) -> None:
    from safetensors import serialize_file

    write: Any = serialize_file  # it has no types
    write(dict(_tensors(gguf)), str(path), {"format": "pt"})


def _tensors(gguf: GgufFile) -> Iterator[tuple[str, dict[str, Any]]]:
    import numpy as np

    data = np.memmap(gguf.path, np.uint8, mode="r")
    for tensor in gguf.tensors:
        numbers = _dequantized(data, tensor)
        if heads := _heads(gguf, tensor.name):
            numbers = _rows_as_in_pytorch(numbers, heads)
        raw = _bfloat16(numbers).tobytes()
        yield (
            _name(tensor.name),
            {"dtype": "bfloat16", "shape": list(tensor.shape), "data": raw},
        )


def _dequantized(data: Any, tensor: GgufTensor) -> Any:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType(tensor.kind)
    block, size = GGML_QUANT_SIZES[kind]
    raw = data[tensor.offset : tensor.offset + tensor.numbers // block * size]
    rows = raw.reshape(*tensor.shape[:-1], -1)
    return dequantize(rows, kind).reshape(tensor.shape)


def _heads(gguf: GgufFile, name: str) -> int:
    """By how many heads the file has a tensor's rows reordered; 0 if it has not."""
    if name.endswith("attn_q.weight"):
        return int(gguf.setting("attention.head_count"))
    if name.endswith("attn_k.weight"):
        return int(gguf.setting("attention.head_count_kv"))
    return 0


def _rows_as_in_pytorch(numbers: Any, heads: int) -> Any:
    """Undo `permute` of llama.cpp's convert_hf_to_gguf.py, which pairs the rows of each head."""
    half = numbers.shape[0] // heads // 2
    return numbers.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(numbers.shape)


def _bfloat16(numbers: Any) -> Any:
    """The upper halves of 32-bit numbers, rounded to the nearest, half to even."""
    import numpy as np

    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _name(name: str) -> str:
    """A tensor's name in transformers.

    >>> _name("blk.3.attn_q.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
    if found is None or found[2] not in _NAMES:
        raise ModelError(tr("The tensor {name} is not one of a Llama model.").format(name=name))
    layer = f"model.layers.{found[1]}." if found[1] else ""
    return f"{layer}{_NAMES[found[2]]}.weight"


# --- the tokenizer -----------------------------------------------------------------------------


def _write_tokenizer(gguf: GgufFile, folder: Path) -> None:
    """Write the byte-level tokenizer that takes digits one by one and puts nothing in front."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words = gguf.metadata["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in gguf.metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = gguf.metadata["tokenizer.ggml.token_type"]
    marks = [word for word, kind in zip(words, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens(
        [AddedToken(mark, special=True, normalized=False) for mark in marks]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {key.replace("_id", ""): words[number] for key, number in _ends(gguf).items()}
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
    template = gguf.metadata["tokenizer.chat_template"]
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
