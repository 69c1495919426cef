"""Writes tiny GGUF files: random models, models of torch's, and headers that no model has."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, get_tensor_name_map
from gguf.constants import MODEL_ARCH_NAMES, GGMLQuantizationType
from gguf.quants import quantize

WIDTH, HIDDEN, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2
ROPE = 10000.0
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)


def write_torch_model(path: Path, model: Any, **changed: Any) -> None:
    """Write a model of transformers, as llama.cpp's convert_hf_to_gguf.py does, in 32 bits."""
    kind = model.config.model_type
    arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == kind)
    names = get_tensor_name_map(arch, LAYERS)
    tensors = {}
    for name, value in model.state_dict().items():
        numbers = value.numpy()
        part = ("q_proj.weight" in name and HEADS) or ("k_proj.weight" in name and KV_HEADS)
        if kind == "llama" and part:
            halves = numbers.reshape(part, 2, numbers.shape[0] // part // 2, -1)
            numbers = halves.swapaxes(1, 2).reshape(numbers.shape)
        if not (name == "lm_head.weight" and model.config.tie_word_embeddings):
            tensors[names.get_name(name, try_suffixes=(".weight", ".bias"))] = numbers
    write_model(path, architecture=kind, tensors=tensors, kind=GGMLQuantizationType.F32, **changed)


def byte_words() -> list[str]:
    """The 256 letters that stand for bytes in a byte-level vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


MERGES = ["Ġ t", "Ġt h", "1 2", "12 3"]
WORDS = [*MARKS, *byte_words(), "Ġt", "Ġth", "12", "123"]


def write_model(path: Path, **changed: Any) -> dict[str, np.ndarray]:
    """Write a model, a random one if not given, and give its tensors before the rounding.

    Args:
        path: The file.
        changed: What shall be otherwise: architecture, pre, kind (the format of its numbers),
            tensors (by llama.cpp's names), extra (more of them), settings (of the architecture),
            metadata.
    """
    words = WORDS
    rng = np.random.default_rng(7)
    writer = GGUFWriter(str(path), changed.get("architecture", "llama"))
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(ROPE)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, value in changed.get("settings", {}).items():
        writer.kv_data[0].pop(f"{changed.get('architecture', 'llama')}.{name}", None)
        add = writer.add_uint32 if isinstance(value, int) else writer.add_string
        add(f"{changed.get('architecture', 'llama')}.{name}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changed.get("pre", "smollm"))
    writer.add_token_list(words)
    writer.add_token_types([3] * len(MARKS) + [1] * (len(words) - len(MARKS)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    for name, value in changed.get("metadata", {}).items():
        writer.kv_data[0].pop(name, None)
        writer.add_uint32(name, value)
    tensors = changed.get("tensors") or dict(_tensors(rng, len(words)))
    tensors |= changed.get("extra", {})
    wide = changed.get("kind", GGMLQuantizationType.Q8_0)
    for name, numbers in tensors.items():
        kind = GGMLQuantizationType.F32 if numbers.ndim == 1 else wide
        writer.add_tensor(name, quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def _tensors(rng: np.random.Generator, words: int) -> Any:
    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.05, shape).astype(np.float32)

    kv_width = WIDTH // HEADS * KV_HEADS
    yield "token_embd.weight", drawn(words, WIDTH)
    for layer in range(LAYERS):
        yield f"blk.{layer}.attn_norm.weight", np.ones(WIDTH, np.float32)
        yield f"blk.{layer}.attn_q.weight", drawn(WIDTH, WIDTH)
        yield f"blk.{layer}.attn_k.weight", drawn(kv_width, WIDTH)
        yield f"blk.{layer}.attn_v.weight", drawn(kv_width, WIDTH)
        yield f"blk.{layer}.attn_output.weight", drawn(WIDTH, WIDTH)
        yield f"blk.{layer}.ffn_norm.weight", np.ones(WIDTH, np.float32)
        yield f"blk.{layer}.ffn_gate.weight", drawn(HIDDEN, WIDTH)
        yield f"blk.{layer}.ffn_up.weight", drawn(HIDDEN, WIDTH)
        yield f"blk.{layer}.ffn_down.weight", drawn(WIDTH, HIDDEN)
    yield "output_norm.weight", np.ones(WIDTH, np.float32)


def header(*, version: int = 3, tensors: int = 0, entries: int = 0, rest: bytes = b"") -> bytes:
    """The beginning of a GGUF file, with whatever counts."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + rest


def text(word: str, length: int | None = None) -> bytes:
    raw = word.encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw
