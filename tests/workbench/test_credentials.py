"""A token is found in the client's own order, and never shown."""

from __future__ import annotations

import copy
import dataclasses
import getpass
import io
import json
import os
import pickle
import stat
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local_pipelines import find_token, login
from local_pipelines.errors import CredentialError
from local_pipelines.workbench import credentials
from local_pipelines.workbench.credentials import Account, Token, clean_token

SECRET = "hf_practice0123456789"
TOKEN = Token("HF_TOKEN", reveal=lambda: SECRET)

pytestmark = pytest.mark.usefixtures("home", "no_client")


def everything_said(error: BaseException) -> str:
    """Gather all that an error and the errors behind it can show."""
    said = "".join(traceback.format_exception(error))
    behind: BaseException | None = error
    while behind is not None:
        said += str(behind) + repr(behind) + repr(vars(behind)) + repr(behind.args)
        behind = behind.__cause__ or behind.__context__
    return said


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Put somebody at the keyboard who answers with this text; gives the prompts they saw."""

    def sit_down(answer: str) -> list[str]:
        prompts: list[str] = []

        def ask(prompt: str) -> str:
            prompts.append(prompt)
            return answer

        monkeypatch.setattr(credentials, "somebody_is_there", lambda: True)
        monkeypatch.setattr(getpass, "getpass", ask)
        return prompts

    return sit_down


# --- showing nothing ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "%s".__mod__, vars, dataclasses.asdict, dir],
)
def test_a_token_is_never_shown(show: Callable[[Token], object]) -> None:
    """No way of printing a token gives it away; only `reveal` does."""
    assert SECRET not in str(show(TOKEN))
    assert TOKEN.reveal() == SECRET


def test_a_token_does_not_travel() -> None:
    """A token can be neither pickled nor copied, also not by Ray's pickler."""
    cloudpickle = pytest.importorskip("cloudpickle")
    for send in (pickle.dumps, cloudpickle.dumps, copy.copy):
        with pytest.raises(TypeError) as caught:
            send(TOKEN)
        assert SECRET not in everything_said(caught.value)


# --- cleaning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        f" {SECRET} ",
        f"{SECRET}\r\n",
        f'"{SECRET}"',
        f"\ufeff{SECRET}",
        f"“{SECRET}”",
        f"'{SECRET}' ",
    ],
)
def test_what_was_copied_along_is_taken_off(raw: str) -> None:
    """White space, quotes and a byte-order mark around a token do no harm."""
    assert clean_token(raw, "HF_TOKEN") == SECRET


@pytest.mark.parametrize("raw", ["", "  ", '""', "\n"])
def test_nothing_is_no_token(raw: str) -> None:
    """A text that is empty once cleaned counts as no token."""
    assert clean_token(raw, "HF_TOKEN") is None


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        (" ", "white space"),
        ("\n", "white space"),
        ("\u00a0", "white space"),
        ("\x00", "a control character"),
        ("\x7f", "a control character"),
        ("é", "outside ASCII"),
        ("\u200b", "outside ASCII"),
    ],
)
def test_what_cannot_be_a_token_is_refused_unseen(inside: str, fault: str) -> None:
    """A token with a foreign character inside is refused by place and kind, never echoed."""
    with pytest.raises(
        CredentialError, match=rf"\(HF_TOKEN\).*character 12 of 22 is {fault}"
    ) as caught:
        clean_token(f"{SECRET[:11]}{inside}{SECRET[11:]}", "HF_TOKEN")
    said = everything_said(caught.value)
    assert SECRET[:11] not in said
    assert SECRET[11:] not in said


# --- finding ------------------------------------------------------------------------------------


def test_no_token_is_none() -> None:
    """Somebody without a token is told so by None, not by an error."""
    assert find_token() is None


