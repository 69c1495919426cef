"""Tiny checkpoints of real architectures, written without torch: the right tensors, random numbers.

A model library loads them without a complaint, and what they say is noise. Their only use is that
every step around a model can be practised in a second: the names, the files, the download.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Mapping

__all__ = ["CHAT_TEMPLATE", "bloom", "gpt2", "llama", "phi3", "shard"]

Shapes = Mapping[str, tuple[int, ...]]
Files = dict[str, bytes]

_SPECIAL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_VOCAB = len(_SPECIAL) + 256
_WIDTH, _INNER, _LAYERS, _HEADS, _CONTEXT = 16, 32, 2, 2, 256

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def gpt2() -> Files:
    """A base model of the GPT-2 architecture, without a chat template."""
    block: Shapes = {
        "ln_1.weight": (_WIDTH,),
        "ln_1.bias": (_WIDTH,),
        "attn.c_attn.weight": (_WIDTH, 3 * _WIDTH),
        "attn.c_attn.bias": (3 * _WIDTH,),
        "attn.c_proj.weight": (_WIDTH, _WIDTH),
        "attn.c_proj.bias": (_WIDTH,),
        "ln_2.weight": (_WIDTH,),
        "ln_2.bias": (_WIDTH,),
        "mlp.c_fc.weight": (_WIDTH, 4 * _WIDTH),
        "mlp.c_fc.bias": (4 * _WIDTH,),
        "mlp.c_proj.weight": (4 * _WIDTH, _WIDTH),
        "mlp.c_proj.bias": (_WIDTH,),
    }
    shapes = {
        "transformer.wte.weight": (_VOCAB, _WIDTH),
        "transformer.wpe.weight": (_CONTEXT, _WIDTH),
        **_stacked("transformer.h", block),
        "transformer.ln_f.weight": (_WIDTH,),
        "transformer.ln_f.bias": (_WIDTH,),
    }
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": _WIDTH,
        "n_head": _HEADS,
        "n_layer": _LAYERS,
        "n_positions": _CONTEXT,
    }
    return _checkpoint(config, shapes, seed=2)


def bloom() -> Files:
    """A base model of the BLOOM architecture, without a chat template."""
    block: Shapes = {
        "input_layernorm.weight": (_WIDTH,),
        "input_layernorm.bias": (_WIDTH,),
        "self_attention.query_key_value.weight": (3 * _WIDTH, _WIDTH),
        "self_attention.query_key_value.bias": (3 * _WIDTH,),
        "self_attention.dense.weight": (_WIDTH, _WIDTH),
        "self_attention.dense.bias": (_WIDTH,),
        "post_attention_layernorm.weight": (_WIDTH,),
        "post_attention_layernorm.bias": (_WIDTH,),
        "mlp.dense_h_to_4h.weight": (4 * _WIDTH, _WIDTH),
        "mlp.dense_h_to_4h.bias": (4 * _WIDTH,),
        "mlp.dense_4h_to_h.weight": (_WIDTH, 4 * _WIDTH),
        "mlp.dense_4h_to_h.bias": (_WIDTH,),
    }
    shapes = {
        "transformer.word_embeddings.weight": (_VOCAB, _WIDTH),
        "transformer.word_embeddings_layernorm.weight": (_WIDTH,),
        "transformer.word_embeddings_layernorm.bias": (_WIDTH,),
        **_stacked("transformer.h", block),
        "transformer.ln_f.weight": (_WIDTH,),
        "transformer.ln_f.bias": (_WIDTH,),
    }
    config = {
        "architectures": ["BloomForCausalLM"],
        "model_type": "bloom",
        "hidden_size": _WIDTH,
        "n_head": _HEADS,
        "n_layer": _LAYERS,
    }
    return _checkpoint(config, shapes, seed=1)


def phi3() -> Files:
    """A chat model of the Phi-3 architecture."""
    block: Shapes = {
        "input_layernorm.weight": (_WIDTH,),
        "self_attn.qkv_proj.weight": (3 * _WIDTH, _WIDTH),
        "self_attn.o_proj.weight": (_WIDTH, _WIDTH),
        "post_attention_layernorm.weight": (_WIDTH,),
        "mlp.gate_up_proj.weight": (2 * _INNER, _WIDTH),
        "mlp.down_proj.weight": (_WIDTH, _INNER),
    }
    shapes = {
        "model.embed_tokens.weight": (_VOCAB, _WIDTH),
        **_stacked("model.layers", block),
        "model.norm.weight": (_WIDTH,),
        "lm_head.weight": (_VOCAB, _WIDTH),
    }
    config = {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "original_max_position_embeddings": _CONTEXT,
        "sliding_window": None,
        "tie_word_embeddings": False,
        **_modern_sizes(),
    }
    return _checkpoint(config, shapes, seed=3, chat=True)


def llama() -> Files:
    """A chat model of the Llama architecture."""
    block: Shapes = {
        "input_layernorm.weight": (_WIDTH,),
        "self_attn.q_proj.weight": (_WIDTH, _WIDTH),
        "self_attn.k_proj.weight": (_WIDTH, _WIDTH),
        "self_attn.v_proj.weight": (_WIDTH, _WIDTH),
        "self_attn.o_proj.weight": (_WIDTH, _WIDTH),
        "post_attention_layernorm.weight": (_WIDTH,),
        "mlp.gate_proj.weight": (_INNER, _WIDTH),
        "mlp.up_proj.weight": (_INNER, _WIDTH),
        "mlp.down_proj.weight": (_WIDTH, _INNER),
    }
    shapes = {
        "model.embed_tokens.weight": (_VOCAB, _WIDTH),
        **_stacked("model.layers", block),
        "model.norm.weight": (_WIDTH,),
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "tie_word_embeddings": True,
        **_modern_sizes(),
    }
    return _checkpoint(config, shapes, seed=4, chat=True)


def shard(files: Files, parts: int = 2) -> Files:
    """The same checkpoint with its weights in several files and an index of them."""
    tensors = _unpack(files["model.safetensors"])
    names = list(tensors)
    size = math.ceil(len(names) / parts)
    sharded = {name: data for name, data in files.items() if name != "model.safetensors"}
    weight_map: dict[str, str] = {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        chosen = names[part * size : (part + 1) * size]
        sharded[file] = _pack({name: tensors[name] for name in chosen})
        weight_map |= dict.fromkeys(chosen, file)
    total = sum(len(data) for _, data in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return {**sharded, "model.safetensors.index.json": _json(index)}


def _modern_sizes() -> dict[str, object]:
    return {
        "hidden_size": _WIDTH,
        "intermediate_size": _INNER,
        "max_position_embeddings": _CONTEXT,
        "num_attention_heads": _HEADS,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": _HEADS,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
    }


def _stacked(prefix: str, block: Shapes) -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.{layer}.{name}": shape
        for layer in range(_LAYERS)
        for name, shape in block.items()
    }


def _checkpoint(
    config: dict[str, object], shapes: Shapes, *, seed: int, chat: bool = False
) -> Files:
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config |= {"dtype": "float32", "vocab_size": _VOCAB, **special}
    files = {
        "config.json": _json(config),
        "generation_config.json": _json({"eos_token_id": [0, _VOCAB_END], "pad_token_id": 0}),
        "model.safetensors": _pack(_random_tensors(shapes, seed)),
        "tokenizer.json": _json(_tokenizer()),
        "tokenizer_config.json": _json(_tokenizer_config()),
    }
    if chat:
        files["chat_template.jinja"] = CHAT_TEMPLATE.encode()
    return files


# --- weights: the safetensors format, by hand ---------------------------------------------------


def _random_tensors(shapes: Shapes, seed: int) -> dict[str, tuple[tuple[int, ...], bytes]]:
    generator = random.Random(seed)  # noqa: S311 - weights, not secrets
    return {name: (shape, _numbers(name, shape, generator)) for name, shape in shapes.items()}


def _numbers(name: str, shape: tuple[int, ...], generator: random.Random) -> bytes:
    count = math.prod(shape)
    if len(shape) == 1:  # scales of the normalisation start as ones, all biases as zeros
        return struct.pack(f"<{count}f", *[float(name.endswith("weight"))] * count)
    return struct.pack(f"<{count}f", *(generator.gauss(0, 0.02) for _ in range(count)))


def _pack(tensors: Mapping[str, tuple[tuple[int, ...], bytes]]) -> bytes:
    """Eight bytes (the header's length), the header as JSON, the tensors one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, (shape, data) in tensors.items():
        end = start + len(data)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight bytes
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values())


