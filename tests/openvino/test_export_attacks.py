"""What may happen to exports on a disk: damage, kills at any step, others at work beside us.

The tools are a stand-in that writes small files; what is attacked is real.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from local_pipelines.errors import EngineError, ExportError, LocalPipelinesError, ParameterError
from local_pipelines.models import file_sums
from local_pipelines.models.file_sums import FileSum, changed_file
from local_pipelines.openvino import convert as convert_module
from local_pipelines.openvino import need
from local_pipelines.openvino.export import export_openvino
from local_pipelines.openvino.folder import read_export
from local_pipelines.openvino.kept import exported, load_kept
from local_pipelines.openvino.manifest import MANIFEST, read_manifest, write_manifest
from local_pipelines.workbench import file_lock, machine
from local_pipelines.workbench import workshop as workshop_module
from local_pipelines.workbench.workshop import recover, workshop

XML = '<net name="Model0" version="11"><data element_type="f32" shape="" offset="0" size="400" />'
FILES = {
    "openvino_model.xml": XML.encode(),
    "openvino_model.bin": bytes(range(200)) * 2,
    "openvino_tokenizer.xml": b"<net 1/>",
    "openvino_tokenizer.bin": b"tokens 1",
    "openvino_detokenizer.xml": b"<net 2/>",
    "openvino_detokenizer.bin": b"tokens 2",
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b'{"unk_token": "?"}',
    "generation_config.json": b'{"do_sample": false}',
}


class FakeTools:
    """Stands in for optimum-intel, and lets something happen while it works."""

    def __init__(self) -> None:
        self.calls = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def convert(self, source: Path, folder: Path, dtype: str, quantization: Any) -> None:
        self.calls += 1
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        self.meanwhile()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `HF_HOME` of the test's own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """The tools' stand-in, on a machine with room and a disk without a pace of its own."""
    fake = FakeTools()
    monkeypatch.setattr(convert_module, "load_exporter", lambda: fake)
    monkeypatch.setattr(need, "check_packages", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(gc, "collect", lambda: 0)
    return fake


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small checkpoint."""
    folder = tmp_path / "model"
    folder.mkdir()
    header = {"w.weight": {"dtype": "F16", "shape": [10, 2], "data_offsets": [0, 40]}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(40))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def kept(tools: FakeTools, source: Path) -> Path:
    """An export that is kept in `HF_HOME`."""
    return exported(source, "fp32")


def is_whole(folder: Path) -> bool:
    """Whether an export has the bytes that the tools wrote, and nothing lies beside it."""
    read_export(folder)
    written = all((folder / name).read_bytes() == content for name, content in FILES.items())
    return written and list(folder.parent.iterdir()) == [folder]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def swap(file: Path) -> None:
    """Take the content of another file, which is as long and somebody else's."""
    file.write_bytes(file.read_bytes()[::-1])


# --- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [cut, zero, swap, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_export_is_replaced_once(
    tools: FakeTools,
    kept: Path,
    source: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    harm: Callable[[Path], None],
) -> None:
    """Whichever file it is, the next call makes the export anew, says so in a line, and no more."""
    harm(kept / name)
    for _ in range(2):
        assert exported(source, "fp32") == kept
    assert is_whole(kept)
    assert tools.calls == 2
    (line,) = caplog.messages
    assert name in line
    assert "\n" not in line


@pytest.mark.parametrize("name", ["openvino_model.bin", "tokenizer.json"])
def test_wrong_bytes_of_the_right_size_are_not_read(
    tools: FakeTools, tmp_path: Path, source: Path, name: str
) -> None:
    """In a folder of one's own the error names the file, and a way to keep one's changes."""
    folder = export_openvino(source, tmp_path / "ir", progress=False)
    zero(folder / name)
    for call in (lambda: read_export(folder), lambda: export_openvino(source, folder)):
        with pytest.raises(ExportError, match=f"{name} does not hold what was exported"):
            call()
    (folder / MANIFEST).unlink()
    assert read_export(folder).weights == 400


