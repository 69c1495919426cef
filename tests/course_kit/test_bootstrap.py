"""`bootstrap.py` makes the environment once, and says in a sentence what keeps it from doing so."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import venv
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from course_kit import bootstrap
from course_kit.bootstrap import Interpreter, SetupError

SCRIPT = Path(bootstrap.__file__)
GOOD = Interpreter("/usr/bin/python3.12", (3, 12, 4), True)
OLD = Interpreter("/usr/bin/python3", (3, 9, 2), True)
BARE = Interpreter("/usr/bin/python3", (3, 11, 2), False)


class Machine:
    """A machine without a Python, a disk or a network of its own: it notes what is asked of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.pythons: dict[str, Interpreter] = {sys.executable: GOOD}
        self.free = 100e9
        self.commands: list[list[str]] = []
        self.failure: list[str] | None = None
        self.environ: dict[str, str] = {}

    def probe(self, command: list[str]) -> Interpreter | None:
        inside = str(bootstrap.venv_python(self.venv))
        if command == [inside] and Path(inside).exists():
            return GOOD
        return self.pythons.get(" ".join(command))

    def run(self, words, environ=None, folder=None, tick=None) -> tuple[int, list[str]]:
        """Stand in for every command: venv makes files, pip may be set to fail."""
        self.commands.append(list(words))
        if "venv" in words:
            python = bootstrap.venv_python(self.venv)
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
            (self.venv / "pyvenv.cfg").write_text("version = 3.12.4\n")
        if "install" in words and self.failure is not None:
            return 1, self.failure
        return 0, []

    def installs(self) -> list[list[str]]:
        return [words for words in self.commands if "install" in words]

    def ensure(self) -> Path:
        return bootstrap.ensure_environment(self.root, self.environ)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Put the fake machine where bootstrap.py would find the real one."""
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "constraints.txt").write_text("torch==2")
    fake = Machine(tmp_path)
    monkeypatch.setattr(bootstrap, "probe", fake.probe)
    monkeypatch.setattr(bootstrap, "run_quietly", fake.run)
    monkeypatch.setattr(bootstrap, "answers", lambda url: False)
    monkeypatch.setattr(bootstrap, "has_nvidia", lambda: False)
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda _: SimpleNamespace(free=fake.free))
    return fake


# ------------------------------------------------------------------------- which Python


def test_an_old_python_gets_one_sentence(machine: Machine) -> None:
    """Where only an old Python is found, the message names it and says what to do."""
    machine.pythons = {sys.executable: OLD}
    with pytest.raises(SetupError, match=r"Python 3\.9\.2 .* needs 3\.11 or newer:") as error:
        machine.ensure()
    assert "\n" not in str(error.value)
    assert machine.commands == []


def test_a_newer_python_beside_an_old_one_is_used(machine: Machine) -> None:
    """An old `python3` does no harm where python3.12 stands beside it."""
    machine.pythons = {sys.executable: OLD, "python3.12": GOOD}
    machine.ensure()
    assert machine.commands[0] == [GOOD.path, "-m", "venv", "--clear", str(machine.venv)]


def test_the_variable_python_decides(machine: Machine) -> None:
    """PYTHON names the Python to use, and no other is tried in its place."""
    machine.pythons["/opt/old"] = OLD
    machine.environ = {"PYTHON": "/opt/old"}
    with pytest.raises(SetupError, match=r"3\.9\.2"):
        machine.ensure()
    machine.environ = {"PYTHON": "/opt/absent"}
    with pytest.raises(SetupError, match="No Python answers to '/opt/absent'"):
        machine.ensure()


def test_another_python_by_name_makes_the_environment_anew(machine: Machine) -> None:
    """An environment of Python 3.12 is replaced when PYTHON asks for 3.13."""
    machine.ensure()
    machine.pythons["python3.13"] = Interpreter("/usr/bin/python3.13", (3, 13, 0), True)
    machine.environ = {"PYTHON": "python3.13"}
    machine.ensure()
    assert [words[0] for words in machine.commands if "venv" in words][1] == "/usr/bin/python3.13"


def test_a_missing_venv_module_names_the_package(machine: Machine) -> None:
    """Without ensurepip the message names Debian's package for this very version."""
    machine.pythons = {sys.executable: BARE}
    with pytest.raises(SetupError, match=r"apt install python3\.11-venv") as error:
        machine.ensure()
    assert "\n" not in str(error.value)


