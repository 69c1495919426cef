"""Models: the catalogue, the way from a name to a folder, and whether a model fits."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local_pipelines.errors import DeviceError, ModelError, OfflineError, ParameterError
from local_pipelines.models import access, download, paths
from local_pipelines.models import fit as fit_module
from local_pipelines.models.catalogue import Catalogue, catalogue
from local_pipelines.models.checkpoint import Shape, Weights, read_shape
from local_pipelines.models.fit import will_it_fit
from local_pipelines.models.names import is_hub_id, locate
from local_pipelines.models.paths import model_path
from local_pipelines.workbench import credentials
from local_pipelines.workbench.devices import Device

GB = 10**9
CONFIG = {
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 256,
    "max_position_embeddings": 512,
}
SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def write_safetensors(file: Path, **tensors: tuple[str, list[int], int]) -> None:
    """Write a safetensors file of zeros: name=(dtype, shape, bytes per number)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, width) in tensors.items():
        start, size = end, width
        for length in shape:
            size *= length
        end = start + size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def make_model(folder: Path, *, config: dict[str, Any] | None = None) -> Path:
    """A whole model of 1000 float16 numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "tokenizer.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", weight=("F16", [10, 100], 2))
    return folder


def make_cached(cache: Path, model_id: str) -> Path:
    """A model in the layout of the Hub's cache; returns its snapshot folder."""
    repo = cache / f"models--{model_id.replace('/', '--')}"
    commit = "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    return make_model(repo / "snapshots" / commit)


def cpu(free: int | None = 16 * GB, dtype: str = "bfloat16") -> Device:
    return Device(
        index=-1, name="cpu", dtype=dtype, reason="", memory_total=16 * GB, memory_free=free
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a Hub that nobody answers for."""
    from huggingface_hub import constants, hf_api

    assert hf_api.api  # made now, or it would keep the endpoint of this test

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port
    return folder


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Start a Hub on loopback that gives one answer; returns the list of paths it was asked."""
    from huggingface_hub import constants

    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: Any = None, *, seconds: float = 0, **headers: str) -> list[str]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                time.sleep(seconds)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with suppress(OSError):  # nobody may be waiting any more
                    self.wfile.write(data)

            def log_message(self, *args: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


# --- the catalogue ----------------------------------------------------------------------------


def test_the_catalogue_names_every_model_of_the_course() -> None:
    """A learner finds pocket, base, chat and gated models in the list."""
    ids = {entry.id for entry in catalogue()}
    assert ids >= {
        "pocket",
        "smollm2",
        "openai-community/gpt2",
        SMOL,
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        "Qwen/Qwen2.5-0.5B-Instruct",
        "microsoft/Phi-3-mini-4k-instruct",
        "bigscience/bloom-1b7",
        "meta-llama/Llama-3.2-1B-Instruct",
        "google/gemma-3-270m-it",
        "google/gemma-3-1b-it",
    }
    assert {entry.id for entry in catalogue() if entry.gated} == {
        "meta-llama/Llama-3.2-1B-Instruct",
        "google/gemma-3-270m-it",
        "google/gemma-3-1b-it",
    }


def test_the_figures_of_the_catalogue_agree_with_each_other() -> None:
    """A download is the parameters at 2 bytes and a small header, but for two of them."""
    more = {
        "openai-community/gpt2": 2 * 124_439_808 + 12 * 4 * 1024**2,  # 4 bytes, and its masks
        "Qwen/Qwen3-0.6B": 2 * 151_936 * 1024,  # the embedding once more
    }
    for entry in catalogue()[2:]:
        assert entry.parameters
        assert entry.download_bytes
        assert entry.shape.kv_values_per_token()
        assert entry.shape.context
        header = entry.download_bytes - 2 * entry.parameters - more.get(entry.id, 0)
        assert 0 < header < 1e5, entry.id
    sizes = [entry.parameters for entry in catalogue()[2:]]
    assert sizes == sorted(sizes, key=lambda size: size or 0)


def test_the_parameters_of_a_small_entry_are_those_of_its_architecture() -> None:
    """The parameter count can be had from the shape alone, by building the model without memory."""
    torch = pytest.importorskip("torch")
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config())
    model.tie_weights()
    entry = catalogue().find("gpt2")
    assert entry is not None
    assert sum(p.numel() for p in model.parameters()) == entry.parameters


