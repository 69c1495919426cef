"""Export to OpenVINO: whole or not at all, never twice, and read without loading."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_pipelines import check_ov_config as check
from local_pipelines.errors import (
    DeviceError,
    ExportError,
    LocalPipelinesError,
    MissingPackageError,
    ModelError,
    ParameterError,
)
from local_pipelines.models import fit
from local_pipelines.models.checkpoint import Weights
from local_pipelines.models.names import locate
from local_pipelines.models.paths import model_path
from local_pipelines.openvino import convert as convert_module
from local_pipelines.openvino import folder as folder_module
from local_pipelines.openvino import need
from local_pipelines.openvino.config import OV_CONFIGS, ov_config
from local_pipelines.openvino.export import export_openvino
from local_pipelines.openvino.folder import read_export
from local_pipelines.openvino.job import ExportJob
from local_pipelines.openvino.manifest import MANIFEST
from local_pipelines.workbench.workshop import workshop

GB = 10**9
OV = "openvino_model.xml"
XML = """<?xml version="1.0"?>
<net name="Model0" version="11">
 <layers>
  <layer id="0"><data element_type="{kind}" shape="4, 100" offset="0" size="400" /></layer>
  <layer id="1"><data element_type="f16" shape="1" offset="400" size="2" /></layer>
 </layers>
 <rt_info>
  <Runtime_version value="{version}-22982-e213a147257-releases/2026/4" />
  <nncf><weight_compression><group_size value="64" /></weight_compression></nncf>
  <optimum><optimum_intel_version value="2.1.0" /><pytorch_version value="2.13.0" /></optimum>
 </rt_info>
</net>
"""


def write_ir(folder: Path, *, kind: str = "f32", version: str = "2026.4.1") -> Path:
    """What the tools leave behind, with weights of 402 bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OV).write_text(XML.format(kind=kind, version=version))
    (folder / "openvino_model.bin").write_bytes(bytes(402))
    for name in ("openvino_tokenizer", "openvino_detokenizer"):
        (folder / f"{name}.xml").write_text("<net/>")
        (folder / f"{name}.bin").write_bytes(b"tokens")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


class FakeTools:
    """Stands in for optimum-intel: writes small files, and fails when told to."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def quantization(self, bits: int, group_size: int) -> tuple[int, int]:
        return bits, group_size

    def convert(self, source: Path, folder: Path, dtype: str, quantization: Any) -> None:
        self.calls.append((dtype, quantization))
        write_ir(folder)
        self.meanwhile()

    def compress(self, full: Path, folder: Path, quantization: Any) -> None:
        for name in (OV, "openvino_model.bin", "config.json"):
            shutil.copy(full / name, folder)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """The tools' stand-in, on a machine that has room for everything."""
    fake = FakeTools()
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk's pace is not what is tested
    monkeypatch.setattr(gc, "collect", lambda: 0)
    monkeypatch.setattr(convert_module, "load_exporter", lambda: fake)
    monkeypatch.setattr(need, "check_packages", lambda: None)
    monkeypatch.setattr(need, "ram", lambda: (100 * GB, 100 * GB))
    monkeypatch.setattr(need, "disk_free", lambda _: 100 * GB)
    return fake


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the embedded model that a test may change."""
    return shutil.copytree(
        model_path("pocket"), tmp_path / "my-model", ignore=shutil.ignore_patterns("facts")
    )


def export(folder: Path, model: str | Path = "pocket", **arguments: Any) -> Path:
    return export_openvino(model, folder, progress=False, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# --- a finished export -------------------------------------------------------------------------


def test_the_folder_has_all_its_parts(tools: FakeTools, tmp_path: Path) -> None:
    """Model, tokenizer, chat template and the note of what it was made from lie in the folder."""
    folder = export(tmp_path / "new" / "pocket-fp32")
    found = read_export(folder)
    assert (found.model, found.weight_format, found.weights) == ("pocket", "fp32", 402)
    assert found.has_tokenizer
    assert found.has_chat_template
    assert list(folder.parent.iterdir()) == [folder]


def test_the_same_export_is_not_done_twice(tools: FakeTools, tmp_path: Path) -> None:
    """A second call returns the folder at once and changes nothing in it."""
    before = contents(export(tmp_path / "ir"))
    assert export(tmp_path / "ir") == tmp_path / "ir"
    assert contents(tmp_path / "ir") == before
    assert len(tools.calls) == 1


@pytest.mark.parametrize("again", [{}, {"group_size": 128}])
def test_the_group_size_that_was_chosen_is_the_same_export(
    tools: FakeTools, tmp_path: Path, again: dict[str, Any]
) -> None:
    """Naming the group size that was chosen anyway asks for the same export."""
    export(tmp_path / "ir", weight_format="int4")
    export(tmp_path / "ir", weight_format="int4", **again)
    assert tools.calls == [("int4", (4, 128))]


def test_an_empty_folder_is_filled(tools: FakeTools, tmp_path: Path) -> None:
    """A folder that somebody made beforehand is no obstacle."""
    (tmp_path / "ir").mkdir()
    assert (export(tmp_path / "ir") / OV).is_file()


def test_the_quantised_model_takes_the_place_of_the_full_one(
    tools: FakeTools, tmp_path: Path
) -> None:
    """Of the full-width model that int8 is made from, only the tokenizer stays."""
    folder = export(tmp_path / "ir", weight_format="int8")
    assert read_export(folder).has_tokenizer
    assert not any(path.is_dir() for path in folder.iterdir())


def test_the_note_has_no_path_of_this_machine(
    tools: FakeTools, tmp_path: Path, source: Path
) -> None:
    """An export can be handed on: a folder's name is in it, not the way to it."""
    manifest = (export(tmp_path / "ir", source) / MANIFEST).read_text()
    assert "my-model" in manifest
    assert str(tmp_path) not in manifest