def test_a_launcher_without_a_python_is_passed_over(tmp_path: Path) -> None:
    """A command that fails, or says something else, counts as no Python."""
    assert bootstrap.probe([str(tmp_path / "absent")]) is None
    assert bootstrap.probe([sys.executable, "-c", "print('Python was not found')"]) is None
    real = bootstrap.probe([sys.executable])
    assert real
    assert real.version == sys.version_info[:3]


@pytest.mark.skipif(os.name == "nt", reason="a fake Python is a shell script here")
def test_an_old_python_is_told_so_end_to_end(tmp_path: Path) -> None:
    """The script prints one sentence and exits 1 when PYTHON is too old; no traceback."""
    fake = tmp_path / "python3.6"
    fake.write_text("#!/bin/sh\necho /usr/bin/python3.6\necho 3 6 15 1\n")
    fake.chmod(0o755)
    result = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), "install"],
        env={**os.environ, "PYTHON": str(fake)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("This is Python 3.6.15")


def test_the_script_can_be_read_by_old_pythons() -> None:
    """bootstrap.py holds no syntax and no import that Python 3.6 lacks."""
    tree = ast.parse(SCRIPT.read_text(encoding="ascii"), feature_version=(3, 7))
    newer = (ast.NamedExpr, ast.Match, ast.TryStar)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, newer)]
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
    }
    assert not imported & {"__future__", "annotations", "dataclasses", "tomllib"}
    annotations = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    assert not [node.lineno for node in annotations if isinstance(node.op, ast.BitOr)]


# ------------------------------------------------------------------- installing, and not again


def test_the_second_call_installs_nothing(machine: Machine) -> None:
    """While nothing has changed, not one command is run."""
    machine.ensure()
    assert len(machine.installs()) == 1
    machine.commands.clear()
    assert machine.ensure() == bootstrap.venv_python(machine.venv)
    assert machine.commands == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_file_installs_again(machine: Machine, name: str) -> None:
    """A change of the wanted packages installs into the environment that is there."""
    machine.ensure()
    (machine.root / name).write_text("changed")
    machine.ensure()
    assert len(machine.installs()) == 2
    assert len([words for words in machine.commands if "venv" in words]) == 1


def test_an_update_needs_no_room_for_a_fresh_installation(machine: Machine) -> None:
    """A disk that has become full does not keep an installed course from running."""
    machine.ensure()
    machine.free = 1e9
    (machine.root / "constraints.txt").write_text("changed")
    machine.ensure()
    assert len(machine.installs()) == 2


def test_a_full_disk_is_seen_before_anything_is_made(machine: Machine) -> None:
    """Too little room is said in one sentence with the figure, and nothing is left behind."""
    machine.free = 1.26e9
    with pytest.raises(SetupError, match=r"1\.3 GB free and the installation needs 4 GB") as error:
        machine.ensure()
    assert "\n" not in str(error.value)
    assert not machine.venv.exists()


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying after NewConnectionError(...)", "the package index cannot be reached"),
        ("ERROR: No matching distribution found for torch==2", "no build for this Python"),
        ("error: something else", "the lines above say why"),
    ],
)
def test_a_failed_installation_is_explained(machine: Machine, output: str, cause: str) -> None:
    """The output's end is shown, then one sentence; no stamp stays, so the next call goes on."""
    machine.failure = ["Collecting torch", output]
    with pytest.raises(SetupError) as error:
        machine.ensure()
    *shown, sentence = str(error.value).splitlines()
    assert shown[-1].strip() == output
    assert cause in sentence
    assert sentence.endswith("type the same command again.")
    assert not (machine.venv / bootstrap.STAMP).exists()
    machine.failure = None
    machine.ensure()
    assert (machine.venv / bootstrap.STAMP).exists()


