"""Tiny checkpoints of the Llama architecture, written without torch, with random numbers.

A model library loads them without a complaint, and what they say is noise. Their only use is that
every step around a model can be practised in a second: the names, the files, the download.
"""

from __future__ import annotations

import json
import math

import numpy as np
from safetensors.numpy import load, save

Files = dict[str, bytes]

_SPECIAL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_VOCAB = len(_SPECIAL) + 256
_WIDTH, _INNER, _LAYERS, _HEADS, _CONTEXT = 16, 32, 2, 2, 256
_NORM, _SQUARE, _UP, _DOWN = (_WIDTH,), (_WIDTH, _WIDTH), (_INNER, _WIDTH), (_WIDTH, _INNER)
_BLOCK: dict[str, tuple[int, ...]] = {
    "input_layernorm.weight": _NORM,
    **{f"self_attn.{name}_proj.weight": _SQUARE for name in "qkvo"},
    "post_attention_layernorm.weight": _NORM,
    "mlp.gate_proj.weight": _UP,
    "mlp.up_proj.weight": _UP,
    "mlp.down_proj.weight": _DOWN,
}
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "bos_token_id": 0,
    "dtype": "float32",
    "eos_token_id": 0,
    "hidden_size": _WIDTH,
    "intermediate_size": _INNER,
    "max_position_embeddings": _CONTEXT,
    "num_attention_heads": _HEADS,
    "num_hidden_layers": _LAYERS,
    "num_key_value_heads": _HEADS,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": _VOCAB,
}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def llama(*, chat: bool = True, seed: int = 4) -> Files:
    """A model of the Llama architecture.

    Args:
        chat: It has a chat template.
        seed: Other numbers, other weights.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (_VOCAB, _WIDTH),
        "model.norm.weight": (_WIDTH,),
    }
    for layer in range(_LAYERS):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in _BLOCK.items()}
    draw = np.random.default_rng(seed).normal
    weights = {
        # Scales of the normalisation start as ones.
        name: (np.ones(shape) if len(shape) == 1 else draw(0, 0.02, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    files = {
        "config.json": _json(_CONFIG),
        "generation_config.json": _json(
            {"eos_token_id": [0, _SPECIAL.index("<|end|>")], "pad_token_id": 0}
        ),
        "model.safetensors": save(weights, {"format": "pt"}),
        "tokenizer.json": _tokenizer().encode(),
        "tokenizer_config.json": _json(_TOKENIZER_CONFIG),
    }
    if chat:
        files["chat_template.jinja"] = CHAT_TEMPLATE.encode()
    return files


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
    return {**sharded, "model.safetensors.index.json": _json(index)}


_TOKENIZER_CONFIG = {
    "clean_up_tokenization_spaces": False,
    "bos_token": _SPECIAL[0],
    "eos_token": _SPECIAL[0],
    "pad_token": _SPECIAL[0],
    "padding_side": "left",
    "model_max_length": _CONTEXT,
    "tokenizer_class": "PreTrainedTokenizerFast",
}


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


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