def test_the_catalogue_is_a_sequence_with_a_text_table_and_an_html_table() -> None:
    """It can be indexed, sliced and searched, and shows one row for each model."""
    table = catalogue()
    assert table[0].id == "pocket"
    assert isinstance(table[:2], Catalogue)
    assert len(table[:2]) == 2
    assert table.find("gpt2") == table.find("openai-community/gpt2") == table[2]
    assert table.find("nobody/nothing") is None
    assert len(repr(table).splitlines()) == len(table) + 1
    assert "269 MB" in repr(table)
    html = table._repr_html_()
    assert html.count("<tr>") == len(table) + 1
    assert "Google&#x27;s terms" in html


def test_the_pocket_entry_is_measured_from_its_folder() -> None:
    """Parameters and size of the embedded model are read from its files."""
    pocket = catalogue()[0]
    assert pocket.parameters is not None
    assert pocket.parameters > 1e6
    assert pocket.download_bytes is not None
    assert pocket.download_bytes <= 12e6
    assert pocket.shape.kv_values_per_token()


# --- pocket and folders -----------------------------------------------------------------------


def test_pocket_is_a_real_folder_with_a_whole_model() -> None:
    """The name "pocket" gives the absolute path of the embedded model."""
    folder = Path(model_path("pocket"))
    assert folder.is_absolute()
    assert (folder / "config.json").is_file()
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()


def test_a_pocket_model_without_weights_says_to_install_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation is named as such, and the catalogue can still be shown."""
    from local_pipelines.models import catalogue as catalogue_module

    monkeypatch.setattr(catalogue_module, "files", lambda name: tmp_path)
    with pytest.raises(ModelError, match="Install it again"):
        model_path("pocket")
    (tmp_path / "pocket").mkdir()
    with pytest.raises(ModelError, match="Install the package again"):
        model_path("pocket")
    assert "pocket" in repr(catalogue())


def test_a_folder_becomes_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is accepted as text, as a Path, relative, with "./", spaces and a home sign."""
    folder = make_model(tmp_path / "my models" / "tiny").resolve()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ["my models/tiny", "./my models/tiny", "my models/tiny/", "~/my models/tiny"]:
        assert model_path(name) == str(folder)
    assert model_path(folder) == model_path(f" {folder}\n") == str(folder)


def test_an_openvino_folder_is_a_model(tmp_path: Path) -> None:
    """A folder that optimum-cli exported is accepted, unless one of its two files is missing."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "openvino_model.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"without openvino_model\.bin"):
        model_path(tmp_path)
    (tmp_path / "openvino_model.bin").write_bytes(bytes(10))
    assert model_path(tmp_path) == str(tmp_path.resolve())


def test_a_sharded_model_needs_every_shard(tmp_path: Path) -> None:
    """A missing part of the weights is named."""
    make_model(tmp_path)
    part, missing = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    (tmp_path / "model.safetensors").rename(tmp_path / part)
    with pytest.raises(ModelError, match="no index of its parts"):
        model_path(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": part, "b": missing, "c": part}}))
    with pytest.raises(ModelError, match=f"lacks the weight file {missing}, of 2"):
        model_path(tmp_path)
    write_safetensors(tmp_path / missing, bias=("F16", [5], 2))
    assert model_path(tmp_path) == str(tmp_path.resolve())
    index.write_text("{")
    with pytest.raises(ModelError, match="cannot be read as an index"):
        model_path(tmp_path)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def replace_weights(name: str, data: bytes) -> Callable[[Path], None]:
    def break_it(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(data)

    return break_it


def cut_off(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def only_an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (remove("config.json"), "it has no config.json"),
        (remove("model.safetensors"), "config.json but no weights"),
        (replace_weights("pytorch_model.bin", b""), "only as .bin files, not as safetensors"),
        (replace_weights("model.safetensors", b""), "is no safetensors file, or a damaged one"),
        (replace_weights("model.safetensors", b"\xff" * 99), "is no safetensors file"),
        (replace_weights("model.safetensors", b"\4\0\0\0\0\0\0\0[{}]"), "is no safetensors file"),
        (
            replace_weights("model.safetensors", b"version https://git-lfs/spec/v1\nsize 9\n"),
            "placeholder of Git LFS",
        ),
        (cut_off, "is cut off"),
        (only_an_adapter, "is an adapter"),
    ],
)
def test_a_folder_that_is_no_whole_model_says_what_is_wrong(
    tmp_path: Path, break_it: Callable[[Path], None], sentence: str
) -> None:
    """Each way a folder can fail to be a model gets its own fact and next step."""
    break_it(make_model(tmp_path))
    with pytest.raises(ModelError, match=re.escape(sentence)) as caught:
        model_path(tmp_path)
    assert caught.value.next_step


@pytest.mark.parametrize(
    "name", ["./nowhere", "~/nowhere", "/no/where", "a/b/c", "nowhere/", r"C:\models\x", "~noone/x"]
)
def test_a_path_that_leads_nowhere_is_a_folder_not_found(name: str) -> None:
    """What looks like a path is never sent to the Hub."""
    with pytest.raises(ModelError, match=r"was not found|cannot be read"):
        model_path(name)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    """The path of the weights file is answered with the folder to write."""
    weights = make_model(tmp_path) / "model.safetensors"
    with pytest.raises(ModelError, match="is a file, not a folder") as caught:
        model_path(weights)
    assert repr(str(tmp_path)) in caught.value.next_step


def test_a_folder_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing right to read is one sentence, not a traceback."""

    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(ModelError, match="cannot be read"):
        model_path(tmp_path)


