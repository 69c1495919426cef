r"""Make `.venv`, install the course into it once, and run a command there.

    python3 src/course_kit/bootstrap.py run        (Linux, macOS)
    py src\course_kit\bootstrap.py run             (Windows)

The Makefile calls nothing but this file, so a machine without make loses nothing.
"""
# ruff: noqa: UP006, UP021, UP035, UP045 - read on.
# This file alone must still be read by Python 3.6: only then can it say in a sentence that the
# Python it was started with is too old, or quietly go on with a newer one that stands beside it.

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import deque
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import (
    IO,
    Callable,
    Deque,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

__all__ = ["COMMANDS", "SetupError", "ensure_environment", "main"]

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 11)
TESTED_PYTHONS = ("3.13", "3.12", "3.11")
EXTRAS = "openvino,scale,structured,test"
FREE_GB = 4  # the installed packages take 2.7 GB; the rest is what pip unpacks on the way
FREE_GB_NVIDIA = 12  # the CUDA build of PyTorch brings its libraries along
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
STAMP = "course-kit.stamp"
MODEL_STAMP = "smollm2.stamp"
MODEL_COMMANDS = ("install", "run", "lab", "test")
INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended
WINDOWS_INTERRUPTED = 0xC000013A


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


class Interpreter(NamedTuple):
    """A Python that answered: where it is, its version, whether it can make environments."""

    path: str
    version: Tuple[int, ...]
    makes_venvs: bool


# ------------------------------------------------------------------------- which Python

PROBE = """
import sys
try:
    import ensurepip, venv
    complete = 1
except ImportError:
    complete = 0
print(getattr(sys, "_base_executable", "") or sys.executable)
print("%d %d %d %d" % (tuple(sys.version_info[:3]) + (complete,)))
"""