def test_the_order_is_the_clients(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The first of HF_TOKEN, HUGGING_FACE_HUB_TOKEN, token file and Colab's secret wins."""
    _be_on_colab(monkeypatch, lambda name: f"hf_practice_colab_{name}")
    assert _found() == ("Colab secret", "hf_practice_colab_HF_TOKEN")
    _write(home / ".cache" / "huggingface" / "token", "hf_practice_file\n")
    assert _found() == ("token file", "hf_practice_file")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_practice_old")
    assert _found() == ("HUGGING_FACE_HUB_TOKEN", "hf_practice_old")
    monkeypatch.setenv("HF_TOKEN", "hf_practice_new")
    assert _found() == ("HF_TOKEN", "hf_practice_new")
    monkeypatch.setenv("HF_TOKEN", "  ")
    assert _found() == ("HUGGING_FACE_HUB_TOKEN", "hf_practice_old")


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("HF_TOKEN_PATH", "~/secret", "secret"),
        ("HF_HOME", "$HOME/models", "models/token"),
        ("XDG_CACHE_HOME", "~/cache", "cache/huggingface/token"),
    ],
)
def test_the_token_file_is_where_the_client_looks(
    name: str,
    value: str,
    path: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_python: Callable[..., str],
) -> None:
    """The variables that move the token file move it for us as for the client."""
    _write(home / path, f"\ufeff{SECRET}\n")
    monkeypatch.setenv(name, value)
    assert _found() == ("token file", SECRET)
    where = run_python("from huggingface_hub.constants import HF_TOKEN_PATH as p; print(p)")
    assert Path(where.strip()) == home / path


@pytest.mark.parametrize("content", [b"\xff\xfe" + SECRET.encode("utf-16-le"), b"hf_practice \x80"])
def test_a_token_file_in_another_encoding_is_refused_unseen(content: bytes, home: Path) -> None:
    """A token file that is no UTF-8 text gets one sentence, without its content."""
    path = home / ".cache" / "huggingface" / "token"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(CredentialError, match="not UTF-8 text") as caught:
        find_token()
    assert "hf_practice" not in everything_said(caught.value)
    assert str(home) not in str(caught.value)


def test_a_folder_in_place_of_the_token_file_is_refused(home: Path) -> None:
    """A token file that cannot be opened gets one sentence."""
    (home / ".cache" / "huggingface" / "token").mkdir(parents=True)
    with pytest.raises(CredentialError, match="cannot be read: "):
        find_token()


def test_colab_without_the_secret_has_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Colab's vault raises, a lesson goes on without a token."""

    def refuse(name: str) -> str:
        raise RuntimeError(f"no access to {name}")

    _be_on_colab(monkeypatch, refuse)
    assert find_token() is None


def _found() -> tuple[str, str]:
    token = find_token()
    assert token is not None
    return token.source, token.reveal()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _be_on_colab(monkeypatch: pytest.MonkeyPatch, get: Callable[[str], str]) -> None:
    colab = types.ModuleType("google.colab")
    colab.userdata = types.SimpleNamespace(get=get)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)


@pytest.mark.parametrize("where", ["HF_TOKEN", "token file"])
def test_the_client_sends_the_token_that_we_find(
    where: str, run_python: Callable[..., str]
) -> None:
    """Quotation marks copied along are not sent, also where nothing was set up before."""
    said = run_python(
        "import os\nfrom pathlib import Path\n"
        f"raw = '\\u201c{SECRET}\\u201d\\n'\n"
        "if %r == 'HF_TOKEN': os.environ['HF_TOKEN'] = raw\n"
        "else: Path('token').write_text(raw, encoding='utf-8')\n"
        "from local_pipelines import find_token\n"
        "from local_pipelines.workbench.credentials import place_token\n"
        "place_token()\n"
        "import huggingface_hub\n"
        "print(huggingface_hub.get_token(), find_token().reveal())" % where,
        HF_TOKEN_PATH="token",
    )
    assert said.split() == [SECRET, SECRET]


def test_a_folder_moved_too_late_moves_the_token_for_neither(
    run_python: Callable[..., str],
) -> None:
    """The client goes by the folder that it saw first, and so do we: they cannot disagree."""
    said = run_python(
        "import os\nfrom pathlib import Path\n"
        "for name in ('early', 'late'):\n"
        "    Path(name).mkdir(); Path(name, 'token').write_text('hf_practice_' + name)\n"
        "os.environ['HF_HOME'] = 'early'\n"
        "import huggingface_hub.constants\n"
        "os.environ['HF_HOME'] = 'late'\n"
        "from local_pipelines import find_token\n"
        "print(huggingface_hub.get_token(), find_token().reveal())"
    )
    assert said.split() == ["hf_practice_early", "hf_practice_early"]