def test_a_located_model_is_handed_on_as_it_is(tmp_path: Path) -> None:
    """Everything that takes a name takes the value it became, and does not resolve it again."""
    model = locate(make_model(tmp_path / "tiny"))
    (tmp_path / "tiny" / "config.json").unlink()  # nothing looks there again
    assert locate(model) is model
    assert model_path(model) == str(model.folder)
    assert will_it_fit(model, cpu()).weights_bytes == 2000
    assert (str(model), model.title) == (str(tmp_path / "tiny"), "tiny")
    assert model.formats == {"safetensors"}
    assert locate("pocket").is_pocket
    assert not locate(model_path("pocket")).is_pocket
    assert locate(SMOL).hub_id == locate(SMOL).title == SMOL


def test_the_embedded_model_s_name_is_compared_in_one_place() -> None:
    """What asks for it by name is asked once; others look at `is_pocket`."""
    package = Path(fit_module.__file__).parents[1]
    comparison = re.compile(r"""[!=]=\s*["']pocket["']|["']pocket["']\s*[!=]=""")
    found = [f.name for f in package.rglob("*.py") if comparison.search(f.read_text("utf-8"))]
    assert found == ["catalogue.py"]


# --- ids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("poket", "pocket"),
        ("Pocket", "pocket"),
        ("gpt-2", "openai-community/gpt2"),
        ("SmolLM2-135M-Instruct", SMOL),
        ("smollm2 135m instruct", SMOL),
        ("Phi-3-mini", "microsoft/Phi-3-mini-4k-instruct"),
    ],
)
def test_a_malformed_id_is_answered_with_the_nearest_in_the_catalogue(
    name: str, meant: str
) -> None:
    """A slip of the pen gets "Did you mean", also where only the part after the owner is near."""
    with pytest.raises(ModelError, match=f'Did you mean "{meant}"') as caught:
        model_path(name)
    assert not isinstance(caught.value, OfflineError)


@pytest.mark.parametrize(
    "name",
    ["my model", "a--b/c", "a/b..c", "-a/b", "a/b.", "a/b.git", "ümlaut/x", "x" * 5000, "\0"],
)
def test_a_malformed_id_is_refused_without_asking_the_hub(
    name: str, hub: Callable[..., list[str]]
) -> None:
    """What cannot be an id is refused at once."""
    asked = hub(200, {})
    with pytest.raises(ModelError, match="is no model"):
        model_path(name)
    assert not asked


