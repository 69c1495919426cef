"""Writes tiny GGUF files: a model of Llama's type, and headers that no model has."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

WIDTH, HIDDEN, HEADS, KV_HEADS, LAYERS = 64, 96, 4, 2, 2
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)


def byte_words() -> list[str]:
    """The 256 letters that stand for bytes in a byte-level vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def write_model(path: Path, **changed: Any) -> dict[str, np.ndarray]:
    """Write a random model and give its tensors by llama.cpp's names, before the rounding."""
    rng = np.random.default_rng(7)
    words = [*MARKS, *byte_words(), "Ġt", "Ġth"]
    writer = GGUFWriter(str(path), changed.get("architecture", "llama"))
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changed.get("pre", "smollm"))
    writer.add_token_list(words)
    writer.add_token_types([3] * len(MARKS) + [1] * (len(words) - len(MARKS)))
    writer.add_token_merges(["Ġ t", "Ġt h"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    tensors = dict(_tensors(rng, len(words)))
    for name, numbers in tensors.items():
        kind = GGMLQuantizationType.F32 if numbers.ndim == 1 else GGMLQuantizationType.Q8_0
        raw = numbers if numbers.ndim == 1 else quantize(numbers, kind)
        writer.add_tensor(name, raw, raw_dtype=None if numbers.ndim == 1 else kind)
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