# --- what lies there already -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"weight_format": "int8"}, "int4, not int8"),
        ({"weight_format": "int4", "group_size": 64}, "groups of 32, not 64"),
        ({"weight_format": "int4"}, "group_size=32, which this call does not ask for"),
    ],
)
def test_another_format_is_not_overwritten(
    tools: FakeTools, tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    """int8 after int4 into the same folder is an error that names both."""
    before = contents(export(tmp_path / "ir", weight_format="int4", group_size=32))
    with pytest.raises(ExportError, match=words):
        export(tmp_path / "ir", **arguments)
    assert contents(tmp_path / "ir") == before


def test_another_model_is_not_overwritten(tools: FakeTools, tmp_path: Path, source: Path) -> None:
    """A folder with another model's export stays as it is."""
    (source / "config.json").write_text(
        (source / "config.json").read_text().replace("silu", "gelu")
    )
    export(tmp_path / "ir", source)
    with pytest.raises(ExportError, match="made from my-model"):
        export(tmp_path / "ir")


def test_a_model_that_was_trained_on_is_another_version(
    tools: FakeTools, tmp_path: Path, source: Path
) -> None:
    """Weights of the same size and name with other bytes are recognised."""
    export(tmp_path / "ir", source)
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ExportError, match="of which this is another version"):
        export(tmp_path / "ir", source)


def test_a_copied_model_is_the_same_model(tools: FakeTools, tmp_path: Path, source: Path) -> None:
    """Another time and place of the same bytes do not make another model."""
    export(tmp_path / "ir", source)
    moved = source.rename(tmp_path / "elsewhere")
    for file in moved.iterdir():
        os.utime(file, (0, 0))
    export(tmp_path / "ir", moved)
    assert len(tools.calls) == 1


@pytest.mark.parametrize("name", ["notes.txt", "config.json"])
def test_a_folder_with_other_files_is_not_touched(
    tools: FakeTools, tmp_path: Path, name: str
) -> None:
    """Somebody's own files are never overwritten."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExportError, match="not an export of this course"):
        export(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_a_file_in_the_way_is_told(tools: FakeTools, tmp_path: Path) -> None:
    """A file of the folder's name is an error, and stays."""
    (tmp_path / "ir").write_text("mine")
    with pytest.raises(ExportError, match="is there already"):
        export(tmp_path / "ir")