# --- login --------------------------------------------------------------------------------------


def test_login_puts_the_clean_token_into_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """After login every library finds the token in HF_TOKEN, without what was copied along."""
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", f"'{SECRET}'\n")
    account = login()
    assert account == Account(None, "HUGGING_FACE_HUB_TOKEN", account.note if account else "")
    assert os.environ["HF_TOKEN"] == SECRET
    assert "Offline mode is on" in repr(account)
    assert SECRET not in repr(account)


def test_login_finds_the_token_in_the_env_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A token in `.env` is used before the stored one, unless files of settings are forbidden."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f'HF_TOKEN="{SECRET}"\n')
    monkeypatch.setenv("PYTHON_DOTENV_DISABLED", "1")
    with pytest.raises(CredentialError):
        login()
    monkeypatch.delenv("PYTHON_DOTENV_DISABLED")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    account = login()
    assert account is not None
    assert account.source == ".env"
    assert os.environ["HF_TOKEN"] == SECRET


def test_login_without_a_person_fails_at_once() -> None:
    """Where nobody can be asked, login says what to set and where tokens are made."""
    started = time.monotonic()
    with pytest.raises(CredentialError, match=r"settings/tokens and set HF_TOKEN in \.env"):
        login()
    assert time.monotonic() - started < 5


def test_login_asks_a_person(person: Callable[[str], list[str]]) -> None:
    """A person at the keyboard is asked once, hidden, and the token is used."""
    prompts = person(f" {SECRET}\n")
    account = login()
    assert account is not None
    assert account.source == "prompt"
    assert prompts == ["Hugging Face token (hidden): "]
    assert _found() == ("HF_TOKEN", SECRET)


def test_an_empty_answer_goes_on_without_a_token(person: Callable[[str], list[str]]) -> None:
    """A person who just presses Enter is not logged in, and that is no error."""
    person("")
    assert login() is None
    assert find_token() is None


def test_a_wrong_answer_is_not_echoed(person: Callable[[str], list[str]]) -> None:
    """What somebody pasted into the prompt by mistake is not repeated."""
    person("my password")
    with pytest.raises(CredentialError) as caught:
        login()
    assert "password" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_a_stored_token_is_for_its_owner_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`store=True` writes the file where the client looks, readable by its owner only."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    path = home / ".cache" / "huggingface" / "token"
    _write(path, "hf_practice_before")
    path.chmod(0o644)
    login(store=True)
    assert path.read_text() == SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["token"]


def test_a_token_that_cannot_be_stored_is_in_place_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token file that cannot be written gets one sentence, and the token still works."""
    monkeypatch.setenv("HF_TOKEN", f" {SECRET}")
    (home / ".cache").write_text("a file where a folder should be")
    monkeypatch.setattr(credentials, "find_token", lambda: TOKEN)
    with pytest.raises(CredentialError, match="cannot be stored") as caught:
        login(store=True)
    assert SECRET not in everything_said(caught.value)
    assert os.environ["HF_TOKEN"] == SECRET


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_storing_that_breaks_off_leaves_no_draft_behind(
    error: BaseException, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written file would hold the token, and nobody would know of it."""

    def break_off(draft: Path, target: Path) -> None:
        assert draft.read_text() == SECRET
        raise error

    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setattr(Path, "replace", break_off)
    with pytest.raises((CredentialError, KeyboardInterrupt)):
        login(store=True)
    assert list((home / ".cache" / "huggingface").iterdir()) == []


