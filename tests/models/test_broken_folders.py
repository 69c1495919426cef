"""A model's folder is somebody else's work: whatever is broken in it ends in one sentence."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import (
    GenAIPipeline,
    LocalPipeline,
    load_gated_model,
    load_llm,
    model_path,
    will_it_fit,
)
from local_pipelines.errors import LocalPipelinesError, ModelError
from local_pipelines.models import checkpoint, contents
from local_pipelines.workbench.devices import Device

CPU = Device(index=-1, name="cpu", dtype="float32", reason="", memory_free=10**12)
DEEP = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"
HTML = "<!DOCTYPE html><html><body>Please log in</body></html>"
Breaker = Callable[[Path], object]


def write(name: str, text: str | bytes) -> Breaker:
    data = text if isinstance(text, bytes) else text.encode()

    def break_it(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)  # it may be a link to the embedded model's file
        (folder / name).write_bytes(data)

    return break_it


def change(name: str, **values: Any) -> Breaker:
    def break_it(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        write(name, json.dumps({**content, **values}))(folder)

    return break_it


def config(**values: Any) -> Breaker:
    return change("config.json", **values)


def tokenizer(**values: Any) -> Breaker:
    return change("tokenizer_config.json", **values)


def generation(**values: Any) -> Breaker:
    return change("generation_config.json", **values)


def weights(header: object, *, length: int | None = None, data: int = 0) -> Breaker:
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    start = struct.pack("<Q", len(text) if length is None else length)
    return write("model.safetensors", start + text + bytes(data))


def tensor(shape: list[Any], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}}


def without(*names: str) -> Breaker:
    return lambda folder: [(folder / name).unlink() for name in names]


def cut(name: str) -> Breaker:
    return lambda folder: write(name, (folder / name).read_bytes()[:-9])(folder)


def with_code(folder: Path) -> None:
    config(model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.M"})(
        folder
    )
    (folder / "own.py").write_text("raise SystemExit('the code was run')")


def make_export(folder: Path) -> None:
    """Make it look like an export of OpenVINO's."""
    without("model.safetensors")(folder)
    (folder / "openvino_model.xml").write_text('<net name="m" version="11"></net>')
    (folder / "openvino_model.bin").write_bytes(b"")
    for part in ("openvino_tokenizer", "openvino_detokenizer"):
        (folder / f"{part}.xml").touch()
        (folder / f"{part}.bin").touch()


NO_WEIGHTS = "is no safetensors file"
NO_JSON = "cannot be read as JSON"
CANNOT_BE = "which cannot be"
UNLOADABLE = "cannot be loaded"
OTHER_SIZES = "have other sizes than its config.json says"
NO_PATH = "names a file in"

