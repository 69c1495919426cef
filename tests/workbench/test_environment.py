"""The first cell of every notebook: settings, cache folder, token, tracing, and the report."""

from __future__ import annotations

import html.parser
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from local_pipelines import install_packages, setup_environment
from local_pipelines.errors import (
    DeviceError,
    EnvironmentFileError,
    MissingPackageError,
    ParameterError,
)
from local_pipelines.workbench import environment, packages, settings, versions
from local_pipelines.workbench.devices import Device

SECRET = "hf_practice0123456789"

pytestmark = pytest.mark.usefixtures("home", "quick_device", "no_client", "online")


@pytest.fixture
def quick_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose selection does not import torch."""
    device = Device(index=-1, name="cpu", dtype="float32", reason="It is <the> CPU.")
    monkeypatch.setattr(
        "local_pipelines.workbench.devices.select_device", lambda prefer="auto": device
    )
    monkeypatch.setattr(
        "local_pipelines.workbench.report.select_device", lambda prefer="auto": device
    )


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads allowed, as on a learner's machine."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def write_env(text: str, folder: str = ".") -> Path:
    path = Path(folder) / ".env"
    path.write_text(text, encoding="utf-8")
    return path


# --- .env ---------------------------------------------------------------------------------------


def test_the_nearest_env_file_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first .env from the working folder upward counts, and only that one."""
    write_env("LESSON=outer\nOTHER=outer\n", str(home))
    write_env("LESSON=inner\n")
    (home / "course" / "notebooks").mkdir()
    monkeypatch.chdir(home / "course" / "notebooks")
    found = setup_environment()
    assert os.environ["LESSON"] == "inner"
    assert "OTHER" not in os.environ
    assert f"read from {Path('..', '.env')}" in repr(found)


def test_a_missing_env_file_is_no_fault() -> None:
    """Without a .env the report says so, and that none is needed."""
    found = setup_environment()
    assert found.env_file is None
    assert "no .env found; none is needed" in repr(found)
    assert not found.notes


def test_what_is_set_already_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment wins over .env; a note names the variable, never its value."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    write_env("HF_TOKEN=hf_practice_other\n")
    found = setup_environment()
    assert os.environ["HF_TOKEN"] == SECRET
    assert found.notes == ("Set in the environment already, so .env does not count for: HF_TOKEN.",)
    assert found.token == "HF_TOKEN"


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_does_not_hide_the_env_file(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty HF_TOKEN counts as unset, so the one in .env is used."""
    monkeypatch.setenv("HF_TOKEN", empty)
    write_env(f"HF_TOKEN={SECRET}\n")
    assert setup_environment().token == "HF_TOKEN, from .env"
    assert os.environ["HF_TOKEN"] == SECRET


def test_empty_lines_of_the_env_file_set_nothing() -> None:
    """A .env copied from the example, with nothing filled in, changes nothing."""
    write_env("HF_TOKEN=\nHF_HOME=\nHF_ENDPOINT=''\nLANGSMITH_TRACING=\n")
    found = setup_environment()
    assert not {"HF_TOKEN", "HF_HOME", "HF_ENDPOINT"} & set(os.environ)
    assert found.token is None
    assert not found.notes


def test_an_edited_env_file_counts_when_the_cell_runs_again() -> None:
    """Running the cell again takes the new values, and forgets those that were deleted."""
    write_env(f"HF_TOKEN={SECRET}\nLESSON=first\nHF_HOME=first\n")
    setup_environment()
    write_env("LESSON=second\nLANGSMITH_TRACING=true\n")
    found = setup_environment()
    assert os.environ["LESSON"] == "second"
    assert "HF_TOKEN" not in os.environ
    assert found.hf_home.name == "huggingface"
    assert found.tracing.startswith("on (LANGSMITH_TRACING)")


def test_what_the_learner_set_by_hand_stays() -> None:
    """A variable changed between two runs of the cell is the learner's, and is kept."""
    write_env(f"HF_TOKEN={SECRET}\n")
    setup_environment()
    os.environ["HF_TOKEN"] = "hf_practice_by_hand"
    os.environ["TRANSFORMERS_VERBOSITY"] = "info"
    setup_environment()
    assert os.environ["HF_TOKEN"] == "hf_practice_by_hand"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"


def test_a_broken_line_is_named_and_left_out() -> None:
    """A line that is no setting is noted by its number; the others count."""
    write_env(f'# settings\nthis is a sentence\nHF_TOKEN="{SECRET}"\n')
    found = setup_environment()
    assert found.notes == (
        ".env, line 2: not understood and left out. Each line is written NAME=value.",
    )
    assert os.environ["HF_TOKEN"] == SECRET


def test_a_byte_order_mark_does_no_harm() -> None:
    """A .env saved by a Windows editor, with its mark at the front, is read."""
    Path(".env").write_text(f"HF_TOKEN={SECRET}\r\n", encoding="utf-8-sig")
    assert setup_environment().token == "HF_TOKEN, from .env"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"HF_TOKEN={SECRET}é".encode("latin-1"), "it is not UTF-8 text"),
        (f"HF_TOKEN={SECRET}".encode("utf-16"), "it is not UTF-8 text"),
        (f"HF_TOKEN={SECRET}".encode("utf-16-le"), "it is not text"),
        (None, "is a directory"),
    ],
)
def test_an_unreadable_env_file_gets_one_sentence(content: bytes | None, reason: str) -> None:
    """A .env in another encoding, or a folder of that name, is refused without its content."""
    if content is None:
        Path(".env").mkdir()
    else:
        Path(".env").write_bytes(content)
    if sys.platform == "win32" and content is None:
        reason = "permission denied"
    with pytest.raises(EnvironmentFileError) as caught:
        setup_environment()
    assert caught.value.fact == f"The settings file .env cannot be read: {reason}."
    assert caught.value.__context__ is None
    assert "HF_TOKEN" not in os.environ