def test_a_sentence_shows_the_folder_as_it_was_written(
    tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative folder stays relative: a stored output does not tell whose machine it was."""
    monkeypatch.chdir(tmp_path)
    assert export(Path("ir")) == Path("ir")
    with pytest.raises(ExportError) as caught:
        export(Path("ir"), weight_format="int8")
    assert caught.value.fact == "ir holds another export: fp32, not int8."


def test_a_damaged_export_is_told_not_returned(tools: FakeTools, tmp_path: Path) -> None:
    """An export that has lost a file is not taken for finished."""
    (export(tmp_path / "ir") / "openvino_tokenizer.bin").unlink()
    with pytest.raises(ExportError, match=r"lacks the file openvino_tokenizer\.bin"):
        export(tmp_path / "ir")


# --- models of the Hub -------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path) -> Callable[[str], Path]:
    """A cache with one model, `someone/model`; calling it moves that to another commit."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    repository = cache / "models--someone--model"

    def move_to(commit: str) -> Path:
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        return shutil.copytree(source, repository / "snapshots" / commit)

    move_to("a" * 40)
    return move_to


def test_a_model_of_the_hub_is_known_by_its_commit(
    tools: FakeTools, hub: Callable[[str], Path], tmp_path: Path
) -> None:
    """The export says which commit it was made from, and another commit is another model."""
    folder = export(tmp_path / "ir", "someone/model")
    assert (read_export(folder).model, read_export(folder).revision) == ("someone/model", "a" * 40)
    export(tmp_path / "ir", "someone/model")
    hub("b" * 40)
    with pytest.raises(ExportError, match="another version"):
        export(tmp_path / "ir", "someone/model")
    assert len(tools.calls) == 1


def test_a_finished_export_needs_no_model_any_more(
    tools: FakeTools, hub: Callable[[str], Path], tmp_path: Path
) -> None:
    """With the download deleted and no network, the finished export is still returned."""
    export(tmp_path / "ir", "someone/model")
    shutil.rmtree(tmp_path / "hub")
    assert export(tmp_path / "ir", "someone/model") == tmp_path / "ir"


def test_a_model_that_is_not_here_is_told_before_the_work(tools: FakeTools, tmp_path: Path) -> None:
    """Offline, a model that was never downloaded is an error that leaves no folder."""
    with pytest.raises(ModelError):
        export(tmp_path / "ir", "someone/other")
    assert list(tmp_path.iterdir()) == []


# --- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (RuntimeError("basic_ios::clear: No space left on device"), "the disk is full"),
        (MemoryError(), "the memory is full"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the memory is full"),
        (
            ValueError("Trying to export a foo model, that is a custom or unsupported one"),
            "models of the type foo",
        ),
        (RuntimeError("Something broke\nin the tools"), "failed: RuntimeError: Something broke"),
    ],
)
@pytest.mark.parametrize("weight_format", ["fp32", "int8"])
def test_a_failure_is_a_sentence_and_leaves_nothing(
    tools: FakeTools, tmp_path: Path, error: Exception, words: str, weight_format: str
) -> None:
    """What the tools raise becomes one sentence; the half-made folder is gone."""

    def fail() -> None:
        raise error

    tools.meanwhile = fail
    with pytest.raises(ExportError, match=words) as caught:
        export(tmp_path / "ir", weight_format=weight_format)
    assert caught.value.__cause__ is error
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tools: FakeTools, tmp_path: Path) -> None:
    """Stopping the cell in the middle leaves no folder, and the next call does the work."""

    def stop() -> None:
        raise KeyboardInterrupt

    tools.meanwhile = stop
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "ir")
    assert list(tmp_path.iterdir()) == []
    tools.meanwhile = lambda: None
    assert (export(tmp_path / "ir") / OV).is_file()