WEIGHTS: dict[str, tuple[Breaker, str]] = {
    "an empty file": (write("model.safetensors", b""), NO_WEIGHTS),
    "a web page": (write("model.safetensors", HTML), NO_WEIGHTS),
    "a header of 2**60 bytes": (weights({}, length=2**60), NO_WEIGHTS),
    "a header without tensors": (weights({}), NO_WEIGHTS),
    "a header that is a list": (weights([1]), NO_WEIGHTS),
    "a header nested deeply": (weights(DEEP), NO_WEIGHTS),
    "a tensor that is a text": (weights({"t": "?"}), NO_WEIGHTS),
    "a number format of 3 bits": (weights(tensor([1], 0, 4, "F3")), NO_WEIGHTS),
    "negative places": (weights(tensor([1], -4, 0)), NO_WEIGHTS),
    "an end before the start": (weights(tensor([1], 4, 0), data=4), NO_WEIGHTS),
    "a shape with a fraction": (weights(tensor([1.5], 0, 6), data=6), NO_WEIGHTS),
    "a negative shape": (weights(tensor([-1], 0, 4), data=4), NO_WEIGHTS),
    "a shape that is no number": (weights(tensor([float("nan")], 0, 4), data=4), NO_WEIGHTS),
    "a shape of 2**60": (weights(tensor([2**60], 0, 2**62)), "is cut off|" + NO_WEIGHTS),
    "a shape beyond all numbers": (weights(tensor([2**63, 2**63], 0, 4), data=4), NO_WEIGHTS),
    "other places than shapes": (weights(tensor([2], 0, 4), data=4), NO_WEIGHTS),
    "weights cut off": (cut("model.safetensors"), "is cut off"),
    "weights of another size": (config(hidden_size=128, head_dim=32), OTHER_SIZES),
    "an index that leads away": (
        lambda folder: (
            without("model.safetensors")(folder),
            write("model.safetensors.index.json", '{"weight_map": {"a": "../x"}}')(folder),
        ),
        "as an index",
    ),
    "an index that is a list": (
        lambda folder: (
            without("model.safetensors")(folder),
            write("model.safetensors.index.json", "[]")(folder),
        ),
        "as an index",
    ),
}
CONFIG: dict[str, tuple[Breaker, str]] = {
    "config.json, empty": (write("config.json", ""), NO_JSON),
    "config.json, a list": (write("config.json", "[]"), NO_JSON),
    "config.json, a number": (write("config.json", "7"), NO_JSON),
    "config.json, a web page": (write("config.json", HTML), "log-in page"),
    "config.json, cut off": (cut("config.json"), NO_JSON),
    "config.json, nested deeply": (write("config.json", DEEP), NO_JSON),
    "config.json, not UTF-8": (write("config.json", b'{"a": "\xff"}'), NO_JSON),
    "config.json, 5000 digits": (write("config.json", '{"n_embd": ' + "9" * 5000 + "}"), NO_JSON),
    "text_config, a list": (config(text_config=[1]), CANNOT_BE),
    "model_type, a number": (config(model_type=7), CANNOT_BE),
    "hidden_size, a text": (config(hidden_size="256"), CANNOT_BE),
    "hidden_size, negative": (config(hidden_size=-256), CANNOT_BE),
    "hidden_size, no number": (config(hidden_size=float("nan")), CANNOT_BE),
    "layers, a billion": (config(num_hidden_layers=10**9), CANNOT_BE),
    "heads, none": (config(num_attention_heads=0), CANNOT_BE),
    "vocabulary, endless": (config(vocab_size=10**30), CANNOT_BE),
}
TYPES: dict[str, tuple[Breaker, str]] = {
    "an unknown type": (config(model_type="llama99"), "installed transformers lacks"),
    "no type": (write("config.json", "{}"), "which type of model"),
    "a type that writes no text": (config(model_type="clip"), "no model that goes on with"),
    "code of its own": (with_code, "program code of its own"),
    "an unknown activation": (config(hidden_act="wow"), UNLOADABLE),
    "positions, a text": (config(rope_parameters="yes"), UNLOADABLE),
    "a precision, a text": (config(rms_norm_eps="small"), UNLOADABLE),
}
TOKENIZER: dict[str, tuple[Breaker, str]] = {
    "tokenizer.json, empty": (write("tokenizer.json", ""), NO_JSON),
    "tokenizer.json, a web page": (write("tokenizer.json", HTML), "log-in page"),
    "tokenizer.json, a list": (write("tokenizer.json", "[]"), NO_JSON),
    "tokenizer.json, cut off": (cut("tokenizer.json"), NO_JSON),
    "tokenizer_config.json, a list": (write("tokenizer_config.json", "[]"), NO_JSON),
    "tokenizer_config.json, empty": (write("tokenizer_config.json", ""), NO_JSON),
    "chat_template, a number": (tokenizer(chat_template=7), CANNOT_BE),
    "chat_template, texts": (tokenizer(chat_template=["a"]), CANNOT_BE),
    "chat_template.jinja, bytes": (write("chat_template.jinja", b"\xff\xfe"), "read as text"),
    "vocab_file, absolute": (tokenizer(vocab_file="/etc/hostname"), NO_PATH),
    "merges_file, climbing": (tokenizer(merges_file="../../secret"), NO_PATH),
    "tokenizer_file, of Windows": (tokenizer(tokenizer_file=r"C:\secret"), NO_PATH),
    "vocab_file, a bare name": (tokenizer(vocab_file=".env"), NO_PATH),
    "vocab, a path": (tokenizer(vocab="/etc/hostname"), NO_PATH),
    "init_inputs, a path": (tokenizer(init_inputs=["/etc/hostname"]), NO_PATH),
}
LATER: dict[str, tuple[Breaker, str]] = {
    "tokenizer.json, without a model": (write("tokenizer.json", "{}"), UNLOADABLE),
    "added tokens, a list": (tokenizer(added_tokens_decoder=[1]), UNLOADABLE),
    "no words": (without("tokenizer.json"), "no tokenizer|cannot be loaded"),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
}
GENERATION: dict[str, tuple[Breaker, str]] = {
    "generation_config.json, a list": (write("generation_config.json", "[]"), NO_JSON),
    "an end outside the vocabulary": (generation(eos_token_id=[0, 4096]), CANNOT_BE),
    "an end that is a text": (generation(eos_token_id="<|end|>"), CANNOT_BE),
    "a start below zero": (generation(bos_token_id=-1), CANNOT_BE),
    "padding beyond all numbers": (generation(pad_token_id=10**30), CANNOT_BE),
    "tokens to suppress, texts": (generation(suppress_tokens=["a"]), CANNOT_BE),
}
DEFAULTS: dict[str, tuple[Breaker, str]] = {
    "5000 beams": (generation(num_beams=5000), CANNOT_BE),
    "beams, a text": (generation(num_beams="many"), CANNOT_BE),
    "a negative length": (generation(max_new_tokens=-5), CANNOT_BE),
    "a temperature in words": (generation(temperature="hot"), CANNOT_BE),
    "a temperature that is no number": (generation(temperature=float("nan")), CANNOT_BE),
    "sampling, a text": (generation(do_sample="yes"), CANNOT_BE),
    "top_p above 1": (generation(top_p=7), CANNOT_BE),
}
FOUND_BEFORE = {**CONFIG, **TOKENIZER, **GENERATION}  # before a library is asked
ALL = {**WEIGHTS, **FOUND_BEFORE, **TYPES, **LATER}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The embedded model, in a folder that can be broken; a secret lies in the working folder."""
    (tmp_path / ".env").write_text("SECRET=1")
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "model"
    target.mkdir()
    for file in Path(model_path("pocket")).iterdir():
        if file.is_file():
            try:
                os.link(file, target / file.name)
            except OSError:  # on another disk
                shutil.copy(file, target / file.name)
    return target


@pytest.mark.parametrize("name", ALL)
def test_a_broken_folder_is_refused_in_one_sentence(name: str, folder: Path) -> None:
    """Whichever way it is loaded with torch; the estimate has a figure or a sentence."""
    break_it, words = ALL[name]
    break_it(folder)
    with pytest.raises(LocalPipelinesError, match=words) as caught:
        load_llm(folder, backend="torch", device="cpu")
    assert caught.value.next_step
    with pytest.raises(LocalPipelinesError, match=words):
        load_gated_model(folder, device=CPU)
    if name in WEIGHTS and words != OTHER_SIZES:
        with pytest.raises(ModelError, match=words):
            will_it_fit(folder, CPU)
    else:
        assert will_it_fit(folder, CPU).memory_needed < 10**12


@pytest.mark.parametrize("name", DEFAULTS)
def test_no_engine_obeys_defaults_that_cannot_be(name: str, folder: Path) -> None:
    """What a model's folder asks of generating is checked as what a learner asks."""
    break_it, words = DEFAULTS[name]
    break_it(folder)
    with pytest.raises(ModelError, match=words):
        load_llm(folder, backend="torch", device="cpu")
    make_export(folder)
    with pytest.raises(ModelError, match=words):
        GenAIPipeline.from_model_dir(folder)


