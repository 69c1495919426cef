"""A GGUF file is taken wherever a model's name is taken, and converted once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gguf_files import write_model

from local_pipelines.chains.genai import GenAIPipeline
from local_pipelines.chains.loading import load_llm
from local_pipelines.chains.pipeline import LocalPipeline
from local_pipelines.errors import CacheError, ExportError, ModelError
from local_pipelines.models import converted
from local_pipelines.models.fit import will_it_fit
from local_pipelines.models.names import locate
from local_pipelines.models.paths import model_path
from local_pipelines.openvino.job import ExportJob
from local_pipelines.openvino.kept import cache_name
from local_pipelines.openvino.manifest import read_manifest, write_manifest


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in a file of its own folder, which is the working folder, and an empty cache."""
    file = tmp_path / "models" / "tiny.gguf"
    file.parent.mkdir()
    write_model(file)
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(converted, "hf_home", lambda: tmp_path / "hf")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return file


NAMES: dict[str, Callable[[Path], str | Path]] = {
    "relative": lambda file: "tiny.gguf",
    "absolute": str,
    "a path": lambda file: file,
    "home": lambda file: "~/models/tiny.gguf",
    "its folder": lambda file: str(file.parent),
    "two folders down": lambda file: "../models/tiny.gguf",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_file_is_found_however_it_is_written(
    name: Callable[[Path], str | Path], file: Path
) -> None:
    """All ways to write a path mean the same file, and the same checkpoint."""
    assert model_path(name(file)) == model_path(file)
    assert locate(name(file)).title == "tiny.gguf"


def test_a_suffix_in_capitals_and_none_will_do(file: Path) -> None:
    """Windows writes what it likes, and Ollama's store calls its files by their sums."""
    for name in ("TINY.GGUF", "sha256-7f3a"):
        file.rename(file.with_name("other"))
        file.with_name("other").rename(file.with_name(name))
        assert locate(name).gguf
        file.with_name(name).rename(file)


def test_a_link_keeps_its_name(file: Path) -> None:
    """In the Hub's cache the name is a link's, and the file itself is called by its sum."""
    link = file.with_name("nice.gguf")
    try:
        link.symlink_to(file)
    except OSError:
        pytest.skip("this system lets nobody make links")
    assert locate(link).title == "nice.gguf"


def test_several_files_in_a_folder_are_named(file: Path) -> None:
    """Which one is meant nobody can guess; a checkpoint beside them is meant before any of them."""
    shutil.copy(file, file.with_name("small.gguf"))
    with pytest.raises(ModelError, match=r"small\.gguf, tiny\.gguf"):
        locate(file.parent)
    checkpoint = Path(model_path(file))
    shutil.copytree(checkpoint, file.parent, dirs_exist_ok=True)
    assert locate(file.parent).gguf is None


def test_what_is_no_file_is_told(file: Path, tmp_path: Path) -> None:
    """A path with a typing error is no id of the Hub; a folder of that name is a folder."""
    for name in ("models/tinny.gguf", "tinny.gguf", "./tinny.gguf"):
        with pytest.raises(ModelError, match="was not found") as caught:
            locate(name)
        assert str(file.parent) in str(caught.value)
    (tmp_path / "empty.gguf").mkdir()
    with pytest.raises(ModelError, match="no config"):
        locate(tmp_path / "empty.gguf")


def test_the_fit_is_read_from_the_header(file: Path) -> None:
    """Parameters, format and sizes are told before anything is converted, and nothing is."""
    fit = will_it_fit("tiny.gguf", "cpu", dtype="float32")
    gguf = locate(file).gguf
    assert gguf is not None
    assert fit
    assert fit.weights_bytes == 4 * gguf.parameters
    assert fit.download_bytes == 2 * gguf.parameters
    assert fit.kv_cache_bytes == 2 * 2 * 2 * 16 * 128 * 4
    assert f"{gguf.parameters:,} numbers, most of them in Q8_0" in repr(fit)
    assert not fit.cached
    assert not converted.conversion_of(file).place.exists()
    model_path(file)
    assert will_it_fit(file).cached


def test_a_file_is_converted_once(file: Path) -> None:
    """A second call takes what the first has made, and four at a time make it once."""
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(model_path, [str(file)] * 4))
    assert len(folders) == 1
    weights = Path(folders.pop()) / "model.safetensors"
    made = weights.stat().st_mtime_ns
    assert Path(model_path(file)) == weights.parent
    assert weights.stat().st_mtime_ns == made