def test_the_target_appears_only_when_it_is_finished(tools: FakeTools, tmp_path: Path) -> None:
    """While the tools work, there is no folder of the target's name that could be loaded."""
    seen: list[bool] = []
    tools.meanwhile = lambda: seen.append((tmp_path / "ir").exists())
    export(tmp_path / "ir")
    assert seen == [False]


def test_what_a_killed_process_left_is_removed(tools: FakeTools, tmp_path: Path) -> None:
    """The working folder of a dead process goes; that of a living one and other names stay."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from local_pipelines.workbench.workshop import workshop\n"
        "contexts = [workshop(Path(name)) for name in sys.argv[1:]]\n"
        "print(*(context.__enter__().folder for context in contexts), flush=True)\n"
        "os._exit(9)"
    )
    targets = [str(tmp_path / "ir"), str(tmp_path / "other")]
    made = subprocess.run(
        [sys.executable, "-c", code, *targets], capture_output=True, text=True, check=False
    )
    gone, other = map(Path, made.stdout.split())
    with workshop(tmp_path / "ir") as alive:
        assert gone.exists()
        export(tmp_path / "ir")
        folders = (gone, alive.folder, other)
        assert [folder.exists() for folder in folders] == [False, True, True]


def test_two_processes_make_one_export(tools: FakeTools, tmp_path: Path) -> None:
    """Who comes second finds the folder finished, and throws its own copy away."""

    def be_overtaken() -> None:
        tools.meanwhile = lambda: None
        export(tmp_path / "ir")

    tools.meanwhile = be_overtaken
    assert export(tmp_path / "ir") == tmp_path / "ir"
    assert list(tmp_path.iterdir()) == [tmp_path / "ir"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder_is_told(
    tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where nothing can be written, nothing is converted."""

    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ExportError, match="Nothing can be written"):
        export(tmp_path / "ir")
    assert not tools.calls


# --- before it starts --------------------------------------------------------------------------