def test_weights_that_lack_a_layer_are_refused(folder: Path) -> None:
    """Transformers would fill it with random numbers, and say nothing."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    last = max(header, key=lambda name: header[name].get("data_offsets", [0, 0])[1])
    start, end = header.pop(last)["data_offsets"]
    text = json.dumps(header).encode()
    body = data[8 + length :][: start - end]
    write("model.safetensors", struct.pack("<Q", len(text)) + text + body)(folder)
    for load in (load_gated_model, LocalPipeline.from_model_id):
        with pytest.raises(ModelError, match=r"are not whole: [\d,]+ of [\d,]+ are missing"):
            load(folder)


@pytest.mark.parametrize("name", FOUND_BEFORE)
def test_no_engine_reads_what_is_refused(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an export nor OpenVINO GenAI itself begins with such a folder."""
    break_it, words = FOUND_BEFORE[name]
    break_it(folder)
    pytest.importorskip("openvino_genai", reason="the openvino extra is not installed")
    monkeypatch.setenv("HF_HOME", str(folder.parent / "cache"))
    with pytest.raises(ModelError, match=words):
        load_llm(folder, device="cpu")
    make_export(folder)
    with pytest.raises(ModelError, match=words):
        GenAIPipeline.from_model_dir(folder)


def test_a_header_of_a_million_tensors_is_not_gone_through(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is limited, far above that of real models."""
    monkeypatch.setattr(checkpoint, "_MOST_TENSORS", 10)
    with pytest.raises(ModelError, match=NO_WEIGHTS):
        model_path(folder)


@pytest.mark.parametrize(
    "harmless",
    [
        tokenizer(special_tokens_map_file="/home/somebody/special_tokens_map.json"),
        tokenizer(tokenizer_file=None, vocab_file="tokenizer.json", init_inputs=[]),
        generation(pad_token_id=-1, temperature=0.6, top_p=0.9, do_sample=False, max_length=20),
        config(text_config=None, num_key_value_heads=None),
    ],
)
def test_what_older_models_say_does_no_harm(harmless: Breaker, folder: Path) -> None:
    """Paths that nothing reads, -1 for no padding, and names of the folder's own files pass."""
    harmless(folder)
    contents.check_contents(folder)
