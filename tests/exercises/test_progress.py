"""A learner's file of progress, and a class's table of such files."""

from __future__ import annotations

import csv
import json
import os
import threading
from datetime import date
from pathlib import Path

import pytest

from local_pipelines import check_answer, my_progress
from local_pipelines.errors import PromptFileError
from local_pipelines.exercises import progress as progress_room
from local_pipelines.exercises.progress import note_try, progress_file
from local_pipelines.exercises.report import main, write_report


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of progress of the test's own."""
    file = tmp_path / "here" / "progress.json"
    monkeypatch.setenv("LOCAL_PIPELINES_PROGRESS", str(file))
    return file


def test_tries_are_counted_until_it_is_right(own_file: Path) -> None:
    """Two wrong tries and a right one are three; the same cell run once more changes nothing."""
    for answer in (3, 4, 7, 7, 3):
        check_answer("3.1", answer)
    content = json.loads(own_file.read_text(encoding="utf-8"))
    today = date.today().isoformat()
    assert content == {"name": "", "exercises": {"3.1": {"tries": 3, "done": today}}}
    assert "3.1       ✓     3" in repr(my_progress("3"))
    assert "3       1/11  3" in repr(my_progress())


def test_a_name_is_kept_only_if_typed(own_file: Path) -> None:
    """The page has the name that was typed, escaped; none is looked for."""
    assert json.loads(json.dumps(my_progress().progress.name)) == ""
    page = my_progress(name="<b>Ada</b>")
    assert "&lt;b&gt;Ada&lt;/b&gt;" in page._repr_html_()
    assert "<b>Ada</b>" not in page._repr_html_()


def test_half_a_character_in_a_name_harms_nothing(tmp_path: Path, own_file: Path) -> None:
    """A name that is no whole text is kept, shown and reported as far as it can be."""
    assert my_progress(name="A\ud800").progress.name == "A?"
    hand_in(tmp_path / "class", "one", {"name": "B\ud800", "exercises": {}})
    assert "B?" in write_report(tmp_path / "class")[1].read_text(encoding="utf-8-sig")


def test_a_page_can_be_printed(tmp_path: Path) -> None:
    """The page is written as a file that loads nothing from anywhere."""
    check_answer("3.1", 7)
    text = my_progress().write(tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "http" not in text
    with pytest.raises(PromptFileError, match="cannot be written"):
        my_progress().write(tmp_path)


DAMAGED = {
    "cut": b'{"exercises": {"3.1": {"tr',
    "empty": b"",
    "bytes": b"\xff\xfe\x00",
    "list": b"[]",
    "negative": b'{"exercises": {"3.1": {"tries": -1}}}',
    "text for tries": b'{"exercises": {"3.1": {"tries": "1"}}}',
    "no date": b'{"exercises": {"3.1": {"tries": 1, "done": "<script>"}}}',
    "hostile number": b'{"exercises": {"<img>": {"tries": 1}}}',
    "deep": b'{"exercises": ' + b"[" * 100_000,
    "huge": b" " * 1_000_001,
    "rows": b'{"exercises": {"3.1": 3}}',
    "null": b"null",
    "name": b'{"exercises": {}, "name": ["a"]}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_put_aside(own_file: Path, content: bytes) -> None:
    """A damaged file is told in one sentence and kept; a new one begins."""
    own_file.parent.mkdir()
    own_file.write_bytes(content)
    assert "is damaged" in my_progress().note
    assert own_file.read_bytes() == content, "looking changes nothing"
    verdict = check_answer("3.1", 7)
    assert verdict
    assert "it is kept as progress.json.damaged-1" in verdict.note
    assert own_file.with_name("progress.json.damaged-1").read_bytes() == content
    assert check_answer("3.2", "c").note == ""


def test_a_file_that_cannot_be_written_is_told(own_file: Path) -> None:
    """The verdict is given all the same, with one sentence about the file."""
    own_file.mkdir(parents=True)
    verdict = check_answer("3.1", 7)
    assert verdict
    assert "Your progress could not be kept" in verdict.note
    assert "cannot be read" in my_progress().note


def test_a_write_that_fails_loses_nothing(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full halfway, the old file is still whole, and nothing else is left."""
    check_answer("3.1", 7)
    before = own_file.read_bytes()

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress_room.Path, "replace", full)
    assert "No space left" in check_answer("3.2", "c").note
    assert own_file.read_bytes() == before
    assert {each.name for each in own_file.parent.iterdir()} == {
        own_file.name,
        "progress.json.lock",
    }


def test_two_notebooks_at_a_time_lose_no_try(own_file: Path) -> None:
    """Tries that come at the same time are all counted."""
    threads = [
        threading.Thread(target=lambda: [note_try("3.1", right=False) for _ in range(5)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads(own_file.read_text(encoding="utf-8"))["exercises"]["3.1"]["tries"] == 20


def test_the_file_is_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a choice the file lies in the user's folder for data."""
    monkeypatch.delenv("LOCAL_PIPELINES_PROGRESS")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert progress_file() == tmp_path / "local_pipelines" / "progress.json"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert progress_file() == tmp_path / "local_pipelines" / "progress.json"
    monkeypatch.setattr("sys.platform", "darwin")
    assert "Application Support" in str(progress_file())


def hand_in(folder: Path, name: str, content: object) -> None:
    file = folder / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def test_a_class_gets_a_table(tmp_path: Path) -> None:
    """Each file that was handed in is a row, in HTML and CSV; a damaged one says so."""
    done = {"3.1": {"tries": 2, "done": "2026-02-03"}, "3.2": {"tries": 1}}
    hand_in(tmp_path, "one", {"name": "Ada", "exercises": done})
    hand_in(tmp_path, "below/two", {"exercises": {}})
    (tmp_path / "three.json").write_bytes(b"\xff")
    page, table = write_report(tmp_path)
    rows = list(csv.reader(table.read_text(encoding="utf-8-sig").splitlines()))
    by_name = {row[0]: row for row in rows[1:]}
    assert {*by_name} == {"Ada", "below/two", "three"}
    assert by_name["Ada"][rows[0].index("3")] == "1 of 11"
    assert by_name["three"][-1] == "cannot be read"
    assert "Ada" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "＝1", '=HYPERLINK("x")']
)
def test_no_name_is_a_formula(tmp_path: Path, name: str) -> None:
    """A spreadsheet does not compute what a learner typed as a name."""
    hand_in(tmp_path, "one", {"name": name, "exercises": {}})
    _, table = write_report(tmp_path)
    with table.open(encoding="utf-8-sig", newline="") as stream:
        assert [row[0] for row in csv.reader(stream)][1].startswith("'")


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    """Markup in a name or in a file's name is text in the page."""
    hand_in(tmp_path, "one", {"name": "<script>alert(1)</script>", "exercises": {}})
    hand_in(tmp_path, "<img src=x onerror=alert(1)>", {"exercises": {}})
    text = write_report(tmp_path)[0].read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_stop_the_report(tmp_path: Path) -> None:
    """What is no file is left out, and nobody waits for it."""
    os.mkfifo(tmp_path / "pipe.json")
    _, table = write_report(tmp_path)
    assert len(table.read_text(encoding="utf-8-sig").splitlines()) == 1


def test_the_command_says_where_the_tables_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command names both files; a folder that is not there ends in one sentence."""
    assert main([str(tmp_path)]) == 0
    assert "class.html" in capsys.readouterr().out
    assert main([str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