def test_too_little_disk_is_told_with_figures(
    tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is found before the work, with what is needed and what is there."""
    monkeypatch.setattr(need, "disk_free", lambda _: 5_000_000)
    with pytest.raises(ExportError, match=r"needs about \d+\.\d MB on the disk, and 5\.0 MB are"):
        export(tmp_path / "ir")
    assert not tools.calls


def test_too_little_memory_is_told_with_figures(
    tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory is found before the work; `force` tries all the same."""
    monkeypatch.setattr(need, "ram", lambda: (100 * GB, 5_000_000))
    with pytest.raises(ExportError, match=r"needs about \d+\.\d MB of memory, and 5\.0 MB are"):
        export(tmp_path / "ir")
    assert not tools.calls
    assert export(tmp_path / "ir", force=True).is_dir()


def test_a_download_of_unknown_size_counts_two_bytes_a_weight(
    tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int8 needs twice what the checkpoint takes, which is in 16 bits unless it is known."""
    facts = fit.Facts("someone/model", cached=False, weights=Weights(GB))
    monkeypatch.setattr(fit, "known_facts", lambda _: facts)
    monkeypatch.setattr(need, "ram", lambda: (100 * GB, GB))
    with pytest.raises(ExportError, match=r"needs about 4\.0 GB of memory, and 1\.0 GB are free"):
        export(tmp_path / "ir", "someone/model", weight_format="int8")


def test_int8_needs_room_for_the_copy_it_is_made_from() -> None:
    """The figures: 4 bytes a weight for fp32, the file and one byte more for int8."""
    jobs = {form: ExportJob(locate("pocket"), Path("x"), form) for form in ("fp32", "int8")}
    needs = {form: need.need_of(job, GB, 2 * GB) for form, job in jobs.items()}
    assert needs["fp32"].kept == 4 * GB
    assert needs["fp32"].memory == 8 * GB
    assert needs["int8"].kept < 1.2 * GB < 3 * GB < needs["int8"].disk < 3.2 * GB


def test_a_missing_extra_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error says what to type."""
    from local_pipelines.workbench import packages

    monkeypatch.setattr(packages, "installed_versions", lambda names: dict.fromkeys(names))
    monkeypatch.setattr(
        "local_pipelines.openvino.need.installed_versions", lambda names: dict.fromkeys(names)
    )
    with pytest.raises(MissingPackageError, match=r'install_packages\("openvino"\)') as caught:
        export(tmp_path / "ir")
    assert "nncf" in caught.value.fact


def test_tools_that_cannot_be_imported_are_told(
    tmp_path: Path, tools: FakeTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed tools that break on import are not taken for missing."""
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "optimum.exporters.openvino", None)
    with pytest.raises(MissingPackageError, match="cannot be imported"):
        convert_module.load_exporter()


def test_an_openvino_model_is_not_exported_again(tools: FakeTools, tmp_path: Path) -> None:
    """A folder in OpenVINO's format is no source, and the sentence says so."""
    write_ir(tmp_path / "ir")
    with pytest.raises(ExportError, match="OpenVINO's format"):
        export(tmp_path / "again", tmp_path / "ir")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"weight_format": "int-8"}, 'Write weight_format="int8"'),
        ({"weight_format": 4}, "none of the formats"),
        ({"weight_format": "int8", "group_size": 64}, "is for int4 only"),
        ({"weight_format": "int4", "group_size": 0}, "group_size = 0"),
        ({"weight_format": "int4", "group_size": "64"}, "group_size = '64'"),
        ({"weight_format": "int4", "group_size": 100}, r"Write group_size=128 or .*group_size=-1"),
    ],
)
def test_a_wrong_argument_is_named(
    tools: FakeTools, tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    """A format or group size that cannot be is refused before the work, with one that can."""
    with pytest.raises(ParameterError, match=words):
        export(tmp_path / "ir", **arguments)
    assert not tools.calls


# --- the group size ----------------------------------------------------------------------------


def make_source(folder: Path, model_type: str, **shapes: list[int]) -> Path:
    """A checkpoint with layers of these shapes."""
    import struct

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer.json").write_text("{}")
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    data = struct.pack("<Q", len(text)) + text + bytes(end)
    (folder / "model.safetensors").write_bytes(data)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("model_type", "shape", "size"),
    [
        ("llama", [10, 256], 128),
        ("llama", [10, 192], 64),
        ("llama", [10, 96], 32),
        ("llama", [10, 40], -1),
        ("llama", [128, 32], 32),
        ("gpt2", [128, 40], 128),
    ],
)
def test_the_largest_group_that_fits_is_chosen(
    tools: FakeTools, tmp_path: Path, model_type: str, shape: list[int], size: int
) -> None:
    """The group size divides each layer's input width, which GPT-2 keeps in the other place."""
    tensors = {"h.0.mlp.weight": shape, "embed_tokens.weight": [7, 7], "lm_head.weight": [7, 7]}
    source = make_source(tmp_path / "source", model_type, **tensors)
    folder = export(tmp_path / "ir", source, weight_format="int4")
    assert tools.calls == [("int4", (4, size))]
    assert read_export(folder).group_size == size


# --- what is shown -----------------------------------------------------------------------------