def test_an_env_file_without_permission_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A .env that may not be read is refused as such."""

    def refuse(*args: object, **kwargs: object) -> str:
        raise PermissionError(13, "Permission denied")

    write_env("LESSON=1\n")
    monkeypatch.setattr(Path, "read_text", refuse)  # the tests may run as root
    with pytest.raises(EnvironmentFileError, match=r"\.env cannot be read: permission denied"):
        setup_environment()


def test_a_virtual_environment_called_env_is_passed_over() -> None:
    """A virtual environment in a folder named .env is not taken for settings."""
    Path(".env").mkdir()
    Path(".env", "pyvenv.cfg").touch()
    assert setup_environment().env_file is None


@pytest.fixture
def two_users(home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[Path, int]]:
    """A folder shared by many with a .env in it, and the owners of files other than ours, 1000."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    owners: dict[Path, int] = {}
    monkeypatch.setattr(settings, "_owner", lambda path: owners.get(path, 1000))
    shared = write_env("HF_ENDPOINT=http://evil.example\n", str(home))
    return shared, owners


def test_somebody_elses_env_file_is_not_read(two_users: tuple[Path, dict[Path, int]]) -> None:
    """In a folder that many write to, anybody could send our token to a Hub of their own."""
    shared, owners = two_users
    owners[shared] = 2000
    found = setup_environment()
    assert "HF_ENDPOINT" not in os.environ
    assert found.env_file is None
    assert found.notes == (
        f"{Path('..', '.env')} belongs to another user, so it is not read. If you trust it, name"
        " it: setup_environment(env_file=…).",
    )
    assert setup_environment(env_file=shared).env_file == shared


def test_an_env_file_further_up_is_read_past_somebody_elses(
    two_users: tuple[Path, dict[Path, int]],
) -> None:
    """Our own settings count though somebody put a file in between."""
    shared, owners = two_users
    between = write_env("LESSON=theirs\n")
    owners[between.absolute()] = 2000
    assert setup_environment().env_file == shared
    assert "LESSON" not in os.environ


