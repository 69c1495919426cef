"""A GGUF file is read within bounds, and becomes the checkpoint that it was made from."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf_files import (
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    MERGES,
    ROPE,
    WIDTH,
    WORDS,
    header,
    text,
    write_model,
    write_torch_model,
)

from local_pipelines.errors import ModelError
from local_pipelines.models.fit import will_it_fit
from local_pipelines.models.gguf import read_gguf
from local_pipelines.models.gguf_checkpoint import check_convertible, write_checkpoint
from local_pipelines.models.names import locate
from local_pipelines.models.paths import model_path

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
    with pytest.raises(ModelError, match=r"no whole GGUF file|not read here"):
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


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "architecture": ({"architecture": "gpt2"}, "architecture is 'gpt2'"),
    "tokenizer": ({"pre": "tekken"}, "tokenizer is 'tekken'"),
    "positions": ({"settings": {"rope.scaling.type": "yarn"}}, "counts positions"),
    "tensor": ({"extra": {"blk.0.ffn_gate_inp.weight": np.ones((4, WIDTH), np.float32)}}, "inp"),
    "part": ({"metadata": {"split.count": 3}}, "llama-gguf-split"),
}


@pytest.mark.parametrize(("changed", "said"), OTHERS.values(), ids=OTHERS.keys())
def test_another_kind_of_model_is_refused(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """What would be converted wrongly is not converted, and a sentence says why."""
    write_model(tmp_path / "model.gguf", **changed)
    with pytest.raises(ModelError, match="cannot be converted") as caught:
        write_checkpoint(read_gguf(tmp_path / "model.gguf"), tmp_path)
    assert said in str(caught.value)
    assert caught.value.next_step


def test_an_unknown_number_format_is_refused(tmp_path: Path) -> None:
    """A format that the package gguf cannot turn into floats is named before anything is made."""
    write_model(tmp_path / "model.gguf")
    gguf = read_gguf(tmp_path / "model.gguf")
    for kind, name in ((15, "Q8_K"), (24, "I8"), (999, "999")):
        odd = replace(gguf, tensors=(replace(gguf.tensors[0], kind=kind), *gguf.tensors[1:]))
        with pytest.raises(ModelError, match=rf"format {name}"):
            check_convertible(odd)


def test_all_formats_of_llama_cpp_are_read(tmp_path: Path) -> None:
    """Files from Ollama and LM Studio have numbers of 4 to 8 bits, mostly in Q4_K and Q6_K."""
    write_model(tmp_path / "model.gguf")
    gguf = read_gguf(tmp_path / "model.gguf")
    tiny = replace(gguf.tensors[0], shape=(1, 256), offset=0)
    legacy, blocks = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"], ["Q4_K", "Q5_K", "Q6_K"]
    for name in ["F16", "BF16", *legacy, "Q2_K", "Q3_K", *blocks, "IQ4_NL", "IQ4_XS"]:
        tensor = replace(tiny, kind=GGMLQuantizationType[name].value)
        check_convertible(replace(gguf, tensors=(tensor,)))


def test_weights_that_are_cut_off_are_told(tmp_path: Path) -> None:
    """A download that broke off behind the header is told before anything is converted."""
    whole, cut = tmp_path / "whole.gguf", tmp_path / "cut.gguf"
    write_model(whole)
    cut.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut off"):
        will_it_fit(cut)


@pytest.mark.parametrize(("version", "said"), [(1, "version 1"), (0x03000000, "other way round")])
def test_another_version_is_told(version: int, said: str, tmp_path: Path) -> None:
    """An old file, and one of a big-endian machine, are no damaged files."""
    (tmp_path / "model.gguf").write_bytes(header(version=version))
    with pytest.raises(ModelError, match="not read here") as caught:
        locate(tmp_path / "model.gguf")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"attention.head_count": 0}},
        {"settings": {"block_count": 2**31 + 1}},
        {"metadata": {"tokenizer.ggml.eos_token_id": 10_000}},
        {"metadata": {"tokenizer.ggml.tokens": 7}},
        {"metadata": {"tokenizer.chat_template": 7}},
        {"extra": {"rope_freqs.weight": np.arange(1, 9, dtype=np.float32)}},
    ],
)
def test_metadata_that_cannot_be_end_in_a_sentence(changed: dict[str, Any], tmp_path: Path) -> None:
    """What a library would answer with an error of its own is told as the file's fault."""
    write_model(tmp_path / "model.gguf", **changed)
    with pytest.raises(ModelError, match="model cannot be"):
        write_checkpoint(read_gguf(tmp_path / "model.gguf"), tmp_path)


# --- models of torch's, written as llama.cpp writes them -----------------------------------------