def test_a_failed_update_leaves_no_stamp(machine: Machine) -> None:
    """After a failed update the old stamp is gone: half an update does not pass for the whole."""
    machine.ensure()
    (machine.root / "pyproject.toml").write_text("changed")
    machine.failure = ["error"]
    with pytest.raises(SetupError):
        machine.ensure()
    (machine.root / "pyproject.toml").write_text("[project]")
    machine.failure = None
    machine.ensure()
    assert len(machine.installs()) == 3


@pytest.mark.parametrize("damage", ["empty folder", "no note", "no Python"])
def test_half_an_environment_is_made_anew(machine: Machine, damage: str) -> None:
    """What an interrupted creation left behind is repaired."""
    if damage == "empty folder":
        machine.venv.mkdir()
    else:
        machine.ensure()
        name = "pyvenv.cfg" if damage == "no note" else bootstrap.venv_python(machine.venv)
        (machine.venv / name).unlink()
        machine.commands.clear()
    machine.ensure()
    assert [words for words in machine.commands if "venv" in words]
    assert machine.installs()


def test_a_second_command_waits_for_the_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two commands do not install into one environment at once; the second one says it waits."""
    first = ExitStack()
    first.enter_context(bootstrap.one_at_a_time(machine.root))

    def let_the_first_end(seconds: float) -> None:
        bootstrap.make_environment(machine.root, machine.venv, None, {})
        first.close()

    monkeypatch.setattr(bootstrap.time, "sleep", let_the_first_end)
    machine.ensure()
    assert len(machine.installs()) == 1
    assert capsys.readouterr().out.count("Another command is installing") == 1


def test_a_disk_without_locks_is_no_hindrance(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some disks of networks have none; the course is installed all the same."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert machine.ensure()


def test_other_letters_in_the_folders_name_stop_no_python(tmp_path: Path) -> None:
    """The installed course is found in whatever language Python 3.11 reads its .pth files."""
    root = tmp_path / "leçon 课"
    (root / "src").mkdir(parents=True)
    (root / "src" / "lesson_toy.py").touch()
    venv.create(root / ".venv", with_pip=False)
    [packages] = [*root.glob(".venv/lib/*/site-packages"), *root.glob(".venv/Lib/site-packages")]
    (packages / "_editable.pth").write_text(f"{root / 'src'}\n", encoding="utf-8")
    (packages / "other.pth").write_text("/elsewhere\n")
    bootstrap.make_path_files_plain(root, root / ".venv")
    done = subprocess.run(
        [str(bootstrap.venv_python(root / ".venv")), "-c", "import lesson_toy"],
        env={"LC_ALL": "C"} if os.name == "posix" else None,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (packages / "other.pth").read_text() == "/elsewhere\n"


# ----------------------------------------------------------------- which build of PyTorch


def index_words(machine: Machine) -> list[str]:
    """Return the addresses that the installation was given."""
    machine.ensure()
    (words,) = machine.installs()
    return [words[at + 1] for at, word in enumerate(words) if word == "--extra-index-url"]


@pytest.fixture
def linux(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Turn the machine into one where pip alone would fetch gigabytes of CUDA."""
    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    monkeypatch.setattr(bootstrap, "answers", lambda url: url == bootstrap.CPU_INDEX + "/torch/")
    return machine


def test_linux_without_a_gpu_gets_the_cpu_build(linux: Machine) -> None:
    """Without an NVIDIA GPU PyTorch comes from the index of CPU builds, if that answers."""
    assert index_words(linux) == [bootstrap.CPU_INDEX]