GARBAGE = [
    b"",
    b"{",
    b"null",
    b"[1]",
    b'{"manifest": 1}',
    b"[" * 100_000,
    b"\xff\xfe\x00",
    b'{"manifest": 1e999}',
]
CHANGES: list[dict[str, Any]] = [
    {"files": ["openvino_model.bin"]},
    {"files": {"openvino_model.bin": "400"}},
    {"files": {"../../model/config.json": 2}},
    {"files": {"/etc/passwd": 2}},
    {"sums": {"config.json": 7}},
    {"versions": {"openvino": 2026}},
    {"source": []},
    {"source": {"model": 1}},
    {"source": {"model": "model", "files": {"config.json": 1}}},
    {"source": {"model": "model", "files": {"config.json": {"size": None}}}},
    {"weight_format": None},
    {"group_size": "all"},
    {"group_size": float("inf")},
    {"manifest": 2},
]


@pytest.mark.parametrize("garbage", [*GARBAGE, *CHANGES], ids=repr)
def test_a_manifest_that_says_nothing_sensible(
    tools: FakeTools, kept: Path, source: Path, tmp_path: Path, garbage: bytes | dict[str, Any]
) -> None:
    """It is no error of Python's: a kept export is made anew, one's own folder is told and read."""
    own = shutil.copytree(kept, tmp_path / "own")
    for folder in (kept, own):
        manifest = folder / MANIFEST
        if isinstance(garbage, dict):
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | garbage))
        else:
            manifest.write_bytes(garbage)
    assert is_whole(exported(source, "fp32"))
    assert tools.calls == 2
    assert read_export(own).weight_format == "fp32"
    with pytest.raises(ExportError, match="Write another folder's name"):
        export_openvino(source, own)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_read_is_told(
    kept: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A disk's fault becomes a sentence with its words."""

    def fail(_: Path) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_sums, "sha256_of", fail)
    with pytest.raises(ExportError, match=os.strerror(number)):
        read_export(kept)


def test_odd_numbers_in_a_model_are_no_errors_of_pythons(tmp_path: Path) -> None:
    """A description with sizes of thousands of digits is read or refused."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    long = "9" * 5000
    (tmp_path / "openvino_model.xml").write_text(
        XML.replace("f32", "u4").replace("400", long) + f'<rt_info><group_size value="{long}" />'
    )
    assert read_export(tmp_path).group_size is None


# --- sums are taken once -----------------------------------------------------------------------


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed."""
    names: list[str] = []
    real = machine.sha256_of

    def take(file: Path) -> str:
        names.append(file.name)
        return real(file)

    monkeypatch.setattr(file_sums, "sha256_of", take)
    return names


def test_a_sum_is_taken_once_for_each_state_of_a_file(kept: Path, summed: list[str]) -> None:
    """A whole export is not hashed at each load; a file that was touched is, and only that one."""
    read_export(kept)
    assert sorted(summed) == sorted(FILES)
    summed.clear()
    read_export(kept)
    assert summed == []
    os.utime(kept / "config.json", (1, 1))
    read_export(kept)
    assert summed == ["config.json"]


def test_the_export_itself_is_not_written_to(kept: Path) -> None:
    """It may be somebody else's: what was found lies in `HF_HOME`."""
    before = {file: file.stat().st_mtime_ns for file in [kept, *kept.iterdir()]}
    read_export(kept)
    assert {file: file.stat().st_mtime_ns for file in [kept, *kept.iterdir()]} == before


@pytest.mark.parametrize("garbage", ["", "[]", '{"config.json": 7}', '{"config.json": [1, {}]}'])
def test_a_damaged_memory_of_sums_is_made_anew(
    home: Path, kept: Path, summed: list[str], garbage: str
) -> None:
    """Then everything is hashed again, and nothing is believed."""
    read_export(kept)
    for memory in home.rglob("sums/*.json"):
        memory.write_text(garbage)
    zero(kept / "config.json")
    with pytest.raises(ExportError, match=r"config\.json"):
        read_export(kept)


def test_gigabytes_are_not_hashed_where_that_cannot_be_remembered(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summed: list[str]
) -> None:
    """In a place that cannot be written to, a large export is compared by its sizes."""
    (tmp_path / "file").write_bytes(bytes(100))
    files = {"file": FileSum(100, "0" * 64)}
    home.write_text("a file in the way")
    assert changed_file(tmp_path, files) == "file"
    monkeypatch.setattr(file_sums, "_LARGE", 99)
    summed.clear()
    assert changed_file(tmp_path, files) is None
    assert changed_file(tmp_path, {"file": FileSum(99, "0" * 64)}) == "file"
    assert summed == []