def test_a_changed_file_is_converted_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another download under the same name is another model, and a line says so."""
    folder, model = Path(model_path(file)), locate(file)
    before = (folder / "config.json").read_bytes()
    write_model(file, settings={"context_length": 64})
    assert model.place is None
    with caplog.at_level(logging.WARNING):
        assert Path(model_path(file)) == folder
    assert (folder / "config.json").read_bytes() != before
    assert "has changed and is converted again" in caplog.text


def test_an_export_is_of_the_file_as_it_was(file: Path, tmp_path: Path) -> None:
    """An export made before the file changed is not taken for one of the new file."""
    target = tmp_path / "export"
    target.mkdir()
    folder, model = Path(model_path(file)), locate(file)
    about = {"revision": "", "weight_format": "fp32", "group_size": None, "group_size_chosen": True}
    write_manifest(target, folder, model=model.title, **about)  # type: ignore[arg-type]
    found = read_manifest(target)
    assert found is not None
    job = ExportJob(model, target, "fp32")
    assert not job._difference(found)
    write_model(file, settings={"context_length": 64})
    assert "another version" in job._difference(found)
    model_path(file)
    assert "another version" in job._difference(found)


def test_two_files_of_one_name_have_exports_of_their_own(file: Path, tmp_path: Path) -> None:
    """What the course keeps is called by the file's name and its place."""
    (tmp_path / "other").mkdir()
    other = shutil.copy(file, tmp_path / "other" / file.name)
    names = {cache_name(locate(each), "fp32") for each in (file, other)}
    assert len(names) == 2
    assert all(name.startswith("tiny.gguf-") for name in names)


def test_a_full_disk_is_told_before_the_work(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint takes several times the room of its file; nothing half-made stays."""
    monkeypatch.setattr(converted, "disk_free", lambda folder: 1000)
    with pytest.raises(CacheError, match="cannot be kept") as caught:
        model_path(file)
    assert "1 kB are free" in str(caught.value)
    left = converted.conversion_of(file).place.parent.iterdir()
    assert all(path.name.endswith(".lock") for path in left)


def test_langchains_own_class_answers(file: Path) -> None:
    """What `model_path` gives is a checkpoint like any other."""
    from langchain_huggingface import HuggingFacePipeline

    options = {"max_new_tokens": 3, "do_sample": False, "return_full_text": False}
    plain = HuggingFacePipeline.from_model_id(
        model_path("tiny.gguf"), task="text-generation", pipeline_kwargs=options
    )
    ours = LocalPipeline.from_model_id("tiny.gguf", task="text-generation", pipeline_kwargs=options)
    assert plain.invoke("the") == ours.invoke("the")
    assert ours.model_id == "tiny.gguf"


def test_engines_answer_alike(file: Path) -> None:
    """Torch and OpenVINO GenAI compute with the same checkpoint."""
    pytest.importorskip("openvino_genai")
    texts = {
        name: load_llm(file, backend=name, max_new_tokens=8).invoke("the")
        for name in ("torch", "genai")
    }
    assert texts["torch"] == texts["genai"]


def test_an_exports_folder_is_not_a_file(file: Path) -> None:
    """`from_model_dir` takes exports only, and names what makes one of a file."""
    with pytest.raises(ExportError, match="export_openvino"):
        GenAIPipeline.from_model_dir(file)