# --- asking the Hub -----------------------------------------------------------------------------


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if token == "hf_practice_slow":
            self.server.finished.wait(20)  # type: ignore[attr-defined]
            return
        status = 200 if token == "hf_practice_known" else 401
        body = json.dumps({"name": "ada", "error": f"bad {token}"}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        server.finished = threading.Event()  # type: ignore[attr-defined]
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.finished.set()  # type: ignore[attr-defined]
        server.shutdown()


LOGIN = """
import os, traceback
from local_pipelines.errors import CredentialError
from local_pipelines.workbench import credentials
credentials.WHOAMI_SECONDS = float(os.environ.get("SECONDS", "60"))  # of a busy machine
try:
    print(repr(credentials.login()))
except CredentialError as error:
    traceback.print_exception(error)
    print(error, repr(error.__cause__), repr(error.__context__))
"""


def test_the_hub_says_who_it_is(hub: str, run_python: Callable[..., str]) -> None:
    """With a way to the Hub, login shows the account's name."""
    said = run_python(LOGIN, HF_HUB_OFFLINE="0", HF_ENDPOINT=hub, HF_TOKEN="hf_practice_known")
    assert said == "Logged in as ada; the token is from: HF_TOKEN.\n"


def test_a_token_that_the_hub_refuses_is_an_error(hub: str, run_python: Callable[..., str]) -> None:
    """A revoked token fails at login, not at the first download, and is not shown."""
    said = run_python(LOGIN, HF_HUB_OFFLINE="0", HF_ENDPOINT=hub, HF_TOKEN="hf_practice_revoked")
    assert "The Hub does not accept the token (HF_TOKEN)." in said
    assert "hf_practice_revoked" not in said


def test_a_hub_that_hangs_does_not_hold_up_the_lesson(
    hub: str, run_python: Callable[..., str]
) -> None:
    """A Hub that does not answer in time leaves the token in place, without a name."""
    started = time.monotonic()
    said = run_python(
        LOGIN, HF_HUB_OFFLINE="0", HF_ENDPOINT=hub, HF_TOKEN="hf_practice_slow", SECONDS="1"
    )
    assert "The Hub did not say whose it is." in said
    assert time.monotonic() - started < 30


def test_no_network_leaves_the_token_in_place(run_python: Callable[..., str]) -> None:
    """Without a way to the Hub login succeeds, without a name."""
    nowhere = "http://127.0.0.1:9"
    said = run_python(LOGIN, HF_HUB_OFFLINE="0", HF_ENDPOINT=nowhere, HF_TOKEN=SECRET)
    assert said == "A token is in place, from: HF_TOKEN. The Hub did not say whose it is.\n"


# --- is somebody there? -------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [True, False])
def test_a_kernel_says_whether_somebody_is_there(
    allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook, the front end decides whether a prompt can be answered."""
    kernel = types.SimpleNamespace(_allow_stdin=allowed)
    shell = types.SimpleNamespace(kernel=kernel)
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert credentials.somebody_is_there() is allowed


def test_a_pipe_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a notebook only a terminal counts as a person."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("hf_practice"))
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not credentials.somebody_is_there()
    monkeypatch.setattr(sys, "stdin", None)
    assert not credentials.somebody_is_there()


@pytest.mark.parametrize("allow_stdin", [True, False])
def test_login_in_a_real_kernel(allow_stdin: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real kernel asks hidden where a person can answer, and fails at once under papermill."""
    from jupyter_client.manager import start_new_kernel

    monkeypatch.setenv("PYTHONPATH", str(Path(credentials.__file__).parents[2]))
    asked: list[dict[str, object]] = []
    shown: list[str] = []
    manager, client = start_new_kernel(kernel_name="python3")

    def answer(message: dict[str, dict[str, object]]) -> None:
        asked.append(message["content"])
        client.input(SECRET)

    def show(message: dict[str, object]) -> None:
        shown.append(str(message["content"]))

    try:
        reply = client.execute_interactive(
            "from local_pipelines import login\nlogin()",
            allow_stdin=allow_stdin,
            stdin_hook=answer,
            output_hook=show,
            timeout=60,
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    said = "".join(shown)
    assert SECRET not in said
    if allow_stdin:
        assert asked == [{"prompt": "Hugging Face token (hidden): ", "password": True}]
        assert "A token is in place, from: prompt." in said
    else:
        assert reply["content"]["ename"] == "CredentialError"
        assert not asked