@pytest.mark.parametrize("name", [None, 7, True, "", "  ", ["pocket"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    """Garbage is answered with what can be written."""
    with pytest.raises(ModelError, match='MODEL_ID = "pocket"'):
        model_path(name)


def test_the_address_of_a_model_s_page_is_answered_with_its_id() -> None:
    """Somebody who pastes the browser's address is told the id in it."""
    with pytest.raises(ModelError, match=f'Write MODEL_ID = "{SMOL}"'):
        model_path(f"https://hub.example/{SMOL}/tree/main")


def test_the_rule_for_ids_is_the_client_s_rule() -> None:
    """An id that huggingface_hub takes is taken, one that it refuses is refused."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    for name in ["a/b", "a_b/c.d-e", "1/2", "a/b--c", "a/..b", "a/b.git", "a b/c", "a/" + "b" * 97]:
        try:
            validate_repo_id(name)
        except HFValidationError:
            assert not is_hub_id(name), name
        else:
            assert is_hub_id(name), name


# --- the cache and the Hub --------------------------------------------------------------------


def test_a_cached_model_needs_no_hub(cache: Path) -> None:
    """An id whose files are all in the cache becomes their folder, without a question."""
    folder = make_cached(cache, SMOL)
    assert model_path(SMOL) == str(folder)


def test_a_cached_model_works_in_offline_mode(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE=1 does not stand in the way of what is here already."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = make_cached(cache, "gpt2")
    assert model_path("gpt2") == str(folder)


def test_an_old_model_cached_as_a_pickle_is_not_given_out(cache: Path) -> None:
    """A pickle can run anything when it is opened: only safetensors count as the model."""
    snapshot = make_cached(cache, "some/old-model")
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(OfflineError, match="is only in part on this machine"):
        model_path("some/old-model")


def test_offline_mode_without_the_model_names_both_ways_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline mode and a cold cache end in: take pocket, or switch it off and connect."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OfflineError) as caught:
        model_path(SMOL)
    assert caught.value.fact == (
        f'"{SMOL}" is not on this machine, and HF_HUB_OFFLINE forbids downloads.'
    )
    assert 'MODEL_ID = "pocket"' in caught.value.next_step
    assert "HF_HUB_OFFLINE=0" in caught.value.next_step


def test_no_network_without_the_model_says_to_connect_or_take_pocket(cache: Path) -> None:
    """A Hub that cannot be reached and a cold cache end in one clear error, and soon."""
    start = time.monotonic()
    with pytest.raises(OfflineError, match=r"is not on this machine, and the Hub .* cannot be"):
        model_path(SMOL)
    assert time.monotonic() - start < 6


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_model_cached_in_part_is_told_from_one_that_is_not_there(cache: Path, name: str) -> None:
    """An interrupted download does not count as cached."""
    (make_cached(cache, SMOL) / name).unlink()
    with pytest.raises(OfflineError, match="is only in part on this machine"):
        model_path(SMOL)


def test_a_misspelt_id_gets_its_suggestion_offline_too(cache: Path) -> None:
    """Without the Hub nobody knows whether an id exists, but the catalogue knows what is near."""
    with pytest.raises(OfflineError, match=r'Did you mean "Qwen/Qwen2\.5-0\.5B-Instruct"'):
        model_path("Qwen/Qwen2.5-0.5-Instruct")


def test_a_silent_hub_is_given_up_in_bounded_time(
    hub: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Hub that accepts the question and never answers does not hang the cell."""
    monkeypatch.setattr(paths, "PATIENCE", 0.3)
    hub(200, {}, seconds=2)
    start = time.monotonic()
    with pytest.raises(OfflineError, match="cannot be reached"):
        model_path(SMOL)
    assert time.monotonic() - start < 1.5


def test_the_shipped_patience_is_short() -> None:
    """A question takes half a minute at most, a download that stands still two."""
    assert 3 * access.PATIENCE + sum(access.PAUSES) <= 35
    assert len(access.PAUSES) == 2
    assert paths.PATIENCE <= 5
    assert credentials.WHOAMI_SECONDS <= 10
    assert download.STANDSTILL <= 120
    assert sum(download.PAUSES) <= 10


def test_a_wi_fi_log_in_page_is_no_hub(hub: Callable[..., list[str]]) -> None:
    """A page in place of the Hub's answer means that the Hub cannot be reached."""
    hub(200, b"<html>Welcome to our Wi-Fi</html>", Content_Type="text/html")
    with pytest.raises(OfflineError):
        model_path(SMOL)


def test_an_id_that_the_hub_does_not_have_is_answered_with_the_nearest(
    hub: Callable[..., list[str]],
) -> None:
    """A repository that does not exist is said not to exist, with a suggestion."""
    hub(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
    with pytest.raises(ModelError, match=f'Did you mean "{SMOL}"') as caught:
        model_path("HuggingFaceTB/SmolLM2-135-Instruct")
    assert not isinstance(caught.value, OfflineError)
    with pytest.raises(ModelError, match="misspelt, or the model is private"):
        model_path("zzzz/qqqq")


def test_pocket_and_folders_do_not_import_the_hub_client(tmp_path: Path) -> None:
    """Naming a folder freezes none of the variables that huggingface_hub reads when imported."""
    code = (
        "import sys\n"
        "from local_pipelines.models.catalogue import catalogue; "
        "from local_pipelines.models.paths import model_path\n"
        f"catalogue(); model_path({str(make_model(tmp_path))!r})\n"
        "print({'huggingface_hub', 'torch', 'transformers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- will it fit? -----------------------------------------------------------------------------


def test_the_figures_follow_the_documented_formula(cache: Path) -> None:
    """Weights, KV cache and working memory of a catalogue entry add up as written."""
    fit = will_it_fit(SMOL, cpu(), context=1000, batch_size=3)
    assert fit.weights_bytes == 134_515_008 * 2
    assert fit.kv_cache_bytes == 2 * 30 * 3 * 64 * 1000 * 3 * 2
    assert fit.working_bytes == fit.weights_bytes // 5
    assert fit.memory_needed == fit.weights_bytes + fit.kv_cache_bytes + fit.working_bytes
    assert (fit.verdict, fit.cached, fit.alternative) == ("fits", False, None)
    assert fit.download_bytes == 269_060_552
    assert fit.disk_free
    assert bool(fit)


@pytest.mark.parametrize(
    ("dtype", "weights", "kv"),
    [("float32", 4.0, 4), ("float16", 2.0, 2), ("int8", 1.0, 2), ("int4", 0.5, 2)],
)
def test_the_number_format_decides_the_weights(
    cache: Path, dtype: str, weights: float, kv: int
) -> None:
    """Quantised weights shrink, while their KV cache stays in 16 bits."""
    fit = will_it_fit(SMOL, cpu(), dtype=dtype, context=1)
    assert fit.weights_bytes == 134_515_008 * weights
    assert fit.kv_cache_bytes == 2 * 30 * 3 * 64 * kv


def test_a_dtype_of_torch_is_understood(cache: Path) -> None:
    """What `Device.torch_dtype` gives can be handed back."""
    import torch

    assert will_it_fit(SMOL, cpu(), dtype=torch.float32).dtype == "float32"  # type: ignore[arg-type]


def test_context_is_at_most_what_the_model_can_take(cache: Path) -> None:
    """gpt2 cannot read more than 1024 tokens, so no more are counted."""
    assert will_it_fit("gpt2", cpu()).context == 1024
    assert will_it_fit("gpt2", cpu(), context=9999).context == 1024
    assert will_it_fit(SMOL, cpu()).context == 2048


@pytest.mark.parametrize(
    ("free", "verdict", "true"),
    [(450, "fits", True), (380, "tight", True), (100, "does not fit", False)],
)
def test_the_verdict_leaves_a_fifth_of_the_free_memory(
    cache: Path, free: int, verdict: str, true: bool
) -> None:
    """More than 80 % of the free memory is tight, more than all of it does not fit."""
    fit = will_it_fit(SMOL, cpu(free * 10**6), context=10)
    assert (fit.verdict, bool(fit)) == (verdict, true)


def test_a_model_that_does_not_fit_comes_with_a_smaller_one(cache: Path) -> None:
    """The suggestion is the best open chat model of the catalogue that fits."""
    fit = will_it_fit("microsoft/Phi-3-mini-4k-instruct", cpu(6 * GB))
    assert fit.verdict == "does not fit"
    assert fit.alternative == "HuggingFaceTB/SmolLM2-1.7B-Instruct"
    assert f'Try "{fit.alternative}" instead.' in fit.reason
    assert "needs about 10.0 GB and 6.0 GB are free" in fit.reason


def test_where_even_small_models_do_not_fit_pocket_is_suggested(cache: Path) -> None:
    """The embedded model is in the list of smaller models."""
    assert will_it_fit("gpt2", cpu(200 * 10**6)).alternative == "pocket"


def test_a_full_disk_stops_a_download_but_not_a_cached_model(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk is needed only for what is not here yet."""
    monkeypatch.setattr(fit_module, "download_space", lambda: 10**6)
    fit = will_it_fit(SMOL, cpu())
    assert fit.verdict == "does not fit"
    assert "on the disk" in fit.reason
    make_cached(cache, SMOL)
    assert will_it_fit(SMOL, cpu()).verdict == "fits"


def test_the_disk_that_counts_is_the_one_of_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest folder that exists above the cache is measured."""
    asked: list[Path] = []

    def usage(folder: Path) -> Any:
        asked.append(folder)
        if folder == cache:
            raise FileNotFoundError(folder)
        return type("Usage", (), {"free": 5})

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert download.download_space() == 5
    assert asked == [cache, tmp_path]


def test_a_folder_is_measured_from_its_files(tmp_path: Path) -> None:
    """Parameters come from the headers of the weights, the KV cache from config.json."""
    folder = make_model(tmp_path)
    fit = will_it_fit(folder, cpu(dtype="float32"), context=100)
    assert fit.weights_bytes == 1000 * 4
    assert fit.kv_cache_bytes == 2 * 4 * 2 * 32 * 100 * 4
    assert fit.cached
    assert fit.download_bytes == (folder / "model.safetensors").stat().st_size


def test_quantised_and_openvino_weights_count_as_they_lie_on_disk(tmp_path: Path) -> None:
    """What is not stored as floating point is loaded as it is."""
    folder = make_model(tmp_path / "a")
    write_safetensors(folder / "model.safetensors", q=("U8", [100], 1), scale=("F16", [10], 2))
    assert will_it_fit(folder, cpu(), dtype="float32").weights_bytes == 100 + 10 * 4
    (folder / "model.safetensors").unlink()
    (folder / "openvino_model.xml").write_text("<net/>")
    (folder / "openvino_model.bin").write_bytes(bytes(77))
    assert will_it_fit(folder, cpu(), dtype="float32").weights_bytes == 77


def test_a_cached_model_outside_the_catalogue_is_measured_from_its_files(cache: Path) -> None:
    """Any model of the Hub that is here already has figures."""
    make_cached(cache, "some/model")
    assert will_it_fit("some/model", cpu()).weights_bytes == 2000


def test_the_hub_is_asked_for_the_figures_of_a_model_that_nobody_here_knows(
    hub: Callable[..., list[str]],
) -> None:
    """The Hub tells parameters and file sizes; the sentence says that the KV cache is left out."""
    hub(
        200,
        {
            "id": "some/model",
            "siblings": [
                {"rfilename": "model.safetensors", "size": 2100},
                {"rfilename": "pytorch_model.bin", "size": 9999},
            ],
            "safetensors": {"parameters": {"BF16": 1000, "I32": 10}, "total": 1010},
        },
    )
    fit = will_it_fit("some/model", cpu())
    assert (fit.weights_bytes, fit.download_bytes) == (2040, 2100)
    assert fit.kv_cache_bytes is None
    assert "without its KV cache" in fit.reason


def test_a_model_that_nobody_knows_is_unknown_and_no_error(cache: Path) -> None:
    """Without figures the verdict is unknown, with a sentence, and false in a condition."""
    fit = will_it_fit("some/model", cpu())
    assert (fit.verdict, bool(fit)) == ("unknown", False)
    assert "is unknown here" in fit.reason
    assert "?" in repr(fit)


def test_a_misspelt_id_is_answered_with_the_nearest_though_the_hub_is_away(cache: Path) -> None:
    """Without the Hub it is not said that there is such a model."""
    fit = will_it_fit("openai-community/gpt2-xxl", cpu())
    assert fit.verdict == "unknown"
    assert fit.reason.startswith("Whether there is a model openai-community/gpt2-xxl")
    assert fit.reason.endswith('Did you mean "openai-community/gpt2"?')


@pytest.mark.parametrize("count", [-600_000_000, 1e400, float("nan"), 10**400, "many", None, True])
def test_sizes_that_cannot_be_are_no_figures(hub: Callable[..., list[str]], count: object) -> None:
    """Something that answers in the Hub's place is not believed that a model takes -2.4 GB."""
    files = [{"rfilename": "model.safetensors", "size": count}]
    answer: dict[str, Any] = {"id": "some/model", "siblings": files}
    hub(200, answer | {"safetensors": {"parameters": {"F32": count}, "total": count}})
    fit = will_it_fit("some/model", cpu())
    assert (fit.verdict, fit.memory_needed, fit.download_bytes) == ("unknown", None, None)
    assert "the Hub gives no figures" in fit.reason
    hub(200, answer | {"safetensors": {"parameters": {"F32": 1000}, "total": 1000}})
    fit = will_it_fit("some/model", cpu())
    assert (fit.weights_bytes, fit.download_bytes) == (4000 // 2, None)


def test_unknown_free_memory_is_unknown_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that does not tell its free memory gives figures without a verdict."""
    device = Device(index=0, name="xpu:0", dtype="bfloat16", reason="")

    def refuse(prefer: object) -> Device:
        raise DeviceError("no")

    monkeypatch.setattr(fit_module, "select_device", refuse)
    fit = will_it_fit(SMOL, device)
    assert fit.verdict == "unknown"
    assert fit.memory_needed


def test_a_listed_device_is_measured_before_the_verdict(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices from `available_devices` have no free memory yet: it is asked for by name."""
    monkeypatch.setattr(fit_module, "select_device", lambda prefer: cpu(50 * GB))
    assert will_it_fit(SMOL, cpu(None)).memory_free == 50 * GB


def test_the_device_can_be_given_as_for_select_device(cache: Path) -> None:
    """Without a device the best one counts, and a wish is handed on."""
    assert will_it_fit(SMOL).memory_free
    assert will_it_fit(SMOL, "cpu").device == will_it_fit(SMOL, -1).device == "cpu"


def test_pocket_fits() -> None:
    """The embedded model fits wherever the course runs, and is already here."""
    fit = will_it_fit("pocket", cpu())
    assert (fit.model_id, fit.verdict, fit.cached) == ("pocket", "fits", True)
    assert fit.disk_free is None


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"batch_size": "many"}, "batch_size"),
        ({"context": -1}, "context"),
        ({"context": 1.5}, "context"),
        ({"dtype": "fp4"}, "number format"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], name: str) -> None:
    """Zero, negative numbers, text and unknown formats are answered with what can be written."""
    with pytest.raises(ParameterError, match=name) as caught:
        will_it_fit("gpt2", cpu(), **options)
    assert caught.value.next_step


@pytest.mark.parametrize(("model", "device"), [("my model", "cpu"), ("gpt2", "gpu")])
def test_a_wrong_model_or_device_is_the_same_error_as_elsewhere(
    cache: Path, model: str, device: str
) -> None:
    """Misspelt names are not answered with a verdict."""
    with pytest.raises((ModelError, DeviceError)):
        will_it_fit(model, device)


def test_the_answer_is_a_sentence_and_a_table(cache: Path) -> None:
    """The repr starts with the sentence; the notebook's table is escaped HTML."""
    fit = will_it_fit(SMOL, cpu())
    first, *rows = repr(fit).splitlines()
    assert first == f"{SMOL} fits on cpu: it needs about 370 MB and 16.0 GB are free."
    assert [row.split()[0] for row in rows] == [
        "download",
        "weights",
        "KV",
        "working",
        "needed",
        "free",
    ]
    html = will_it_fit(SMOL, Device(**{**vars(cpu()), "name": "<b>"}))._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (CONFIG, Shape(4, 2, 32, 512)),
        (
            {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024},
            Shape(12, 12, 64, 1024),
        ),
        ({"n_layer": 24, "n_head": 16, "hidden_size": 2048}, Shape(24, 16, 128, None)),
        ({"text_config": {**CONFIG, "head_dim": 256}}, Shape(4, 2, 256, 512)),
        ({}, Shape()),
    ],
)
def test_the_shape_is_read_under_every_family_s_names(
    tmp_path: Path, config: dict[str, Any], shape: Shape
) -> None:
    """Llama, GPT-2, BLOOM and models with a text part write the same measures differently."""
    assert read_shape(make_model(tmp_path, config=config)) == shape


def test_a_damaged_config_leaves_the_shape_unknown(tmp_path: Path) -> None:
    """An unreadable config.json costs the KV cache's figure, not the answer."""
    (make_model(tmp_path) / "config.json").write_text("{")
    assert will_it_fit(tmp_path, cpu()).kv_cache_bytes is None


def test_headers_are_read_as_safetensors_writes_them(tmp_path: Path) -> None:
    """A file written by the real library is counted right."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from local_pipelines.models.checkpoint import read_tensors, weigh

    file = tmp_path / "model.safetensors"
    save_file(
        {"a": torch.zeros(3, 5, dtype=torch.bfloat16), "b": torch.zeros(7, dtype=torch.int8)}, file
    )
    assert weigh([file], read_tensors([file])) == Weights(floats=15, other_bytes=7)