def test_a_gpu_gets_pips_own_choice(linux: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an NVIDIA GPU nothing is added: pip's choice is the CUDA build."""
    monkeypatch.setattr(bootstrap, "has_nvidia", lambda: True)
    assert index_words(linux) == []


def test_wheels_at_hand_come_first(linux: Machine) -> None:
    """Where pip is given a folder of wheels, no other address is asked or added."""
    linux.environ = {"PIP_FIND_LINKS": "/wheels"}
    assert index_words(linux) == []


def test_pips_configuration_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of wheels in pip's own configuration counts as much as the variable."""
    said = ["global.find-links='/wheels /more'", "global.timeout='9'"]
    monkeypatch.setattr(bootstrap, "run_quietly", lambda *_: (0, said))
    assert bootstrap.find_links("python", {}) == ["/wheels", "/more"]


@pytest.mark.parametrize(("value", "expected"), [("https://mirror", ["https://mirror"]), ("", [])])
def test_the_variable_decides_on_the_index(linux: Machine, value: str, expected: list[str]) -> None:
    """LOCAL_PIPELINES_TORCH_INDEX wins; set and empty it means pip's own choice."""
    linux.environ = {"LOCAL_PIPELINES_TORCH_INDEX": value}
    assert index_words(linux) == expected


def test_uv_installs_when_asked(linux: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """USE_UV=1 installs with uv, which is told of pip's folder of wheels."""
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: "/bin/uv" if name == "uv" else None)
    environ = {"USE_UV": "1", "PIP_FIND_LINKS": "/wheels"}
    words, variables, _ = bootstrap.installer(linux.venv, environ)
    assert words[:3] == ["uv", "pip", "install"]
    assert variables["UV_FIND_LINKS"] == "/wheels"


def test_a_missing_uv_is_said(linux: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """USE_UV=1 without uv installs with pip, and does not do so in silence."""
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    words, _, note = bootstrap.installer(linux.venv, {"USE_UV": "1"})
    assert words[1:3] == ["-m", "pip"]
    assert "there is no uv here" in note


# ------------------------------------------------------------------- the real small model


def test_the_model_is_fetched_once(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """After an installation, and by the commands that can use it only."""
    python = machine.ensure()
    machine.commands.clear()
    for command in ("lint", "run", "test", "install"):
        bootstrap.fetch_model(command, python, {})
    assert machine.commands == [[str(python), "-c", bootstrap.FETCH_MODEL]]
    assert "smollm2" in capsys.readouterr().out


def test_no_way_to_the_model_is_one_line(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no index can be reached the course goes on; only `make install` asks again."""
    python = machine.ensure()
    capsys.readouterr()
    asked = []

    def fail(words: list[str], *_: object) -> tuple[int, list[str]]:
        asked.append(words)
        return 1, ["a bar", "The package cannot be fetched.", ""]

    monkeypatch.setattr(bootstrap, "run_quietly", fail)
    for command in ("run", "lab", "test"):
        bootstrap.fetch_model(command, python, {})
    assert len(asked) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    bootstrap.fetch_model("install", python, {})
    assert len(asked) == 2
    assert "The package cannot be fetched." in capsys.readouterr().out


# ------------------------------------------------------------------------- running commands


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in this very environment."""
    python = Path(sys.executable)
    monkeypatch.setattr(bootstrap, "ensure_environment", lambda root, environ: python)
    monkeypatch.setattr(bootstrap, "fetch_model", lambda name, python, environ: None)


def set_steps(monkeypatch: pytest.MonkeyPatch, name: str, steps: Any) -> None:
    monkeypatch.setitem(bootstrap.COMMANDS, name, bootstrap.Command("", steps))


@pytest.mark.usefixtures("here")
def test_the_exit_status_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status of the command is the status of bootstrap.py."""
    script = tmp_path / "ends.py"
    script.write_text("import sys; sys.exit(int(sys.argv[1]))")
    set_steps(monkeypatch, "run", lambda arguments: [[str(script), *arguments]])
    assert bootstrap.main(["run", "0"]) == 0
    assert bootstrap.main(["run", "7"]) == 7


@pytest.mark.usefixtures("here")
def test_all_checks_run_though_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`test` goes on after a failed check, names the failed ones and exits with their status."""
    script = tmp_path / "check.py"
    script.write_text("import sys; print('ran', *sys.argv[1:]); sys.exit(int(sys.argv[1]))")
    steps = [[str(script), "3", "-q"], [str(script), "0"]]
    set_steps(monkeypatch, "test", lambda arguments: steps)
    assert bootstrap.main(["test"]) == 3
    shown = capfd.readouterr()
    assert "ran 3 -q\n" in shown.out
    assert "ran 0\n" in shown.out
    assert shown.err == f"Failed: {script} 3\n"


def test_commands_see_the_environment_as_activated(tmp_path: Path) -> None:
    """A command finds the environment's programs first, and reads files as UTF-8 everywhere."""
    python = tmp_path / ".venv" / "bin" / "python"
    inner = bootstrap.inner_environment(python, {"PATH": "/bin", "PYTHONHOME": "/x", "A": "1"})
    assert inner["PATH"] == os.pathsep.join([str(python.parent), "/bin"])
    assert inner["VIRTUAL_ENV"] == str(tmp_path / ".venv")
    assert inner["PYTHONUTF8"] == "1"
    assert inner["A"] == "1"
    assert "PYTHONHOME" not in inner


def test_commands_have_threads_that_wait_asleep(tmp_path: Path) -> None:
    """Beside another busy program spinning threads make lessons many times slower."""
    assert bootstrap.inner_environment(tmp_path, {})["OMP_WAIT_POLICY"] == "passive"
    own = {"OMP_WAIT_POLICY": "active"}
    assert bootstrap.inner_environment(tmp_path, own)["OMP_WAIT_POLICY"] == "active"


def test_ctrl_c_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while installing ends with one word and the usual status, not a traceback."""

    def interrupted(root: Path, environ: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "ensure_environment", interrupted)
    assert bootstrap.main(["install"]) == bootstrap.INTERRUPTED
    assert capsys.readouterr().err.split() == ["Stopped."]


@pytest.mark.usefixtures("here")
@pytest.mark.skipif(os.name == "nt", reason="a process cannot send itself SIGINT there")
def test_ctrl_c_in_a_command_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that Ctrl-C ended counts as stopped, not as failed."""
    script = tmp_path / "stops.py"
    script.write_text(
        f"import os, signal; signal.signal({int(signal.SIGINT)}, signal.SIG_DFL); "
        "os.kill(os.getpid(), signal.SIGINT)"
    )
    set_steps(monkeypatch, "run", lambda arguments: [[str(script)]])
    assert bootstrap.main(["run"]) == bootstrap.INTERRUPTED
    assert capsys.readouterr().err.split() == ["Stopped."]


def test_an_unknown_command_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped command gets the list of commands and exit status 2."""
    assert bootstrap.main(["rum"]) == 2
    shown = capsys.readouterr().out
    for name, command in bootstrap.COMMANDS.items():
        assert f"make {name:<14} {command.help}" in shown


def test_an_unknown_language_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """`make lab ARGS=zh` names the languages there are, before anything is installed."""
    assert bootstrap.main(["lab", "zh"]) == 1
    shown = capsys.readouterr()
    assert shown.err == (
        "There are no lessons in 'zh', but in these languages: en, es, fr, zh_CN.\n"
    )
    assert bootstrap.lab_steps(["en"]) == [["jupyter", "lab", "notebooks"]]
    assert bootstrap.lab_steps(["zh-cn"]) == bootstrap.lab_steps(["zh_CN"])


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_root_in_a_container_can_open_the_lessons(
    user: int, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jupyter refuses root unless it is told; it listens on this machine only, as ever."""
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    [step] = bootstrap.COMMANDS["lab"].steps([])
    assert ("--allow-root" in step) is allowed
    assert not [word for word in step if word.startswith("--ip")]


def test_nothing_to_measure_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bench` without a script in benchmarks/ says so."""
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    with pytest.raises(SetupError, match="benchmarks/ holds no script"):
        bootstrap.bench_steps([])
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "speed.py").touch()
    assert bootstrap.bench_steps(["--fast"]) == [
        [str(tmp_path / "benchmarks" / "speed.py"), "--fast"]
    ]


def test_clean_keeps_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`clean` removes what commands made and nothing else."""
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    for name in ("build/run", "src/a/__pycache__", ".venv/lib", "notebooks"):
        (tmp_path / name).mkdir(parents=True)
    assert bootstrap.main(["clean"]) == 0
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*")}
    assert left == {"src", ".venv", "notebooks"}
    assert not (tmp_path / "src" / "a" / "__pycache__").exists()