# --- kills -------------------------------------------------------------------------------------


def leave_behind(place: Path, *parts: str, signed: bool = True, age: float = 0.0) -> Path:
    """A workshop as a killed process leaves it, with copies of the export at `place`."""
    folder = place.with_name(f".{place.name}.partial-0a1b2c")
    folder.mkdir()
    (folder / "lock").write_bytes(workshop_module._whose_locks() if signed else b"another's")
    for part in parts:
        shutil.copytree(place, folder / part)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, times=(time.time() - age,) * 2)
    return folder


def test_a_kill_between_the_renames_is_put_right(
    tools: FakeTools, kept: Path, source: Path
) -> None:
    """The new export, which was finished, gets the place, and is not made again."""
    (leave_behind(kept, "export", "old") / "old" / "config.json").write_text("outdated")
    shutil.rmtree(kept)
    assert is_whole(exported(source, "fp32"))
    assert tools.calls == 1


def test_an_old_export_gets_its_place_back(tools: FakeTools, kept: Path, source: Path) -> None:
    """Where only the old one is left, it is there again."""
    leave_behind(kept, "old")
    shutil.rmtree(kept)
    assert is_whole(exported(source, "fp32"))
    assert tools.calls == 1


@pytest.mark.parametrize("parts", [[], ["export"], ["old"], ["export", "old"]])
def test_a_kill_at_another_step_leaves_no_gigabytes(
    tools: FakeTools, kept: Path, source: Path, parts: list[str]
) -> None:
    """Before the renames and after them the place has its export: the rest goes."""
    leave_behind(kept, *parts)
    assert is_whole(exported(source, "fp32"))
    assert tools.calls == 1


def test_a_half_made_export_does_not_get_the_place(
    tools: FakeTools, kept: Path, source: Path
) -> None:
    """A kill in the middle of the first conversion: it is begun anew."""
    (leave_behind(kept, "export") / "export" / "openvino_model.bin").write_bytes(b"half")
    shutil.rmtree(kept)
    assert is_whole(exported(source, "fp32"))
    assert tools.calls == 2


@pytest.mark.parametrize("there", [False, True])
def test_what_older_versions_set_aside_is_found(
    tools: FakeTools, kept: Path, source: Path, there: bool
) -> None:
    """It gets its place back, or goes when it was left alone for a day."""
    old = shutil.copytree(kept, kept.with_name(f".{kept.name}.old-0a1b2c"))
    if there:
        for path in [old, *old.rglob("*")]:
            os.utime(path, (1, 1))
    else:
        shutil.rmtree(kept)
    assert is_whole(exported(source, "fp32"))
    assert tools.calls == 1


KILLED = """
import os, sys
from pathlib import Path
from local_pipelines.workbench.workshop import workshop
place, step = Path(sys.argv[1]), int(sys.argv[2])
real, steps = os.rename, [0]
def rename(*arguments):
    if steps[0] == step:
        os._exit(9)
    steps[0] += 1
    real(*arguments)
os.rename = rename
with workshop(place) as shop:
    (shop.export / "new").touch()
    shop.put_in_place(lambda: False, replace=True)
    os._exit(9)
"""


@pytest.mark.parametrize(("step", "left"), [(0, "old"), (1, "new"), (2, "new")])
def test_a_process_that_really_dies(tmp_path: Path, step: int, left: str) -> None:
    """Killed before the first rename, before the second, and behind it."""
    place = tmp_path / "ir"
    place.mkdir()
    (place / "old").touch()
    code = subprocess.run([sys.executable, "-c", KILLED, place, str(step)], check=False)
    assert code.returncode == 9
    assert len(list(tmp_path.glob(".ir.partial-*"))) == 1
    recover(place)
    assert [path.name for path in place.iterdir()] == [left]
    assert list(tmp_path.glob(".ir.*")) == []


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "busy"), KeyboardInterrupt()])
def test_a_rename_that_fails_loses_nothing(
    tools: FakeTools,
    kept: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    error: BaseException,
) -> None:
    """Whichever of the two fails: what was there before is there, and nothing beside it."""
    zero(kept / "config.json")
    before = {file.name: file.read_bytes() for file in kept.iterdir()}
    real, steps = os.rename, iter(range(9))

    def rename(*arguments: Any) -> None:
        if next(steps) == step:
            raise error
        real(*arguments)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises((ExportError, KeyboardInterrupt)):
        exported(source, "fp32")
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == before
    assert list(kept.parent.iterdir()) == [kept]