def torch_model(kind: str, **changed: Any) -> Any:
    """A tiny random model of transformers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(5)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        initializer_range=0.3,
        **{"rope_parameters": {"rope_type": "default", "rope_theta": ROPE}, "head_dim": 16}
        | changed,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, value in model.named_parameters():
        if value.ndim == 1:  # norms and biases, which begin as ones and zeros
            torch.nn.init.normal_(value, mean=float("norm" in name), std=0.2)
    return model


def logits(model: Any) -> Any:
    """What a model computes of some tokens."""
    import torch

    with torch.no_grad():
        return model(torch.arange(3, 103)[None]).logits


STRETCH = {
    "rope_type": "llama3",
    "rope_theta": ROPE,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def stretching() -> np.ndarray:
    """The factors that convert_hf_to_gguf.py writes for `STRETCH`."""
    factors = []
    for number in range(0, 16, 2):
        wave = 2 * math.pi * ROPE ** (number / 16)
        if wave < 8192 / 4:
            factors.append(1.0)
        elif wave > 8192:
            factors.append(8.0)
        else:
            smooth = (8192 / wave - 1) / 3
            factors.append(1 / ((1 - smooth) / 8 + smooth))
    return np.array(factors, np.float32)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("kind", "pre", "config", "extra"),
    [
        ("llama", "smollm", {}, {}),
        ("llama", "llama-bpe", {"rope_parameters": STRETCH}, {"rope_freqs.weight": stretching()}),
        ("qwen2", "qwen2", {}, {}),
        ("qwen3", "qwen2", {"head_dim": 32}, {}),
    ],
    ids=["llama", "llama3", "qwen2", "qwen3"],
)
def test_the_checkpoint_computes_what_was_written(
    kind: str, pre: str, config: dict[str, Any], extra: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    """A model that went into a file of 32 bits and back has the same logits."""
    import torch
    from transformers import AutoModelForCausalLM

    model = torch_model(kind, tie_word_embeddings=tied, **config)
    settings = {"attention.key_length": config.get("head_dim", 16)}
    write_torch_model(tmp_path / "model.gguf", model, pre=pre, extra=extra, settings=settings)
    folder = model_path(tmp_path / "model.gguf")
    read, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert read.dtype == torch.float32
    assert torch.allclose(logits(read), logits(model), atol=1e-4)
    if not config:  # transformers itself leaves out the stretching, and the width of Qwen3's heads
        own = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf")
        assert torch.allclose(logits(read), logits(own), atol=1e-4)


def test_sixteen_bits_stay_what_they_are(tmp_path: Path) -> None:
    """Numbers of a file in float16 would lose three of their eleven bits in bfloat16."""
    from safetensors.numpy import load_file

    written = write_model(tmp_path / "model.gguf", kind=GGMLQuantizationType.F16)
    read = load_file(Path(model_path(tmp_path / "model.gguf")) / "model.safetensors")
    up = written["blk.1.ffn_up.weight"]
    assert (read["model.layers.1.mlp.up_proj.weight"] == up.astype(np.float16)).all()


@pytest.mark.parametrize("pre", ["smollm", "qwen2", "llama-bpe"])
def test_no_text_is_lost_on_its_way_through_tokens(pre: str, tmp_path: Path) -> None:
    """Whatever somebody writes comes back, letter for letter."""
    from transformers import AutoTokenizer

    write_model(tmp_path / "model.gguf", pre=pre)
    tokenizer = AutoTokenizer.from_pretrained(model_path(tmp_path / "model.gguf"))
    rng, letters = random.Random(3), "aeth 123  \n\t'sé你👩\u200d<|>_.,\x00"
    for _ in range(500):
        words = "".join(rng.choices(letters, k=40))
        assert tokenizer.decode(tokenizer(words, add_special_tokens=False).input_ids) == words
    begins = tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    assert begins == (pre == "llama-bpe")  # as its authors and llama.cpp have it


def test_qwens_tokens_are_those_of_its_own_class(tmp_path: Path) -> None:
    """The tokenizer made from the file cuts texts as transformers' class for Qwen does."""
    from transformers import AutoTokenizer, Qwen2Tokenizer

    write_model(tmp_path / "model.gguf", pre="qwen2")
    ours = AutoTokenizer.from_pretrained(model_path(tmp_path / "model.gguf"))
    merges = [tuple(pair.split(" ")) for pair in MERGES]
    theirs = Qwen2Tokenizer({word: n for n, word in enumerate(WORDS)}, merges)
    for words in ("The 1234 théâtres they'LL see", " \n\n x=1;\r\n\ty", "e\u0301", "你好,the 123!"):
        assert ours(words).input_ids == theirs(words).input_ids


def test_llama_3_takes_three_digits_at_a_time(tmp_path: Path) -> None:
    """So its authors' tokenizer cuts numbers, and the model knows no other way."""
    from tokenizers import Tokenizer

    write_model(tmp_path / "model.gguf", pre="llama-bpe")
    cut = Tokenizer.from_file(f"{model_path(tmp_path / 'model.gguf')}/tokenizer.json").pre_tokenizer
    pieces = [piece for piece, _ in cut.pre_tokenize_str("It's 12345 \n\nok  go")]
    assert pieces == ["It", "'s", "Ġ", "123", "45", "ĠĊĊ", "ok", "Ġ", "Ġgo"]