def _unpack(packed: bytes) -> dict[str, tuple[tuple[int, ...], bytes]]:
    (length,) = struct.unpack("<Q", packed[:8])
    header = json.loads(packed[8 : 8 + length])
    header.pop("__metadata__")
    body = packed[8 + length :]
    return {
        name: (tuple(entry["shape"]), body[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


# --- tokenizer: one token a byte ----------------------------------------------------------------

_VOCAB_END = _SPECIAL.index("<|end|>")


def _byte_characters() -> list[str]:
    """The visible character that byte-level tokenizers write for each byte.

    Source: `bytes_to_unicode` of GPT-2's encoder: printable bytes stand for themselves, the others
    are moved above 255.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)}
    printable |= set(range(ord("®"), ord("ÿ") + 1))
    moved = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]


def _tokenizer() -> dict[str, object]:
    special = [
        {
            "id": number,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, content in enumerate(_SPECIAL)
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    tokens = [*_SPECIAL, *_byte_characters()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [],
        },
    }


def _tokenizer_config() -> dict[str, object]:
    return {
        "clean_up_tokenization_spaces": False,
        "bos_token": _SPECIAL[0],
        "eos_token": _SPECIAL[0],
        "pad_token": _SPECIAL[0],
        "padding_side": "left",
        "model_max_length": _CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