def test_the_tools_are_quiet(
    tools: FakeTools, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the tools print, log and warn is held back, and only while they work."""
    logger = logging.getLogger("nncf")
    before = logger.level

    def talk() -> None:
        print("a table")
        print("a bar", file=sys.stderr)
        warnings.warn("a trace", stacklevel=1)
        logger.warning("a log")

    tools.meanwhile = talk
    export(tmp_path / "ir")
    assert capfd.readouterr() == ("", "")
    assert logger.level == before


def test_the_stages_are_named(
    tools: FakeTools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of progress tells the model, the format and the stage."""
    export_openvino("pocket", tmp_path / "ir", weight_format="int8")
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in ("pocket to int8: convert", "pocket to int8: done", "3/3"):
        assert words in shown.err


@pytest.mark.parametrize(("widgets", "seen"), [("0", False), ("1", True)])
def test_a_stored_notebook_holds_no_bar(
    tools: FakeTools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    widgets: str,
    seen: bool,
) -> None:
    """In a kernel the stages are shown only where a browser shows them."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setenv("LOCAL_PIPELINES_WIDGETS", widgets)
    export_openvino("pocket", tmp_path / "ir")
    assert ("convert" in capsys.readouterr().err) is seen


def test_a_failed_export_does_not_look_done(
    tools: FakeTools, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line of progress of a failed export says that it stopped."""

    def fail() -> None:
        raise RuntimeError("broken")

    tools.meanwhile = fail
    with pytest.raises(ExportError):
        export_openvino("pocket", tmp_path / "ir")
    assert "pocket to fp32: stopped" in capsys.readouterr().err


def test_a_finished_export_is_found_without_any_framework(
    tools: FakeTools, tmp_path: Path, run_python: Callable[..., str]
) -> None:
    """Neither torch nor OpenVINO is imported to find that there is nothing to do."""
    folder = export(tmp_path / "ir")
    code = (
        "import sys; from local_pipelines import export_openvino, read_export\n"
        f"read_export(export_openvino('pocket', {str(folder)!r}))\n"
        "print(*{'torch', 'transformers', 'openvino', 'optimum', 'nncf'} & set(sys.modules))"
    )
    assert run_python(code).strip() == ""


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "weight_format", "group_size"),
    [("f32", "fp32", None), ("f16", "fp16", None), ("u8", "int8", None), ("u4", "int4", 64)],
)
def test_a_folder_of_the_command_line_is_read(
    tmp_path: Path, kind: str, weight_format: str, group_size: int | None
) -> None:
    """What `optimum-cli` wrote tells its format by the numbers in it, and its versions."""
    found = read_export(write_ir(tmp_path / "ir", kind=kind))
    assert (found.weight_format, found.group_size) == (weight_format, group_size)
    assert found.versions == {"openvino": "2026.4.1", "optimum-intel": "2.1.0", "torch": "2.13.0"}
    assert found.model == ""