def test_everything_is_on_the_disk_before_it_gets_its_name(
    tools: FakeTools, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut no file of zeros has a name that is believed."""
    events: list[str] = []
    real = os.rename
    monkeypatch.setattr(workshop_module, "_sync_one", lambda path: events.append(path.name))
    monkeypatch.setattr(os, "rename", lambda *to: (events.append("rename"), real(*to)))
    export_openvino(source, tmp_path / "ir", progress=False)
    place = events.index("rename")
    assert {*FILES, MANIFEST, "export"} <= set(events[:place])
    assert events[place + 1 :] == [tmp_path.name]


def test_a_disk_that_fills_up_while_syncing_is_told(
    tools: FakeTools, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network disks tell it only then; nothing is left of the export."""

    def fail(_: int) -> NoReturn:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ExportError, match="the disk is full"):
        export_openvino(source, tmp_path / "new" / "ir", progress=False)
    assert list((tmp_path / "new").iterdir()) == []


# --- others at work ----------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "stays"), [(3600, True), (3 * 24 * 3600, False)])
@pytest.mark.parametrize("lock", [b"another machine's", b"", None])
def test_another_machines_work_is_left_alone(
    tools: FakeTools, kept: Path, source: Path, lock: bytes | None, age: int, stays: bool
) -> None:
    """On a shared disk it cannot be asked; what nobody has touched for a day is removed."""
    folder = leave_behind(kept, "export", signed=False)
    if lock is None:
        (folder / "lock").unlink()
    else:
        (folder / "lock").write_bytes(lock)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - age,) * 2)
    exported(source, "fp32")
    assert folder.exists() is stays


def test_a_living_process_of_this_machine_keeps_its_folder(kept: Path, source: Path) -> None:
    """However long it does not write: a conversion may compute for hours."""
    with workshop(kept) as shop:
        for path in [shop.folder, *shop.folder.rglob("*")]:
            os.utime(path, (1, 1))
        exported(source, "fp32")
        assert shop.folder.exists()