def test_root_in_a_container_reads_the_folders_own_env_file(
    two_users: tuple[Path, dict[Path, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the course's folder and its .env belong to one user outside, and we are root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert setup_environment().env_file == two_users[0]


def test_a_named_settings_file_must_be_there() -> None:
    """A settings file that is named and missing is an error, unlike a missing .env."""
    with pytest.raises(EnvironmentFileError, match=r"There is no settings file lesson\.env"):
        setup_environment(env_file="lesson.env")


def test_a_settings_file_elsewhere_is_shown_from_home(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A settings file far from the working folder is shown without the home folder's path."""
    (home / "lesson.env").write_text("OTHER=2\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = setup_environment(env_file=home / "lesson.env")
    assert f"read from {Path('~', 'lesson.env')}" in repr(found)


def test_the_token_file_follows_a_relative_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token stored in a relative HF_HOME is found from every notebook's folder."""
    write_env("HF_HOME=models\n")
    (home / "course" / "models").mkdir()
    (home / "course" / "models" / "token").write_text(SECRET)
    (home / "course" / "notebooks").mkdir()
    monkeypatch.chdir(home / "course" / "notebooks")
    assert setup_environment().token == "token file"


def test_a_named_settings_file_is_read() -> None:
    """A settings file can be named, and then no other is looked for."""
    write_env("LESSON=1\n")
    Path("lesson.env").write_text("OTHER=2\n")
    setup_environment(env_file="lesson.env")
    assert os.environ["OTHER"] == "2"
    assert "LESSON" not in os.environ


# --- token --------------------------------------------------------------------------------------


def test_the_token_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """White space and quotes around HF_TOKEN are taken off, where libraries would fail on them."""
    monkeypatch.setenv("HF_TOKEN", f' "{SECRET}"\n')
    setup_environment()
    assert os.environ["HF_TOKEN"] == SECRET


def test_what_cannot_be_a_token_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An impossible HF_TOKEN stops no lesson: it is dropped, and a note says why."""
    monkeypatch.setenv("HF_TOKEN", "hf_practice my token")
    found = setup_environment()
    assert "HF_TOKEN" not in os.environ
    assert found.token is None
    assert "character 12 of 20 is white space" in found.notes[0]
    assert "practice" not in repr(found)


def test_langchains_variable_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """HUGGINGFACEHUB_API_TOKEN fills an unset HF_TOKEN, and the report says so."""
    write_env(f"HUGGINGFACEHUB_API_TOKEN={SECRET}\n")
    found = setup_environment()
    assert os.environ["HF_TOKEN"] == SECRET
    assert found.token == "HUGGINGFACEHUB_API_TOKEN, from .env"
    assert "it is now a copy of HUGGINGFACEHUB_API_TOKEN" in found.notes[0]


def test_langchains_variable_does_not_replace_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """HUGGINGFACEHUB_API_TOKEN is left alone where HF_TOKEN is set."""
    monkeypatch.setenv("HUGGINGFACEHUB_API_TOKEN", "hf_practice_other")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert setup_environment().token == "HF_TOKEN"
    assert os.environ["HF_TOKEN"] == SECRET


def test_a_broken_token_file_is_a_note(home: Path) -> None:
    """A token file that cannot be used is noted; the lesson goes on without a token."""
    path = home / ".cache" / "huggingface" / "token"
    path.mkdir(parents=True)
    found = setup_environment()
    assert found.token is None
    assert "The file that holds the token cannot be read" in found.notes[0]


def test_the_report_never_holds_the_token() -> None:
    """Neither form of the report, nor any field, shows the token."""
    write_env(f"HF_TOKEN={SECRET}\n")
    found = setup_environment()
    assert "found: HF_TOKEN, from .env" in repr(found)
    assert SECRET not in repr(found) + found._repr_html_() + str(vars(found))


# --- cache folder -------------------------------------------------------------------------------


def test_the_cache_folder_is_made(home: Path) -> None:
    """HF_HOME with a tilde becomes an absolute path, and the folder is there afterwards."""
    write_env("HF_HOME=~/models/hub\n")
    found = setup_environment()
    assert found.hf_home == home / "models" / "hub"
    assert os.environ["HF_HOME"] == str(found.hf_home)
    assert list(found.hf_home.iterdir()) == []


def test_a_relative_path_counts_from_its_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative HF_HOME in .env is one folder for all notebooks, wherever they lie."""
    write_env("HF_HOME=models\n")
    (home / "course" / "notebooks").mkdir()
    monkeypatch.chdir(home / "course" / "notebooks")
    assert setup_environment().hf_home == home / "course" / "models"


def test_the_usual_cache_folder_is_the_clients(
    home: Path, run_python: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without HF_HOME the folder is the client's own, and HF_HOME stays unset."""
    assert setup_environment().hf_home == home / ".cache" / "huggingface"
    assert "HF_HOME" not in os.environ
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    clients = run_python("from huggingface_hub.constants import HF_HOME as h; print(h)")
    assert str(setup_environment().hf_home) == clients.strip()


@pytest.mark.parametrize("name", ["HF_HOME", "HF_HUB_CACHE"])
def test_a_cache_folder_that_cannot_be_used(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the folder's place gets a note: the fact, the variable and what to do."""
    (home / "models").write_text("not a folder")
    monkeypatch.setenv(name, "~/models")
    [note] = setup_environment().notes
    fact = f"Models cannot be kept in {Path('~', 'models')}: there is a file of that name."
    assert note.startswith(f"{fact} {name} says so. ")
    assert "Set HF_HOME in .env to a folder" in note


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, for whom every folder can be written to.
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)


@pytest.mark.usefixtures("read_only")
def test_no_write_access_to_the_cache_folder() -> None:
    """A folder without write access is noted before a download fails half-way."""
    [note] = setup_environment().notes
    assert "permission denied. It is where they go as long as HF_HOME is not set." in note


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files on Windows")
@pytest.mark.parametrize("place", ["/dev/null", "/proc"])
def test_a_home_that_cannot_be_written_to_stops_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded model needs no folder: its lesson goes on, with a note on all others."""
    monkeypatch.setenv("HOME", place)
    found = setup_environment()
    assert len(found.notes) == 1
    assert 'Only "pocket" works so' in found.notes[0]
    assert "Disk" in repr(found)


@pytest.mark.usefixtures("read_only")
def test_a_shared_read_only_folder_serves_offline(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class room's shared folder may be read-only as long as nothing is downloaded."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = setup_environment()
    assert "can be used all the same" in found.notes[0]
    assert found.online == "offline (HF_HUB_OFFLINE)"


@pytest.mark.parametrize(
    ("value", "online"),
    [("1", False), ("yes", False), ("0", True), ("", True)],
)
def test_offline_mode_is_read_as_the_client_reads_it(
    value: str, online: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report shows offline mode for the words that the client takes for true."""
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    expected = "online allowed" if online else "offline (HF_HUB_OFFLINE)"
    assert setup_environment().online == expected


def test_another_hub_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is sent somewhere else sees it in the report; huggingface.co goes without saying."""
    monkeypatch.setenv("HF_ENDPOINT", "https://ann:s3cret@mirror.example")
    found = setup_environment()
    assert found.online == "online allowed; its address is https://mirror.example (HF_ENDPOINT)"
    assert "s3cret" not in repr(found) + found._repr_html_()
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co/")
    assert setup_environment().online == "online allowed"


LATE = """
import os, sys
{first}
os.environ.update({changed!r})
from local_pipelines import setup_environment
for note in setup_environment().notes: print(note)
"""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"HF_HOME": "elsewhere"}, ["HF_HOME"]),
        ({"HF_HUB_CACHE": "elsewhere"}, ["HF_HUB_CACHE"]),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, ["HF_ENDPOINT"]),
        ({"HF_HUB_OFFLINE": "0"}, ["HF_HUB_OFFLINE"]),
        ({"LESSON": "1"}, []),
    ],
)
def test_a_variable_that_comes_too_late_is_named(
    changed: dict[str, str], named: list[str], run_python: Callable[..., str]
) -> None:
    """What changed after the client was imported asks for a restart; a fresh kernel for nothing."""
    environ = {"HF_HUB_OFFLINE": "1"}
    late = run_python(
        LATE.format(first="import huggingface_hub.constants", changed=changed), **environ
    )
    notes = [line for line in late.splitlines() if "restart the kernel" in line]
    assert [note.split()[0] for note in notes] == named
    fresh = run_python(LATE.format(first="", changed=changed), **environ)
    assert "restart the kernel" not in fresh


def test_setting_up_does_not_import_the_client(run_python: Callable[..., str]) -> None:
    """Setting up imports nothing that freezes HF_HOME, and no torch."""
    loaded = run_python(
        "from local_pipelines import setup_environment\nsetup_environment()\n"
        "import sys\nprint(*sys.modules)"
    ).split()
    assert not {"huggingface_hub", "transformers", "torch"} & set(loaded)


# --- tracing and defaults -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "tracing", "notes"),
    [
        ({}, "off", 0),
        ({"LANGSMITH_TRACING": "true"}, "on (LANGSMITH_TRACING)", 0),
        ({"LANGCHAIN_TRACING_V2": "true"}, "on (LANGCHAIN_TRACING_V2)", 0),
        ({"LANGSMITH_TRACING": "false"}, "off (LANGSMITH_TRACING)", 0),
        ({"LANGSMITH_TRACING": "1"}, "off (LANGSMITH_TRACING)", 1),
        ({"LANGSMITH_TRACING": " false "}, "off (LANGSMITH_TRACING)", 0),
        ({"LANGCHAIN_TRACING": "1"}, "off (LANGCHAIN_TRACING)", 2),
        (
            {"LANGCHAIN_TRACING_V2": "false", "LANGSMITH_TRACING": "true"},
            "off (LANGCHAIN_TRACING_V2)",
            0,
        ),
    ],
)
def test_tracing_is_off_unless_asked_for(
    variables: dict[str, str], tracing: str, notes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says of tracing what LangSmith itself makes of the variables."""
    from langsmith import utils

    utils.get_env_var.cache_clear()
    utils.tracing_is_enabled()  # LangSmith remembers this look; ours must not go by it
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = setup_environment()
    assert found.tracing.startswith(tracing)
    assert len(found.notes) == notes
    assert bool(utils.tracing_is_enabled()) is found.tracing.startswith("on")
    utils.get_env_var.cache_clear()


def test_nothing_is_sent_anywhere_unless_the_learner_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Telemetry is off by default; the learner's own setting is kept."""
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    setup_environment()
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "1"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


@pytest.mark.parametrize(("own", "policy"), [(None, "passive"), ("active", "active")])
def test_threads_wait_asleep_unless_the_learner_says_otherwise(
    own: str | None, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads of torch that spin make answers many times slower beside another busy program."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if own:
        monkeypatch.setenv("OMP_WAIT_POLICY", own)
    setup_environment()
    assert os.environ["OMP_WAIT_POLICY"] == policy


# --- the report ---------------------------------------------------------------------------------


class _Table(html.parser.HTMLParser):
    """Reads a table back into rows, and fails on a tag that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.rows[-1].append(data)


def test_the_table_and_the_text_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's table has two columns, is escaped, and holds the words of the plain text."""
    monkeypatch.setattr(environment, "package_notes", lambda: ["Less < more & 'so on'."])
    found = setup_environment("en")
    table = _Table()
    table.feed(found._repr_html_())
    assert table.open == []
    assert {len(row) for row in table.rows} == {2}
    names = [name for name, _ in table.rows]
    for name in ("Python", "Memory", "Disk", "Device", "Packages", "Token", "Hub", "Tracing"):
        assert name in names
    assert ["Note", "Less < more & 'so on'."] in table.rows
    assert ["Device", "cpu, float32. It is <the> CPU."] in table.rows
    assert ["Language", "en"] in table.rows
    assert " ".join(repr(found).split()) == " ".join(
        word for row in table.rows for part in row for word in part.split()
    )


def test_the_text_fits_a_page() -> None:
    """No line of the plain report is longer than the notebooks' own lines."""
    assert max(map(len, repr(setup_environment()).splitlines())) <= 88


def test_the_report_does_not_tell_whose_machine_it_is(home: Path) -> None:
    """Stored in a notebook, the report shows ~ and relative paths, not a home folder."""
    write_env("HF_HOME=~/models\n")
    found = setup_environment()
    assert str(home) not in repr(found) + found._repr_html_()
    assert f"{Path('~', 'models')} (HF_HOME)" in repr(found)


@pytest.mark.parametrize(
    "error",
    [DeviceError("No device."), ImportError("No module named 'torch'"), OSError("broken.so")],
)
def test_a_broken_torch_does_not_hide_the_report(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device cannot be told, its row says why and all others are there."""

    def fail(prefer: str = "auto") -> Device:
        raise error

    monkeypatch.setattr("local_pipelines.workbench.devices.select_device", fail)
    monkeypatch.setattr("local_pipelines.workbench.report.select_device", fail)
    shown = repr(setup_environment())
    assert f"unknown: {error}" in shown
    assert "Tracing" in shown


def test_the_numbers_are_this_machines() -> None:
    """Memory, disk and cores are those that this process may use."""
    found = setup_environment()
    assert 0 < found.ram_free <= found.ram_total
    assert found.disk_free > 0
    assert found.cpu_cores >= 1
    assert found.python == ".".join(map(str, sys.version_info[:3]))


def test_a_language_is_a_tag() -> None:
    """A path in the place of the language is refused with the argument that takes paths."""
    assert setup_environment("zh-CN").language == "zh-CN"
    with pytest.raises(ParameterError, match="env_file="):
        setup_environment("../.env")


def test_setting_up_is_quick() -> None:
    """Setting up takes no time worth waiting for: the heavy imports come with the report."""
    started = time.monotonic()
    setup_environment()
    assert time.monotonic() - started < 5


# --- packages -----------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that these packages are installed: name = (version, requirement, …)."""

    def pretend(**known: tuple[str, ...]) -> None:
        table = {name.replace("_", "-"): facts for name, facts in known.items()}

        def version(name: str) -> str:
            if name not in table:
                raise packages.metadata.PackageNotFoundError(name)
            return table[name][0]

        def requires(name: str) -> list[str]:
            version(name)
            return list(table[name][1:])

        fake = SimpleNamespace(
            version=version,
            requires=requires,
            distributions=lambda: [SimpleNamespace(name=n, version=f[0]) for n, f in table.items()],
            packages_distributions=lambda: {n.replace("-", "_"): [n] for n in table},
            PackageNotFoundError=packages.metadata.PackageNotFoundError,
        )
        monkeypatch.setattr(packages, "metadata", fake)
        monkeypatch.setattr(versions, "metadata", fake)

    return pretend


@pytest.mark.parametrize(
    ("torch", "vision", "system", "fault"),
    [
        ("2.13.0+cpu", ("0.28.0", "torch==2.13.0"), "Linux", True),
        ("2.13.0+cpu", ("0.28.0+cpu", "torch==2.13.0"), "Linux", False),
        ("2.13.0+cpu", ("0.28.0", "torch==2.13.0"), "Darwin", False),
        ("2.13.0", ("0.28.0", "torch==2.13.0"), "Linux", False),
        ("2.13.0", ("0.28.0+cu130", "torch==2.13.0"), "Linux", False),
        ("2.13.0+cu126", ("0.28.0+cu130", "torch==2.13.0"), "Linux", True),
        ("2.13.0", ("0.29.2", "torch>=2.14.0"), "Linux", True),
        ("2.13.0", ("0.27.0", "numpy", "torch==2.12.0"), "Darwin", True),
    ],
)
def test_a_torchvision_that_does_not_fit_is_recognised(
    torch: str,
    vision: tuple[str, ...],
    system: str,
    fault: bool,
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A torchvision for another torch, or for a GPU beside a CPU's torch, gets its cure."""
    installed(torch=(torch,), torchvision=vision)
    monkeypatch.setattr(packages.platform, "system", lambda: system)
    note = packages.torchvision_fault()
    assert bool(note) is fault
    if fault:
        assert "`%pip uninstall -y torchvision` and restart the kernel" in note


def test_missing_packages_are_noted_with_the_call_that_brings_them(
    installed: Callable[..., None],
) -> None:
    """The report names what the course needs and lacks, ready to be copied into a cell."""
    installed(local_pipelines=("1", "torch>=2.4", "ray>2; extra == 'scale'"), torch=("2.3",))
    found = setup_environment()
    assert found.notes == (
        'The course needs other packages than are here: install_packages("torch>=2.4").',
    )
    assert found.packages["torch"] == "2.3"
    assert found.packages["ray"] is None
    assert 'install_packages("openvino") install_packages("scale")' in " ".join(repr(found).split())


def test_what_is_there_is_not_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requirements that are met start no pip, and the result says so."""
    monkeypatch.setattr(packages, "run_installer", lambda needs: pytest.fail("pip was started"))
    done = install_packages("pytest", "packaging>=20", "nothing; sys_platform == 'none'")
    assert repr(done) == "Nothing to do, already here: pytest, packaging>=20."


COURSE = (
    "1.0",
    "torch>=2",
    'ray[data]>=2.40; extra == "scale"',
    'jupyter; extra == "lab"',
    'local-pipelines[lab]; extra == "test"',
)


@pytest.mark.parametrize(
    ("asked", "pip_gets"),
    [
        ([], ["local-pipelines"]),
        (["scale"], ["local-pipelines[scale]"]),
        (["test"], ["local-pipelines[test]"]),
        (["torch", "scale"], ["torch", "local-pipelines[scale]"]),
        (["ray[data]"], ["ray[data]"]),
        (["ray"], []),
    ],
)
def test_extras_of_the_course_are_looked_up(
    asked: list[str],
    pip_gets: list[str],
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An extra is the course's own for pip; a package lacking an extra's packages is not met."""
    installed(local_pipelines=COURSE, ray=("2.60", "pyarrow; extra == 'data'"))
    given: list[str] = []
    monkeypatch.setattr(packages, "run_installer", given.extend)
    install_packages(*asked)
    assert [need.replace(" ", "") for need in given] == pip_gets


def test_an_extra_that_is_there_starts_no_pip(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for is looked up with all that hangs on it."""
    installed(
        local_pipelines=COURSE,
        torch=("2.13",),
        ray=("2.60", "pyarrow; extra == 'data'"),
        pyarrow=("25",),
        jupyter=("1",),
    )
    monkeypatch.setattr(packages, "run_installer", lambda needs: pytest.fail("pip was started"))
    assert install_packages().present == ("local-pipelines",)
    assert install_packages("scale", "test").present == ("scale", "test")


def test_what_is_in_use_is_looked_up_once(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the metadata of all packages takes a second in a large environment."""
    looks: list[int] = []
    versions = iter([{"one": "1", "two": "1"}, {"one": "2", "two": "2"}])
    monkeypatch.setattr(packages, "_all_versions", lambda: next(versions))
    monkeypatch.setattr(packages, "_in_use", lambda: looks.append(1) or {"one", "two"})
    monkeypatch.setattr(packages, "run_installer", lambda needs: None)
    installed()
    assert install_packages("three").restart == ("one", "two")
    assert looks == [1]


def test_extras_without_the_course_are_not_guessed(installed: Callable[..., None]) -> None:
    """Where the course is not installed, "openvino" is not taken for the package of that name."""
    installed(openvino=("2026.4",))
    with pytest.raises(
        MissingPackageError, match=r"What openvino needs is unknown.*pip install -e"
    ):
        install_packages("openvino")


@pytest.mark.parametrize("text", ["--index-url=x", "two words", "-r more.txt"])
def test_what_names_no_package_is_refused(text: str) -> None:
    """An option of pip, or a slip, is refused before pip sees it."""
    with pytest.raises(ParameterError, match="names no package"):
        install_packages(text)


def test_pips_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """When pip fails, its last words are the cause; no network is needed to see that."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(MissingPackageError) as caught:
        install_packages("no-such-thing-in-the-world>=1")
    assert caught.value.fact == "Installing no-such-thing-in-the-world>=1 failed."
    assert "No matching distribution found for no-such-thing" in caught.value.cause
    assert "\x1b" not in caught.value.cause
    assert len(caught.value.cause) < 400


def make_wheel(folder: Path, version: str) -> None:
    """Write the smallest package that pip accepts."""
    folder.mkdir(exist_ok=True)
    info = f"lesson_toy-{version}.dist-info"
    with zipfile.ZipFile(folder / f"lesson_toy-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lesson_toy.py", f"VERSION = {version!r}\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: lesson-toy\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/top_level.txt", "lesson_toy\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_a_package_is_installed_into_the_running_kernel(
    tmp_path: Path, run_python: Callable[..., str]
) -> None:
    """A new package can be imported at once; replacing it in use asks for a restart."""
    make_wheel(tmp_path / "wheels", "1.0")
    make_wheel(tmp_path / "wheels", "2.0")
    target = tmp_path / "target"
    target.mkdir()
    said = run_python(
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "from local_pipelines import install_packages\n"
        "print(install_packages('lesson-toy<2'))\n"
        "import lesson_toy; print(lesson_toy.VERSION)\n"
        "print(install_packages('lesson_toy'))\n"
        "print(install_packages('lesson-toy>=2'))\n",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(tmp_path / "wheels"),
        PIP_TARGET=str(target),  # keeps the toy out of the environment that runs the tests
        PIP_UPGRADE="1",
    )
    assert said.splitlines() == [
        "Installed: lesson-toy 1.0.",
        "1.0",
        "Nothing to do, already here: lesson_toy.",
        "Installed: lesson-toy 2.0. Restart the kernel: it still uses the old lesson-toy.",
    ]


def test_uv_installs_where_there_is_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment made by uv has no pip: uv is used, for this very Python."""
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/tools/{name}")
    command = packages.installer_command()
    assert command[:3] == ["/tools/uv", "pip", "install"]
    assert command[-2:] == ["--python", sys.executable]
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(MissingPackageError, match="Neither pip nor uv"):
        packages.installer_command()
