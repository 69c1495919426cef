"""A GGUF file is read within bounds, and becomes the checkpoint that it was made from."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf_files import KV_HEADS, WIDTH, header, text, write_model

from local_pipelines.errors import ModelError
from local_pipelines.models.gguf import read_gguf
from local_pipelines.models.gguf_checkpoint import write_checkpoint

ENTRY = text("a") + struct.pack("<I", 4) + struct.pack("<I", 1)
HOSTILE = {
    "nothing": b"",
    "another file": b"PK\x03\x04" + bytes(40),
    "version 1": header(version=1),
    "version 99": header(version=99),
    "2^60 tensors": header(tensors=2**60),
    "2^60 entries": header(entries=2**60),
    "an entry that is not there": header(entries=1),
    "a name of 2^60 letters": header(entries=1, rest=text("a", 2**60)),
    "a name beyond the end": header(entries=1, rest=text("a", 1000)),
    "a name that is no UTF-8": header(entries=1, rest=struct.pack("<Q", 2) + b"\xff\xfe"),
    "an unknown type": header(entries=1, rest=text("a") + struct.pack("<I", 99)),
    "an array of 2^60 numbers": header(
        entries=1, rest=text("a") + struct.pack("<IIQ", 9, 4, 2**60)
    ),
    "an array beyond the end": header(entries=1, rest=text("a") + struct.pack("<IIQ", 9, 4, 99)),
    "an array of arrays": header(entries=1, rest=text("a") + struct.pack("<IIQ", 9, 9, 1)),
    "an array of texts beyond the end": header(
        entries=1, rest=text("a") + struct.pack("<IIQ", 9, 8, 1000)
    ),
    "an alignment of zero": header(
        entries=1, rest=text("general.alignment") + struct.pack("<II", 4, 0)
    ),
    "a tensor of 2^60 numbers": header(
        tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 2**60, 0, 0)
    ),
    "a tensor of 99 dimensions": header(tensors=1, rest=text("t") + struct.pack("<I", 99)),
    "weights beyond the end": header(
        tensors=1, entries=1, rest=ENTRY + text("t") + struct.pack("<IQIQ", 1, 4, 0, 2**40)
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    """Counts, sizes and lengths that no model has end at once, whatever they announce."""
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ModelError, match="no whole GGUF file"):
        read_gguf(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path with a typing error is told as such."""
    with pytest.raises(ModelError, match="not found"):
        read_gguf(tmp_path / "model.gguf")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    """A download that broke off anywhere in the header is no model."""
    whole = tmp_path / "whole.gguf"
    write_model(whole)
    content, cut = whole.read_bytes(), tmp_path / "cut.gguf"
    for end in range(0, 6000, 331):
        cut.write_bytes(content[:end])
        with pytest.raises(ModelError):
            read_gguf(cut)


def test_the_checkpoint_has_the_files_numbers(tmp_path: Path) -> None:
    """Names, shapes and order of rows are PyTorch's; numbers are the file's to 8 and 16 bits."""
    written = write_model(tmp_path / "model.gguf")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_checkpoint(read_gguf(tmp_path / "model.gguf"), folder)
    import torch
    from safetensors.torch import load_file as load

    found = load(str(folder / "model.safetensors"))
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    assert len(found) == len(written)
    value = found["model.layers.1.self_attn.v_proj.weight"].float().numpy()
    assert np.allclose(value, written["blk.1.attn_v.weight"], atol=2e-3)
    key = found["model.layers.0.self_attn.k_proj.weight"].float().numpy()
    half = WIDTH // 4 // 2
    paired = key.reshape(KV_HEADS, 2, half, WIDTH).swapaxes(1, 2).reshape(key.shape)
    assert np.allclose(paired, written["blk.0.attn_k.weight"], atol=2e-3)


def test_the_checkpoint_is_what_transformers_reads(tmp_path: Path) -> None:
    """The model loads without a missing or a superfluous weight, and answers the same each time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_model(tmp_path / "model.gguf")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_checkpoint(read_gguf(tmp_path / "model.gguf"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = tokenizer("the 123", return_tensors="pt")
    assert model(**ids).logits.shape[-1] == len(tokenizer)


@pytest.mark.parametrize(
    "words",
    ["The year 2026", " two  blanks\n\n", "déjà vu, 你好, 👩‍👩‍👧", "<|im_end|>", "\x00\u200b"],
)
def test_tokens_come_back_as_the_text(words: str, tmp_path: Path) -> None:
    """The tokenizer loses nothing, takes digits one by one, and puts nothing in front."""
    from transformers import AutoTokenizer

    write_model(tmp_path / "model.gguf")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_checkpoint(read_gguf(tmp_path / "model.gguf"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(words)["input_ids"]
    assert tokenizer.decode(ids) == words
    assert tokenizer.tokenize("2026") == ["2", "0", "2", "6"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert ids[0] != tokenizer.bos_token_id


@pytest.mark.parametrize("changed", [{"architecture": "gpt2"}, {"pre": "llama-bpe"}])
def test_another_kind_of_model_is_refused(changed: dict[str, str], tmp_path: Path) -> None:
    """What would be converted wrongly is not converted."""
    write_model(tmp_path / "model.gguf", **changed)
    with pytest.raises(ModelError, match="cannot be converted"):
        write_checkpoint(read_gguf(tmp_path / "model.gguf"), tmp_path)