def probe(command: Sequence[str]) -> Optional[Interpreter]:
    """Ask the Python behind a command what it is; None where there is none."""
    try:
        answer = subprocess.run(
            [*command, "-c", PROBE],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
        numbers = [int(word) for word in answer[1].split()]
        return Interpreter(answer[0], tuple(numbers[:3]), bool(numbers[3]))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None  # a launcher without a Python behind it: pyenv's shims, the Windows Store's


def dotted(version: Sequence[int]) -> str:
    """Write a version as people do: (3, 11, 2) becomes 3.11.2."""
    return ".".join(str(number) for number in version)


def candidates(environ: Mapping[str, str]) -> List[List[str]]:
    """List the commands that may start a Python, best first."""
    if environ.get("PYTHON"):
        return [[environ["PYTHON"]]]
    others = [["python" + version] for version in TESTED_PYTHONS]
    if os.name == "nt":
        others += [["py", "-" + version] for version in TESTED_PYTHONS]
    return [[sys.executable], *others]


def choose_python(environ: Mapping[str, str]) -> Interpreter:
    """Return the first Python that is new enough and can make environments.

    Raises:
        SetupError: None is; the message names the best one found.
    """
    found = []
    for command in candidates(environ):
        interpreter = probe(command)
        if interpreter and interpreter.version >= OLDEST_PYTHON and interpreter.makes_venvs:
            return interpreter
        if interpreter:
            found.append(interpreter)
    raise SetupError(why_no_python(found, environ.get("PYTHON", "")))


def why_no_python(found: Sequence[Interpreter], asked: str) -> str:
    """Say in one sentence what is wrong with the Pythons of this machine."""
    needed = dotted(OLDEST_PYTHON)
    if not found:
        name = asked or "python3"
        return f"No Python answers to {name!r}: install Python {needed} or newer and try again."
    best = max(found, key=lambda interpreter: interpreter.version)
    found_version = dotted(best.version)
    if best.version >= OLDEST_PYTHON:
        return (
            f"Python {found_version} ({best.path}) cannot make environments, as its venv module "
            f"is incomplete: on Debian and Ubuntu type `sudo apt install "
            f"python{dotted(best.version[:2])}-venv`, then the same command again."
        )
    return (
        f"This is Python {found_version} ({best.path}), and the course needs {needed} or newer: "
        "install one from python.org or your package manager, "
        "or name one, as in `PYTHON=/path/to/python3.12 make run`."
    )


# ---------------------------------------------------------------------- the environment


def venv_python(venv: Path) -> Path:
    """Return where the environment's interpreter stands."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def digest(root: Path, venv: Path) -> str:
    """Sum up all that decides what is installed; the folder counts, as moving breaks links."""
    summed = hashlib.sha256(f"{root}|{EXTRAS}".encode())
    for path in (root / "pyproject.toml", root / "constraints.txt", venv / "pyvenv.cfg"):
        summed.update(path.read_bytes() if path.is_file() else b"missing")
    return summed.hexdigest()


def is_current(root: Path, venv: Path) -> bool:
    """Tell whether the last installation finished and nothing has changed since."""
    stamp = venv / STAMP
    return (
        venv_python(venv).exists()
        and stamp.is_file()
        and stamp.read_text(encoding="ascii") == digest(root, venv)
    )


def is_usable(venv: Path, wanted: Optional[Interpreter]) -> bool:
    """Tell whether pip works in the environment, on a Python that will do."""
    python = venv_python(venv)
    if not (venv / "pyvenv.cfg").is_file():
        return False  # without that note its Python would install into the system's packages
    inside = probe([str(python)])
    if inside is None or inside.version < OLDEST_PYTHON:
        return False
    if wanted and wanted.version[:2] != inside.version[:2]:
        return False
    return run_quietly([str(python), "-m", "pip", "--version"])[0] == 0


def ensure_environment(root: Path, environ: Mapping[str, str]) -> Path:
    """Make or repair `.venv` and install the course, unless all that is done; return its Python.

    Raises:
        SetupError: It cannot be done.
    """
    venv = root / ".venv"
    # Only a Python that was asked for by name can disagree with the one that is there.
    wanted = choose_python(environ) if environ.get("PYTHON") else None
    if not is_wanted(root, venv, wanted):
        with one_at_a_time(root):
            if not is_wanted(root, venv, wanted):  # another command may have made it meanwhile
                make_environment(root, venv, wanted, environ)
    return venv_python(venv)


def is_wanted(root: Path, venv: Path, wanted: Optional[Interpreter]) -> bool:
    """Tell whether the environment is whole and of the Python that was asked for, if any was."""
    return is_current(root, venv) and (not wanted or wanted.version[:2] == venv_version(venv))


def make_environment(
    root: Path, venv: Path, wanted: Optional[Interpreter], environ: Mapping[str, str]
) -> None:
    """Make or repair the environment, and note at the end that it is whole."""
    stamp = venv / STAMP
    if not stamp.is_file():
        check_disk(root)
    if not is_usable(venv, wanted):
        create(venv, wanted or choose_python(environ))
    if stamp.exists():
        stamp.unlink()  # until the end, nothing says that all is well
    install(root, venv, environ)
    make_path_files_plain(root, venv)
    stamp.write_text(digest(root, venv), encoding="ascii")


@contextmanager
def one_at_a_time(root: Path) -> Iterator[None]:
    """Let one command install into an environment, and the others wait until it has."""
    (root / "build").mkdir(exist_ok=True)
    # The system opens the lock when the process ends, however it ends.
    with open(str(root / "build" / "install.lock"), "a") as file:  # noqa: PTH123 - Python 3.6
        if not locked(file):
            print("Another command is installing the course into .venv: waiting.", flush=True)
            while not locked(file):
                time.sleep(0.2)
        yield


def locked(file: IO[str]) -> bool:
    """Try to lock a file; False while another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX + fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True  # a disk without locks, as some networks' are: go on without one
    return True


def make_path_files_plain(root: Path, venv: Path) -> None:
    """Write the way to the course's code with plain letters only, where its folder has others.

    Python 3.11 and 3.12 read the files *.pth in the letters of the language that is set: with
    LC_ALL=C an accent in the name of a folder ends every start of Python, and on Windows the folder
    is not found. A relative path has no such letters.
    """
    source = str(root / "src")
    if source.encode("ascii", "replace").decode() == source:
        return
    for pattern in ("lib/*/site-packages/*.pth", "Lib/site-packages/*.pth"):
        for file in venv.glob(pattern):
            if file.read_bytes().decode("utf-8", "replace").strip() == source:
                way = os.path.relpath(source, str(file.parent))
                file.write_text(way + "\n", encoding="ascii")


def venv_version(venv: Path) -> Tuple[int, ...]:
    """Read major and minor version from the note that venv leaves in the environment."""
    for line in (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):
            return tuple(int(number) for number in value.strip().split(".")[:2])
    return ()


def check_disk(root: Path) -> None:
    """Stop before a long download that could not be stored."""
    needed = FREE_GB_NVIDIA if has_nvidia() else FREE_GB
    free = shutil.disk_usage(str(root)).free / 1e9
    if free < needed:
        raise SetupError(
            f"The disk has {free:.1f} GB free and the installation needs {needed} GB: make room, "
            "or move this folder to a larger disk, and type the same command again."
        )


def create(venv: Path, interpreter: Interpreter) -> None:
    """Make the environment, over whatever half of one is there."""
    stage = Stage(f"Creating .venv with Python {dotted(interpreter.version)}")
    code, tail = run_quietly([interpreter.path, "-m", "venv", "--clear", str(venv)])
    if code:
        stage.end(" failed after")
        raise SetupError(explain_failure("Making .venv failed", tail))
    stage.end()


def install(root: Path, venv: Path, environ: Mapping[str, str]) -> None:
    """Install the course and what it needs, in the versions of constraints.txt."""
    words, variables, note = installer(venv, environ)
    print(note, flush=True)
    what = ["-e", f".[{EXTRAS}]", "-c", "constraints.txt"]
    stage = Stage("Installing the packages, a few minutes the first time")
    code, tail = run_quietly([*words, *what], variables, root, stage.tick)
    if code:
        stage.end(" failed after")
        raise SetupError(explain_failure("Installing the packages failed", tail))
    stage.end()


def installer(venv: Path, environ: Mapping[str, str]) -> Tuple[List[str], Dict[str, str], str]:
    """Return the installing command, its variables, and one line on what was chosen."""
    python = str(venv_python(venv))
    variables = dict(environ)
    wheels = find_links(python, environ)
    index, note = torch_index(wheels, environ)
    if environ.get("USE_UV") == "1" and not shutil.which("uv"):
        note += " USE_UV=1 is set, but there is no uv here: pip installs."
    elif environ.get("USE_UV") == "1":
        if wheels:  # uv does not read pip's settings
            variables.setdefault("UV_FIND_LINKS", ",".join(wheels))
        # Without this uv takes every package from the first index that knows its name.
        strategy = ["--index-strategy", "unsafe-best-match"] if index else []
        return ["uv", "pip", "install", "--python", python, *index, *strategy], variables, note
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    return [python, "-m", "pip", "install", *quiet, *index], variables, note


# ------------------------------------------------------------------------ the real small model

FETCH_MODEL = """
import sys
from local_pipelines import LocalPipelinesError, model_path, setup_environment
try:
    setup_environment()  # .env may say where models are kept
    model_path("smollm2")
except LocalPipelinesError as error:
    sys.exit(str(error))
"""


def fetch_model(command: str, python: Path, environ: Mapping[str, str]) -> None:
    """Fetch the real small model, once; where there is no way to it, say so and go on.

    `make install` asks again.
    """
    stamp = python.parent.parent / MODEL_STAMP
    known = stamp.read_text(encoding="ascii") if stamp.is_file() else ""
    if command not in MODEL_COMMANDS or known == "here" or (known and command != "install"):
        return
    stage = Stage("Fetching the model smollm2, 93 MB")
    words = [str(python), "-c", FETCH_MODEL]
    code, tail = run_quietly(words, inner_environment(python, environ), None, stage.tick)
    stage.end(" not done after" if code else "")
    if code:
        said = next((line for line in reversed(tail) if line.strip()), "")
        print(f"The course goes on without smollm2; make install asks again. {said}", flush=True)
    stamp.write_text("missing" if code else "here", encoding="ascii")


# ----------------------------------------------------------------- which build of PyTorch


def torch_index(wheels: Sequence[str], environ: Mapping[str, str]) -> Tuple[List[str], str]:
    """Choose where PyTorch comes from; without a word pip fetches gigabytes of CUDA on Linux."""
    asked = environ.get("LOCAL_PIPELINES_TORCH_INDEX")
    if asked:
        return ["--extra-index-url", asked], "PyTorch: from LOCAL_PIPELINES_TORCH_INDEX."
    if asked is not None or not sys.platform.startswith("linux"):
        return [], "PyTorch: the package index's build for this system."
    if has_nvidia():
        return [], "PyTorch: the CUDA build, as this machine has an NVIDIA GPU."
    if wheels:  # whoever gave pip a folder of wheels has chosen already
        return [], "PyTorch: from the folder of wheels that pip is set to look in."
    if answers(CPU_INDEX + "/torch/"):
        return ["--extra-index-url", CPU_INDEX], "PyTorch: the CPU build, from pytorch.org."
    return [], "PyTorch: the package index's build, several GB, as pytorch.org does not answer."


def has_nvidia() -> bool:
    """Tell whether an NVIDIA driver is there, without loading anything of it."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def find_links(python: str, environ: Mapping[str, str]) -> List[str]:
    """Return the folders of wheels that pip is set to look in, by variable or configuration."""
    if environ.get("PIP_FIND_LINKS"):
        return environ["PIP_FIND_LINKS"].split()
    _, settings = run_quietly([python, "-m", "pip", "config", "list"], environ)
    found = re.findall(r"find-links='(.*)'", "\n".join(settings))
    return [word for value in found for word in value.replace("\\n", " ").split()]


def answers(url: str) -> bool:
    """Tell whether an address answers within three seconds."""
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - an https constant
        with urllib.request.urlopen(request, timeout=3) as response:  # noqa: S310
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


# ----------------------------------------------------------------- progress and failures


class Stage:
    """One line on the screen for one stage of the work, with its seconds."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.start = time.monotonic()
        self.watched = sys.stdout.isatty()
        print(f"{title} ...", end="", flush=True)

    def seconds(self) -> str:
        """Return the time that has passed."""
        return f"{time.monotonic() - self.start:.0f} s"

    def tick(self, output: str) -> None:
        """Show that the work goes on, where somebody watches."""
        if self.watched:
            self.rewrite(f"{self.title} ... {self.seconds()}: {output.strip()}")

    def end(self, word: str = "") -> None:
        """Close the line with the seconds it took."""
        if self.watched:
            self.rewrite(f"{self.title} ...")
        print(f"{word} {self.seconds()}", flush=True)

    def rewrite(self, line: str) -> None:
        """Write the line anew; the first print wipes out a longer predecessor."""
        print("\r" + " " * 79, end="")
        print("\r" + line[:79], end="", flush=True)


def run_quietly(
    words: Sequence[str],
    environ: Optional[Mapping[str, str]] = None,
    folder: Optional[Path] = None,
    tick: Callable[[str], None] = lambda line: None,
) -> Tuple[int, List[str]]:
    """Run a command without showing it; return its exit status and its last lines."""
    tail: Deque[str] = deque(maxlen=200)
    try:
        process = subprocess.Popen(
            list(words),
            env=None if environ is None else dict(environ),
            cwd=str(folder or ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors="replace",
        )
    except OSError as error:
        return 127, [str(error)]
    assert process.stdout is not None  # noqa: S101 - said for the type checker
    with process:
        for line in process.stdout:
            tail.append(line.rstrip())
            tick(line)
    return process.returncode, list(tail)


NO_SPACE = ("no space left", "errno 28", "not enough space", "disk quota")
NO_NETWORK = (
    "newconnectionerror",
    "failed to establish a new connection",
    "name resolution",
    "network is unreachable",
    "connection broken",
    "connecttimeout",
    "readtimeout",
    "dns error",
    "failed to fetch",
)
NO_VERSION = ("no matching distribution", "resolutionimpossible", "no solution found")


def explain_failure(what: str, tail: Sequence[str]) -> str:
    """Say what failed and what to do in one sentence, under the last lines of the output."""
    text = "\n".join(tail).lower()
    if any(mark in text for mark in NO_SPACE):
        cause = f"the disk is full: free {FREE_GB} GB"
    elif any(mark in text for mark in NO_NETWORK):
        cause = "the package index cannot be reached: look at your network or proxy settings"
    elif any(mark in text for mark in NO_VERSION):
        tested = " or ".join(sorted(TESTED_PYTHONS))
        cause = f"a package has no build for this Python and system: use Python {tested}"
    else:
        cause = "the lines above say why: put that right"
    shown = ["    " + line[:200] for line in tail[-8:] if line]
    return "\n".join([*shown, f"{what}; {cause}, and type the same command again."])


# ------------------------------------------------------------------------- the commands


def inner_environment(python: Path, environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the variables that a command in the environment sees, as if it were activated."""
    inner = {key: value for key, value in environ.items() if key != "PYTHONHOME"}
    inner["VIRTUAL_ENV"] = str(python.parent.parent)
    inner["PATH"] = os.pathsep.join([str(python.parent), environ.get("PATH", "")])
    inner["PYTHONUTF8"] = "1"  # else Windows reads the course's files in its own code page
    # Else torch's threads spin while they wait, and take the cores from each other.
    inner.setdefault("OMP_WAIT_POLICY", "passive")
    return inner


def call(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run a command in sight of the user; Ctrl-C is the command's own to answer."""
    process = subprocess.Popen(list(words), env=dict(environ), cwd=str(ROOT))
    while True:
        try:
            code = process.wait()
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:  # the command got it too: Jupyter asks back, pytest sums up
            continue


LINT = [
    ["ruff", "format", "--check"],
    ["ruff", "check"],
    ["codespell_lib"],  # codespell
    ["mypy"],
    ["course_kit.imports"],
]
# A process that dies is not replaced: pytest-xdist would give its file to the next one again and
# again, and then wait for ever.
PYTEST = ["pytest", "-n", "2", "--max-worker-restart", "0", "-m", "not gpu and not scale"]


def bench_steps(arguments: List[str]) -> List[List[str]]:
    """Return one step for each script in benchmarks/, so that a new one needs no entry."""
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    if not scripts:
        raise SetupError("There is nothing to measure: benchmarks/ holds no script.")
    return [[str(script), *arguments] for script in scripts]


def lab_steps(arguments: List[str]) -> List[List[str]]:
    """Open the lessons: those of a language where its code comes first, else the English ones.

    Raises:
        SetupError: The first word is neither a language nor an option.
    """
    if not arguments or arguments[0].startswith("-"):
        return [["jupyter", "lab", "notebooks", *arguments]]
    folders = sorted(folder for folder in (ROOT / "i18n").glob("*/notebooks") if folder.is_dir())
    languages = {folder.parent.name: str(folder) for folder in folders}
    languages["en"] = "notebooks"
    code = arguments[0].replace("-", "_").lower()
    for name, folder in languages.items():
        if name.lower() == code:
            return [["jupyter", "lab", folder, *arguments[1:]]]
    raise SetupError(
        f"There are no lessons in {arguments[0]!r}, but in these languages: "
        f"{', '.join(sorted(languages))}."
    )


def as_root(steps: List[List[str]]) -> List[List[str]]:
    """Allow Jupyter to root, as whom one is in a container; it listens on this machine only."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return [[*step, "--allow-root"] for step in steps]
    return steps


class Command(NamedTuple):
    """What a command does, in a few words, and its steps, all of which run even if one fails.

    A step is what follows `python -m`, or a script.
    """

    help: str
    steps: Callable[[List[str]], List[List[str]]]


COMMANDS: Dict[str, Command] = {
    "help": Command("list the commands", lambda arguments: []),
    "install": Command("make .venv and install the course into it", lambda arguments: []),
    "run": Command(
        "run every notebook on the embedded model, results in build/run/",
        lambda arguments: [["course_kit", "run", *arguments]],
    ),
    "lab": Command(
        "open the notebooks in JupyterLab", lambda arguments: as_root(lab_steps(arguments))
    ),
    "translations": Command(
        "bring the translated pages up to date (needs GNU gettext)",
        lambda arguments: [["course_kit", "translations", *arguments]],
    ),
    "test": Command(
        "check style and types, run all tests",
        lambda arguments: [*LINT, [*PYTEST, *arguments]],
    ),
    "test-gpu": Command(
        "run the tests and the notebooks on the GPU",
        lambda arguments: [
            ["pytest", "-m", "gpu", "tests/gpu", *arguments],
            ["course_kit", "run", "--gpu", "01", "03", "05", "06"],
        ],
    ),
    "test-scale": Command(
        "run the long test of many machines: 20 kills, some minutes",
        lambda arguments: [["pytest", "-m", "scale", "-s", "tests/scale_out", *arguments]],
    ),
    "bench": Command("run the measurements in benchmarks/", bench_steps),
    "train-pocket": Command(
        "train the embedded model anew",
        lambda arguments: [["course_kit", "train", *arguments]],
    ),
    "format": Command(
        "let ruff tidy the code",
        lambda arguments: [["ruff", "check", "--fix"], ["ruff", "format"]],
    ),
    "lint": Command("check style and types only", lambda arguments: LINT),
    "clean": Command("remove what the commands made, keep .venv", lambda arguments: []),
}


def usage() -> str:
    """List the commands as one types them, with make or without it."""
    lines = [f"  make {name:<14} {command.help}" for name, command in COMMANDS.items()]
    lines += ["With more words: make run ARGS=03; without make, on Windows:"]
    lines += [r"  py src\course_kit\bootstrap.py run 03"]
    return "\n".join(lines)


def perform(steps: Sequence[Sequence[str]], python: Path, environ: Mapping[str, str]) -> int:
    """Run all steps, name those that failed, and return the first failure's exit status."""
    inner = inner_environment(python, environ)
    failures: List[Tuple[str, int]] = []
    for step in steps:
        if len(steps) > 1:
            print("$ " + " ".join(step), flush=True)
        module = [] if step[0].endswith(".py") else ["-m"]
        code = call([str(python), *module, *step], inner)
        if code in (INTERRUPTED, WINDOWS_INTERRUPTED):
            raise KeyboardInterrupt
        if code:
            # "ruff check", "pytest": the words before the options
            failures.append((" ".join(takewhile(lambda word: word[0] != "-", step)), code))
    if failures and len(steps) > 1:
        print("Failed: " + ", ".join(name for name, _ in failures), file=sys.stderr)
    return failures[0][1] if failures else 0


def clean() -> int:
    """Remove what the commands made; the environment and downloaded models stay."""
    made = ["build", "dist", ".pytest_cache", ".mypy_cache", ".ruff_cache"]
    folders = [ROOT / name for name in made]
    for name in ("src", "tests", "notebooks", "benchmarks"):
        folders += list((ROOT / name).glob("**/__pycache__"))
    for folder in folders:
        shutil.rmtree(str(folder), ignore_errors=True)
    print("Clean. To make the environment anew as well, delete the folder .venv.")
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command of the course; return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments.pop(0) if arguments else "help"
    try:
        if name == "clean":
            return clean()
        if name not in COMMANDS or name == "help":
            print(usage())
            return 0 if name in ("help", "-h", "--help") else 2
        steps = COMMANDS[name].steps(arguments)  # a wrong word is said before a long installation
        python = ensure_environment(ROOT, os.environ)
        fetch_model(name, python, os.environ)
        return perform(steps, python, os.environ)
    except (SetupError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