@pytest.mark.parametrize("name", [OV, "openvino_model.bin", "config.json"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """A folder that lacks a file says which."""
    (write_ir(tmp_path / "ir") / name).unlink()
    with pytest.raises(ExportError, match=f"lacks the file {name}"):
        read_export(tmp_path / "ir")


def test_weights_that_were_cut_off_are_found(tools: FakeTools, tmp_path: Path) -> None:
    """Weights shorter than announced are an error, with our note and without."""
    for folder in (write_ir(tmp_path / "cli"), export(tmp_path / "ours")):
        (folder / "openvino_model.bin").write_bytes(bytes(300))
        with pytest.raises(ExportError, match="not the size"):
            read_export(folder)


@pytest.mark.parametrize("newer", ["2027.0.0", "2099.1.0"])
def test_an_export_of_a_newer_openvino_is_told(
    tools: FakeTools, tmp_path: Path, newer: str
) -> None:
    """An export of a newer OpenVINO is an error that names both versions."""
    pytest.importorskip("openvino")
    ours = export(tmp_path / "ours")
    manifest = json.loads((ours / MANIFEST).read_text())
    manifest["versions"]["openvino"] = newer
    (ours / MANIFEST).write_text(json.dumps(manifest))
    for folder in (ours, write_ir(tmp_path / "cli", version=newer)):
        with pytest.raises(ExportError, match=f"made by OpenVINO {newer}, and 20.* is installed"):
            read_export(folder)


def test_an_export_of_an_older_openvino_is_read(tmp_path: Path) -> None:
    """An older release, and another patch of the same one, is no obstacle."""
    assert read_export(write_ir(tmp_path / "ir", version="2024.0.0")).versions["openvino"]


@pytest.mark.parametrize(("version", "words"), [("7", "no longer"), ("99", "newer than this")])
def test_another_file_format_is_told(tmp_path: Path, version: str, words: str) -> None:
    """A file format that OpenVINO does not read is an error, not a crash at loading."""
    file = write_ir(tmp_path / "ir") / OV
    file.write_text(file.read_text().replace('version="11"', f'version="{version}"'))
    with pytest.raises(ExportError, match=words):
        read_export(tmp_path / "ir")


def test_what_is_no_export_is_told(tmp_path: Path) -> None:
    """No folder, an empty one and a damaged description get a sentence each."""
    with pytest.raises(ExportError, match="There is no folder"):
        read_export(tmp_path / "nothing")
    with pytest.raises(ExportError, match=f"lacks the file {OV}"):
        read_export(tmp_path)
    (write_ir(tmp_path / "ir") / OV).write_text("<html>")
    with pytest.raises(ExportError, match="does not describe a model"):
        read_export(tmp_path / "ir")


def test_an_unreadable_note_does_not_hide_the_model(tools: FakeTools, tmp_path: Path) -> None:
    """A damaged note makes it a folder of unknown origin, which can still be read."""
    (export(tmp_path / "ir") / MANIFEST).write_text("{")
    assert read_export(tmp_path / "ir").weight_format == "fp32"


def test_a_model_without_converted_tokenizer_says_so(tmp_path: Path) -> None:
    """The engine that needs the converted tokenizer can ask before it loads."""
    (write_ir(tmp_path / "ir") / "openvino_detokenizer.bin").unlink()
    found = read_export(tmp_path / "ir")
    assert not found.has_tokenizer
    assert "not for OpenVINO GenAI" in repr(found)


def test_an_export_shows_what_it_is(tools: FakeTools, tmp_path: Path) -> None:
    """The text names model, format and versions; the notebook's table is escaped."""
    found = read_export(export(tmp_path / "<ir>", weight_format="int4"))
    for words in ("pocket", "int4, groups of 128", "openvino-tokenizers", "with chat template"):
        assert words in repr(found)
    assert str(tmp_path) not in repr(found)
    assert "&lt;ir&gt;" in found._repr_html_()


def test_the_error_travels_between_processes() -> None:
    """An export error keeps its sentences when it is pickled."""
    import pickle

    error = pickle.loads(pickle.dumps(ExportError("fact", "cause", "step")))  # noqa: S301
    assert (error.fact, error.cause, error.next_step) == ("fact", "cause", "step")
    assert isinstance(error, LocalPipelinesError)


# --- options -----------------------------------------------------------------------------------


def test_a_preset_is_a_new_dictionary_of_texts() -> None:
    """A preset can be changed by keywords and by hand without changing the preset."""
    config = ov_config("latency", CACHE_DIR="cache", NUM_STREAMS=2)
    assert config == {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "2", "CACHE_DIR": "cache"}
    config.clear()
    assert ov_config()["NUM_STREAMS"] == OV_CONFIGS["latency"]["NUM_STREAMS"] == "1"


def test_an_unknown_preset_gets_the_nearest() -> None:
    """A slip of the pen in a preset's name is corrected."""
    with pytest.raises(ParameterError, match=r'Write ov_config\("throughput"\)'):
        ov_config("thruput")


@pytest.mark.parametrize("preset", [*OV_CONFIGS])
def test_the_presets_are_valid(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO takes each preset, and checking a cache folder does not make it."""
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    check(ov_config(preset, CACHE_DIR="cache", KV_CACHE_PRECISION="u8", ENABLE_MMAP="NO"))
    check(ov_config(preset), "AUTO:CPU")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"PERFORMANCE_HNT": "LATENCY"}, 'Did you mean "PERFORMANCE_HINT"'),
        ({"num_streams": "1"}, 'Did you mean "NUM_STREAMS"'),
        ({"CACHEDIR": ""}, 'Did you mean "CACHE_DIR"'),
        ({"FOO": "1"}, "SUPPORTED_PROPERTIES"),
        ({1: "1"}, "1 is no option"),
        ({"PERFORMANCE_HINT": "FAST"}, "does not take 'FAST' for PERFORMANCE_HINT"),
        ({"KV_CACHE_PRECISION": "u9"}, "Supported values: u8"),
        ({"NUM_STREAMS": "1x"}, "NUM_STREAMS = '1x'"),
        ({"FULL_DEVICE_NAME": "mine"}, "can be read on CPU and not be set"),
        ("LATENCY", "is no dictionary"),
    ],
)
def test_a_wrong_option_is_named(config: Any, words: str) -> None:
    """An option or value that the device does not know is told before a model is loaded."""
    pytest.importorskip("openvino")
    with pytest.raises(ParameterError, match=words):
        check(config)


@pytest.mark.parametrize("device", ["TPU", "CPU.7", "AUTO:TPU,CPU"])
def test_a_device_that_is_not_here_is_told(device: str) -> None:
    """OpenVINO's own devices are listed where the one asked for is not among them."""
    pytest.importorskip("openvino")
    with pytest.raises(DeviceError, match="It sees CPU"):
        check({}, device)


def test_checking_without_openvino_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, checking options says what to type."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r'install_packages\("openvino"\)'):
        check({})


# --- the real tools ----------------------------------------------------------------------------

FORMATS = ("fp32", "int8", "int4")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded model in three formats, made once."""
    pytest.importorskip("optimum.intel")
    folder = tmp_path_factory.mktemp("exports")
    return {form: export(folder / form, weight_format=form) for form in FORMATS}


@pytest.mark.slow
def test_each_format_is_what_it_says(exports: dict[str, Path]) -> None:
    """The numbers in the files are of the format asked for, and each is smaller than the last."""
    sizes = [read_export(exports[form]).weights for form in FORMATS]
    assert sizes[0] > 3 * sizes[1] > 3 * sizes[2]
    for form in FORMATS:
        assert folder_module._from_xml(exports[form])["weight_format"] == form
    assert folder_module._from_xml(exports["int4"])["group_size"] == 128


@pytest.mark.slow
def test_a_repeated_export_is_found(exports: dict[str, Path]) -> None:
    """The real export is recognised, not repeated."""
    before = (exports["int4"] / OV).stat().st_mtime_ns
    export(exports["int4"], weight_format="int4")
    assert (exports["int4"] / OV).stat().st_mtime_ns == before


@pytest.mark.slow
def test_genai_runs_each_export(exports: dict[str, Path]) -> None:
    """OpenVINO GenAI loads model, tokenizer and chat template from the folder alone."""
    genai = pytest.importorskip("openvino_genai")
    answers = {}
    for form, folder in exports.items():
        pipeline = genai.LLMPipeline(str(folder), "CPU")
        assert "<|assistant|>" in pipeline.get_tokenizer().chat_template
        prompts = ["Question: What is the capital of France?\n\nAnswer:"]
        answers[form] = pipeline.generate(
            prompts, max_new_tokens=8, apply_chat_template=False
        ).texts[0]
    assert "Paris" in answers["fp32"]
    assert answers["int8"] == answers["fp32"]


@pytest.mark.slow
def test_optimum_runs_each_export(exports: dict[str, Path]) -> None:
    """LangChain's OpenVINO backend loads the folder as it is."""
    from local_pipelines import LocalPipeline

    llm = LocalPipeline.from_model_id(
        str(exports["int8"]),
        task="text-generation",
        backend="openvino",
        model_kwargs={"ov_config": ov_config("latency")},
        pipeline_kwargs={"max_new_tokens": 8},
    )
    assert "Paris" in llm.invoke("Question: What is the capital of France?\n\nAnswer:")


@pytest.mark.slow
def test_the_real_tools_are_quiet(
    exports: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A whole export prints nothing: no warnings, no tables, no bars."""
    export(tmp_path / "ir", weight_format="int8")
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_nothing(
    exports: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk filling up between the model and its tokenizer leaves no folder that loads."""
    import optimum.exporters.openvino as exporters

    real = exporters.main_export

    def fill(*arguments: Any, output: Path, **options: Any) -> None:
        real(*arguments, output=output, **{**options, "convert_tokenizer": False})
        assert (output / OV).is_file()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporters, "main_export", fill)
    with pytest.raises(ExportError, match="the disk is full"):
        export(tmp_path / "ir")
    assert list(tmp_path.iterdir()) == []
