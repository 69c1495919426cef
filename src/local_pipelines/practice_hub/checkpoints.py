"""Tiny checkpoints of the Llama architecture, written without torch, with random numbers.

A model library loads them without a complaint, and what they say is noise. Their only use is that
every step around a model can be practised in a second: the names, the files, the download.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

Files = dict[str, bytes]

_FOLDER = Path(__file__).with_name("llama")  # its small files: .json and .jinja
_SPECIAL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


def llama(*, chat: bool = True, seed: int = 4) -> Files:
    """A model of the Llama architecture.

    Args:
        chat: It has a chat template.
        seed: Other numbers, other weights.
    """
    files = {file.name: file.read_bytes() for file in sorted(_FOLDER.glob("*.j*"))}
    draw = np.random.default_rng(seed).normal
    weights = {
        # Scales of the normalisation start as ones.
        name: (np.ones(shape) if len(shape) == 1 else draw(0, 0.02, shape)).astype(np.float32)
        for name, shape in _shapes(**json.loads(files["config.json"])).items()
    }
    files["model.safetensors"] = save(weights, {"format": "pt"})
    files["tokenizer.json"] = _tokenizer().encode()
    if not chat:
        del files["chat_template.jinja"]
    return files


def _shapes(
    *, hidden_size: int, intermediate_size: int, num_hidden_layers: int, vocab_size: int, **_: Any
) -> dict[str, tuple[int, ...]]:
    """What the weights of the architecture are called, and how large they are."""
    width, up = (hidden_size,), (intermediate_size, hidden_size)
    block: dict[str, tuple[int, ...]] = {
        "input_layernorm": width,
        **{f"self_attn.{name}_proj": width * 2 for name in "qkvo"},
        "post_attention_layernorm": width,
        "mlp.gate_proj": up,
        "mlp.up_proj": up,
        "mlp.down_proj": up[::-1],
    }
    return {
        "model.embed_tokens.weight": (vocab_size, hidden_size),
        "model.norm.weight": width,
        **{
            f"model.layers.{layer}.{name}.weight": shape
            for layer in range(num_hidden_layers)
            for name, shape in block.items()
        },
    }


def shard(files: Files, parts: int = 2) -> Files:
    """The same checkpoint with its weights in several files and an index of them."""
    tensors = load(files["model.safetensors"])
    names = sorted(tensors)
    size = math.ceil(len(names) / parts)
    sharded = {name: data for name, data in files.items() if name != "model.safetensors"}
    weight_map: dict[str, str] = {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        chosen = names[part * size : (part + 1) * size]
        sharded[file] = save({name: tensors[name] for name in chosen}, {"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return {**sharded, "model.safetensors.index.json": json.dumps(index, indent=1).encode()}


def _tokenizer() -> str:
    """One token a byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = [*_SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bpe = models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([*_SPECIAL])
    text: str = tokenizer.to_str()
    return text