def test_a_disk_without_locks_has_the_rule_of_the_day(
    kept: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is taken for dead because locks do not work there."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: Any) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with workshop(kept) as shop:
        exported(source, "fp32")
        assert shop.folder.exists()
        assert file_lock.try_lock((shop.folder / "lock").open("rb")) is None


def test_two_find_a_damaged_export(tools: FakeTools, kept: Path, source: Path) -> None:
    """Both make a new one, one of them is kept, and both return it."""
    zero(kept / "config.json")

    def be_overtaken() -> None:
        tools.meanwhile = lambda: None
        assert exported(source, "fp32") == kept

    tools.meanwhile = be_overtaken
    assert exported(source, "fp32") == kept
    assert is_whole(kept)
    assert tools.calls == 3


def test_two_replace_at_the_same_moment(
    tools: FakeTools, kept: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One comes between the other's look and its first rename."""
    zero(kept / "config.json")
    real = os.rename
    twin = shutil.copytree(kept, kept.with_name("twin"))
    (twin / "config.json").write_bytes(FILES["config.json"])

    def rename(*arguments: Any) -> None:
        monkeypatch.setattr(os, "rename", real)
        shutil.rmtree(kept)
        try:
            real(*arguments)
        finally:
            twin.rename(kept)

    monkeypatch.setattr(os, "rename", rename)
    assert exported(source, "fp32") == kept
    assert is_whole(kept)


def test_threads_that_export_at_once(tools: FakeTools, source: Path) -> None:
    """Four kernels start with an empty `HF_HOME`: each gets a whole export, and nothing is left."""
    start, found = threading.Barrier(4, timeout=10), []

    def work() -> None:
        start.wait()
        found.append(exported(source, "fp32"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert is_whole(found[0])


# --- the engine's word -------------------------------------------------------------------------


def load_badly(folder: Path) -> NoReturn:
    raise EngineError("The engine cannot load it.")


def test_a_whole_export_is_not_made_anew_for_an_engine(
    tools: FakeTools, kept: Path, source: Path
) -> None:
    """What the engine cannot run, it could not run then either: no minutes are spent."""
    with pytest.raises(EngineError):
        load_kept(source, "fp32", load_badly)
    assert tools.calls == 1


@pytest.mark.parametrize(
    "old", [{"versions": {"openvino": "2024.1.0"}}, {"sums": {}}], ids=["older", "without sums"]
)
def test_an_older_export_is_made_anew_once_for_an_engine(
    tools: FakeTools, kept: Path, source: Path, old: dict[str, Any]
) -> None:
    """It may be damaged unseen, or the tools may do better now; a second failure is final."""
    manifest = json.loads((kept / MANIFEST).read_text())
    (kept / MANIFEST).write_text(json.dumps(manifest | old))
    asked: list[int] = []

    def load(folder: Path) -> str:
        asked.append(tools.calls)
        if tools.calls == 1:
            load_badly(folder)
        return "loaded"

    assert load_kept(source, "fp32", load) == "loaded"
    assert asked == [1, 2]
    with pytest.raises(EngineError):
        load_kept(source, "fp32", load_badly)
    assert tools.calls == 2


# --- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\0b", None, 7, "~nobody-of-that-name/ir"])
def test_a_name_that_no_folder_can_have_is_told(source: Path, name: Any) -> None:
    """It is a wrong argument, and no error of Python's."""
    with pytest.raises(ParameterError, match="cannot be the name of a folder"):
        export_openvino(source, name)


def test_a_name_that_is_too_long_is_told_before_the_work(
    tools: FakeTools, source: Path, tmp_path: Path
) -> None:
    """A file system takes 255 bytes."""
    for length in (250, 300, 5000):
        with pytest.raises(ExportError):
            export_openvino(source, tmp_path / ("x" * length), progress=False)
    assert tools.calls == 0


@pytest.mark.parametrize("there", [False, True])
def test_a_link_to_another_disk_is_followed(
    tools: FakeTools, source: Path, tmp_path: Path, there: bool
) -> None:
    """The export lies where the link points to, and the link stays."""
    (tmp_path / "scratch").mkdir()
    if there:
        (tmp_path / "scratch" / "ir").mkdir()
    link = tmp_path / "ir"
    link.symlink_to(tmp_path / "scratch" / "ir")
    assert export_openvino(source, link, progress=False) == link
    assert link.is_symlink()
    assert is_whole(tmp_path / "scratch" / "ir")


def test_links_in_a_circle_are_told_before_the_work(
    tools: FakeTools, source: Path, tmp_path: Path
) -> None:
    """There is no place behind them."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ExportError):
        export_openvino(source, tmp_path / "a", progress=False)
    assert tools.calls == 0


def test_the_working_folder_is_filled(
    tools: FakeTools, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.` is a folder like others, and relative paths work afterwards."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert export_openvino(source, ".", progress=False) == tmp_path / "empty"
    assert read_export(Path.cwd()).weights == 400
    assert Path("openvino_model.bin").is_file()


def test_a_home_that_is_a_file_is_told(home: Path, tools: FakeTools, source: Path) -> None:
    """`HF_HOME` may name anything."""
    home.write_text("a file")
    with pytest.raises(LocalPipelinesError, match="Nothing can be written"):
        exported(source, "fp32")


def test_the_manifest_of_a_folder_has_its_sums(tmp_path: Path, source: Path) -> None:
    """Sizes and sums of all files, of subfolders too, and not its own."""
    (tmp_path / "ir" / "sub").mkdir(parents=True)
    (tmp_path / "ir" / "sub" / "file").write_bytes(b"abc")
    facts = {"model": "m", "revision": "", "weight_format": "fp32", "group_size": None}
    write_manifest(tmp_path / "ir", source, **facts, group_size_chosen=True)  # type: ignore[arg-type]
    found = read_manifest(tmp_path / "ir")
    assert found is not None
    assert found.files == {
        "sub/file": FileSum(3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }
