"""A token shows nowhere but in the Hub's own requests, and no code of a model's repository runs.

Somebody's way through the course is walked once for each way in which a token can be planted; then
each place where it could have come to light is a test of its own, so that the tests' names are the
leak table.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import getpass
import itertools
import json
import logging
import os
import pickle
import socket
import stat
import subprocess
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import nbformat
import pytest

from local_pipelines import (
    LocalChat,
    LocalPipeline,
    catalogue,
    check_parameters,
    errors,
    find_token,
    load_gated_model,
    login,
    model_path,
    select_device,
    setup_environment,
    will_it_fit,
)
from local_pipelines.models import access, download, paths
from local_pipelines.practice_hub import PracticeHub, Repository, checkpoints
from local_pipelines.practice_hub import server as hub_server
from local_pipelines.practice_hub.accounts import Account
from local_pipelines.workbench import credentials

ROOT = Path(__file__).parents[2]
GATED = "meta-llama/Llama-3.2-1B-Instruct"
GPT2 = "openai-community/gpt2"
MARKER = "hf_practice_marker_9q7w5z"
TELLTALE = MARKER[-6:]  # a token that is cut or masked in front gives itself away as well

# --- what was seen ------------------------------------------------------------------------------


@dataclass
class Seen:
    """Where somebody looked, how often, and where the token came to light.

    Args:
        looked: How many texts were looked at, by place.
        leaks: The surroundings of what was found, by place.
        sent: How often the Hub got the token, as it should.
    """

    looked: Counter[str] = field(default_factory=Counter)
    leaks: dict[str, list[str]] = field(default_factory=dict)
    sent: int = 0

    def look(self, place: str, *things: object) -> None:
        """Look at texts, or at what `str` and `repr` make of things."""
        for thing in things:
            texts = {thing} if isinstance(thing, str) else {str(thing), repr(thing)}
            self.looked[place] += 1
            for text in texts:
                if (at := text.find(TELLTALE)) >= 0:
                    part = text[max(0, at - 150) : at + 40].replace(MARKER, "<token>")
                    self.leaks.setdefault(place, []).append(part)

    def error(self, error: BaseException, *, with_variables: bool = True) -> None:
        """Look at all that an error can show of itself and of the errors behind it."""
        behind: BaseException | None = error
        while behind is not None:  # those that `from None` hides, too: debuggers find them
            told = [repr(behind), str(behind), repr(vars(behind)), repr(behind.args)]
            trimmed = behind.with_traceback(_ours(behind.__traceback__))
            self.look("errors", *told, *traceback.format_exception(trimmed))
            behind = behind.__cause__ or behind.__context__
        render = getattr(error, "_render_traceback_", None)
        if render:
            self.look("errors", *render())
        if with_variables:
            self.look("variables in tracebacks", *_with_variables(error))

    def attempt(self, call: Callable[[], object], *, with_variables: bool = True) -> object:
        """Look at what a call gives, or at its error."""
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            self.error(error, with_variables=with_variables)
            return None
        self.look("objects", result)
        return result


def _ours(trace: TracebackType | None) -> TracebackType | None:
    """Leave out the frames of this file: they know the token because they planted it."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _with_variables(error: BaseException) -> list[str]:
    """The traceback as Python, IPython (`%xmode Verbose`) and others show it with variables."""
    from IPython.core.ultratb import VerboseTB

    error = error.with_traceback(_ours(error.__traceback__))
    plain = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    if error.__traceback__ is None:
        return list(plain)
    verbose = VerboseTB(theme_name="nocolor", include_vars=True)
    return [*plain, verbose.text(type(error), error, error.__traceback__)]


# --- what is watched ----------------------------------------------------------------------------


class _Everything(logging.Handler):
    def __init__(self, seen: Seen) -> None:
        super().__init__(logging.DEBUG)
        self.seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.look("logs", self.format(record), repr(vars(record)))


@contextlib.contextmanager
def watched_logs(seen: Seen) -> Iterator[None]:
    """Read all loggers at DEBUG, those included that keep their records to themselves."""
    own = [name for name, logger in logging.root.manager.loggerDict.items()
           if isinstance(logger, logging.Logger) and not logger.propagate]  # fmt: skip
    named = ["transformers", "huggingface_hub", "httpx", "httpcore", "urllib3", "langchain_core"]
    handler = _Everything(seen)
    before = {}
    for name in ["", *own, *named]:
        logger = logging.getLogger(name)
        before[name] = logger.level
        logger.setLevel(logging.DEBUG)
        if not name or not logger.propagate:
            logger.addHandler(handler)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
            logging.getLogger(name).removeHandler(handler)


@contextlib.contextmanager
def watched_output(seen: Seen) -> Iterator[None]:
    """Read what is printed, by Python or past it."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        before = [os.dup(1), os.dup(2)]
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            for number, copy in zip((1, 2), before, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            file.flush()
            file.seek(0)
            seen.look("output", file.read())


def watch_requests(seen: Seen, hub: PracticeHub, patch: pytest.MonkeyPatch) -> None:
    """Read each request as it arrives, whichever process sent it."""
    read_call = hub_server._Handler._read_call

    def read(handler: Any, port: Any) -> Any:
        call = read_call(handler, port)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        if port.name == "hub":  # the one place where it belongs
            seen.sent += headers.pop("authorization", "") == f"Bearer {MARKER}"
        seen.look("requests", handler.requestline, json.dumps(headers), repr(call.body))
        return call

    patch.setattr(hub_server._Handler, "_read_call", read)


def watch_connections(seen: Seen, hub: PracticeHub, patch: pytest.MonkeyPatch) -> None:
    """Note every connection of this process to anywhere but the Hub's two ports."""
    known = {int(url.rpartition(":")[2]) for url in (hub.url, hub.file_host)}
    connect = socket.socket.connect

    def note(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):
            seen.looked["other hosts"] += 1
            if address[1] not in known:
                seen.leaks.setdefault("other hosts", []).append(f"{address[0]}:{address[1]}")
        connect(self, address)

    patch.setattr(socket.socket, "connect", note)


def look_at_files(seen: Seen, folder: Path, *allowed: Path) -> None:
    """Read every file below a folder, names included, but those where a token belongs."""
    for path in folder.rglob("*"):
        if path.is_file() and path.resolve() not in {p.resolve() for p in allowed}:
            where = str(path.relative_to(folder))
            data = path.read_bytes()
            held = f" holds {TELLTALE}" if TELLTALE.encode() in data else ""
            seen.look("files", where + held)


class Recorder:
    """A callback handler that reads all it is told."""

    def __new__(cls, seen: Seen) -> Any:
        from langchain_core.callbacks import BaseCallbackHandler

        def reading(name: str) -> Callable[..., None]:
            return lambda self, *args, **kwargs: seen.look("callbacks", repr((name, args, kwargs)))

        names = [name for name in dir(BaseCallbackHandler) if name.startswith("on_")]
        methods = {name: reading(name) for name in names}
        return type("Recorder", (BaseCallbackHandler,), methods)()


# --- the walk -----------------------------------------------------------------------------------

WAYS = (
    "environment",
    "environment, wrapped",
    "LangChain's variable",
    ".env",
    ".env, wrapped",
    "prompt",
    "token file",
    "arguments",
)
PLACES = (
    "output",
    "logs",
    "objects",
    "dumps",
    "callbacks",
    "errors",
    "variables in tracebacks",
    "files",
    "requests",
    "other hosts",
)
STANDINGS = ("bogus", "not_accepted", "pending", "rejected", "fine_grained")


class Gate:
    """Whose account the planted token is, as the test wishes from moment to moment."""

    def __init__(self, hub: PracticeHub, patch: pytest.MonkeyPatch) -> None:
        self.standing = "accepted"
        self._known = hub._hub.account_of
        patch.setattr(hub._hub, "account_of", self.account_of)
        patch.setattr(hub._files, "account_of", self.account_of)

    def account_of(self, token: str) -> Account | None:
        """The planted token is not in the Hub's own list, which it prints on purpose."""
        if token != MARKER:
            return self._known(token)
        if self.standing == "bogus":
            return None
        narrow = self.standing == "fine_grained"
        return Account("learner", "accepted" if narrow else self.standing, reads_gated=not narrow)


@contextlib.contextmanager
def desk(patch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home folder, working folder and folder for temporary files, all in one place."""
    with tempfile.TemporaryDirectory(prefix="desk-") as name:
        folder = Path(name).resolve()
        for part in ("home", "home/course", "tmp"):
            (folder / part).mkdir()
        for variable in ("HOME", "USERPROFILE"):
            patch.setenv(variable, str(folder / "home"))
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        patch.delenv("PYTHON_DOTENV_DISABLED", raising=False)
        patch.chdir(folder / "home/course")
        yield folder
        os.chdir(ROOT)


def plant(way: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Put the token where somebody of this kind has it."""
    wrapped = f' "{MARKER}"\r\n'
    if way.startswith("environment"):
        os.environ["HF_TOKEN"] = wrapped if "wrapped" in way else MARKER
    elif way == "LangChain's variable":
        os.environ["HUGGINGFACEHUB_API_TOKEN"] = MARKER
    elif way.startswith(".env"):
        # The practice Hub keeps .env out of its reach. Here it plays the part of the real one.
        os.environ.pop("PYTHON_DOTENV_DISABLED", None)
        text = f"""export HF_TOKEN="'{MARKER}'\\n"\r\n""" if "wrapped" in way else MARKER
        line = text if "wrapped" in way else f"HF_TOKEN={MARKER}\n"
        (folder / "home/course/.env").write_text(line, encoding="utf-8")
    elif way == "prompt":
        patch.setattr(credentials, "somebody_is_there", lambda: True)
        patch.setattr(getpass, "getpass", lambda prompt: wrapped)
    elif way == "token file":
        os.environ["HF_TOKEN"] = MARKER
        login(store=True)
        del os.environ["HF_TOKEN"]


@functools.cache
def walk(way: str) -> Seen:
    """Walk through everything that may see a token, and read all that comes out."""
    seen = Seen()
    with pytest.MonkeyPatch.context() as patch, desk(patch) as folder, PracticeHub() as hub:
        patch.setattr(access, "PAUSES", (0.01, 0.01))
        patch.setattr(download, "PAUSES", (0.01, 0.01))
        patch.setattr("huggingface_hub.constants.HF_DEBUG", True, raising=False)
        watch_requests(seen, hub, patch)
        watch_connections(seen, hub, patch)
        gate = Gate(hub, patch)
        with watched_output(seen), watched_logs(seen):
            plant(way, folder, patch)
            if way == "arguments":
                pass_as_arguments(seen)
            else:
                be_refused(seen, hub, gate, way)
                be_let_in(seen, hub, gate)
        seen.look("objects", hub, hub.requests)
        store = Path(os.environ["HF_HOME"]) / "token"
        look_at_files(seen, folder, store, folder / "home/course/.env")
        if way == "token file":
            assert store.read_text() == MARKER
            assert stat.S_IMODE(store.stat().st_mode) == 0o600
    return seen


def be_refused(seen: Seen, hub: PracticeHub, gate: Gate, way: str) -> None:
    """Log in and meet every refusal and a Hub that is away, with nothing in the cache."""
    report = setup_environment()
    seen.look("objects", report, report._repr_html_(), find_token())
    for gate.standing in STANDINGS:
        for call in (
            login,
            lambda: load_gated_model(GATED, device="cpu"),
            lambda: model_path(GATED),
            lambda: will_it_fit(GATED, "cpu"),
            lambda: LocalPipeline.from_model_id(GATED),
        ):
            seen.attempt(call)
    if way == "prompt":
        os.environ.pop("HF_TOKEN", None)
    gate.standing = "accepted"
    seen.look("objects", login())
    for fault in (400, "unreachable"):  # the client tries others again, for seconds
        hub.fail(with_=fault, times=None)  # type: ignore[arg-type]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(access, "PATIENCE", 1.0)
            patch.setattr(paths, "PATIENCE", 1.0)
            seen.attempt(login)
            seen.attempt(lambda: load_gated_model(GATED, device="cpu"))
            seen.attempt(lambda: model_path(GPT2))
        hub.recover()


def be_let_in(seen: Seen, hub: PracticeHub, gate: Gate) -> None:
    """Load the model in every way, ask it, and write it to disk."""
    gate.standing = "accepted"
    loaded = seen.attempt(lambda: load_gated_model(GATED, device="cpu"))
    assert isinstance(loaded, tuple)
    model, tokenizer = loaded
    seen.look("objects", model.config, model.generation_config, vars(tokenizer))
    for thing in (model, tokenizer):
        thing.save_pretrained("saved")
    llm = LocalPipeline.from_model_id(GATED, pipeline_kwargs={"max_new_tokens": 3})
    chat = LocalChat(llm=llm)
    for thing in (llm, chat):
        seen.look("objects", thing, vars(thing), thing._identifying_params, thing.model_dump())
    seen.look("objects", vars(llm.pipeline), select_device("cpu"), catalogue(), find_token())
    seen.look("objects", will_it_fit(GATED, "cpu"), will_it_fit(GATED, "cpu")._repr_html_())
    look_at_langchain(seen, llm, chat)


def look_at_langchain(seen: Seen, llm: LocalPipeline, chat: LocalChat) -> None:
    """Read what LangChain hands on: serialised models, callbacks, traces, events."""
    from langchain_core.load import dumpd, dumps
    from langchain_core.prompts import PromptTemplate
    from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

    chain = PromptTemplate.from_template("{question}") | llm
    for thing in (llm, chat, chain, llm.bind(stop=["x"])):
        seen.look("dumps", dumps(thing), repr(dumpd(thing)), repr(thing.config_schema()))
    traces = RunCollectorCallbackHandler()
    config: Any = {"callbacks": [Recorder(seen), traces]}
    chain.invoke({"question": "Who?"}, config)
    list(llm.stream("Who?", config))
    llm.batch(["Who?", "What?"], config)
    chat.invoke("Who?", config)
    seen.attempt(lambda: llm.invoke("Who?", config, stop=[1]))  # type: ignore[list-item]
    for run in traces.traced_runs:
        seen.look("callbacks", repr(run.dict()))

    async def events() -> list[Any]:
        return [event async for event in chat.astream_events("Who?", version="v2")]

    seen.look("callbacks", *asyncio.run(events()))


def pass_as_arguments(seen: Seen) -> None:
    """Hand the token to everything that takes options: each refuses it, in a sentence."""
    llm = LocalPipeline.from_model_id(GPT2, pipeline_kwargs={"max_new_tokens": 3})
    chat = LocalChat(llm=llm, chat_template="{{ messages[0].content }}")
    pipe = llm.pipeline
    token: dict[str, Any] = {"token": MARKER}
    config: Any = {"callbacks": [Recorder(seen)]}
    for call in (
        lambda: LocalPipeline.from_model_id(GPT2, model_kwargs=token),
        lambda: LocalPipeline.from_model_id(GPT2, model_kwargs={"use_auth_token": MARKER}),
        lambda: LocalPipeline.from_model_id(GPT2, pipeline_kwargs=token),
        lambda: LocalPipeline.from_model_id(GPT2, **token),
        lambda: LocalPipeline(pipeline=pipe, model_kwargs=token),
        lambda: LocalPipeline(pipeline=pipe, pipeline_kwargs=token),
        lambda: LocalPipeline(pipeline=pipe, **token),
        lambda: LocalChat.from_model_id(GPT2, model_kwargs=token),
        lambda: LocalChat.from_model_id(GPT2, pipeline_kwargs=token),
        lambda: load_gated_model(GATED, **token),
        lambda: LocalChat(llm=llm, model_kwargs=token),
        lambda: LocalChat(llm=llm, **token),
        lambda: llm.invoke("Who?", config, pipeline_kwargs=token),
        lambda: list(llm.stream("Who?", config, **token)),
        lambda: list(llm.bind(**token).stream("Who?", config)),
        lambda: asyncio.run(_all(llm.astream("Who?", config, **token))),
        lambda: chat.invoke("Who?", config, **token),
        lambda: list(chat.stream("Who?", config, **token)),
        lambda: asyncio.run(_all(chat.astream("Who?", config, **token))),
        lambda: chat.batch(["Who?", "What?"], config, **token),
    ):
        with pytest.raises(errors.CredentialError) as caught:
            call()
        assert "HF_TOKEN" in caught.value.next_step
        # Whoever wrote the token into a call has it in a variable: that is not looked at.
        seen.error(caught.value, with_variables=False)
    for call in (
        lambda: llm.invoke("Who?", config, **token),
        lambda: llm.batch(["Who?", "What?"], config, **token),
        lambda: check_parameters(HF_TOKEN=MARKER),
    ):
        seen.attempt(call, with_variables=False)
    seen.look("objects", llm, chat)
    look_at_langchain(seen, llm, chat)
    seen.look("variables in tracebacks", "not looked at")


async def _all(texts: Any) -> list[Any]:
    return [text async for text in texts]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_a_planted_token_shows_nowhere(way: str, place: str) -> None:
    """Wherever a token comes from, only the Hub's own port ever gets it."""
    seen = walk(way)
    assert seen.looked[place]
    assert seen.leaks.get(place, []) == []
    assert (seen.sent > 0) == (way != "arguments")


def test_a_leak_would_be_found() -> None:
    """The places are really looked at: what is put there on purpose is found."""
    seen = Seen()
    with pytest.MonkeyPatch.context() as patch, desk(patch) as folder, PracticeHub() as hub:
        watch_requests(seen, hub, patch)
        watch_connections(seen, hub, patch)
        with watched_output(seen), watched_logs(seen):
            os.write(1, MARKER.encode())
            logging.getLogger("transformers.some").debug("got %s", MARKER)
            _ask_elsewhere(hub)
        (folder / "tmp/left").write_text(MARKER)
        look_at_files(seen, folder)
        error = ValueError("hidden")
        error.__context__ = RuntimeError(MARKER)
        error.__suppress_context__ = True
        seen.error(error)
        code: dict[str, Any] = {}
        exec("def fail(token):\n    raise ValueError('no')", code)  # noqa: S102 - another file
        with pytest.raises(ValueError, match="no") as caught:
            code["fail"](MARKER)
        seen.error(caught.value)
    places = set(PLACES) - {"objects", "dumps", "callbacks"}
    assert {place for place in PLACES if seen.leaks.get(place)} == places


def _ask_elsewhere(hub: PracticeHub) -> None:
    import urllib.request

    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"{hub.file_host}/?token={MARKER}")  # noqa: S310 - loopback
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_your_own_token_never_meets_the_practice_hub() -> None:
    """What was in the environment before is put out of reach, and is back afterwards."""
    seen = Seen()
    with pytest.MonkeyPatch.context() as patch, desk(patch):
        patch.setenv("HF_TOKEN", MARKER)
        patch.setenv("HUGGINGFACEHUB_API_TOKEN", MARKER)
        with PracticeHub() as hub:
            watch_requests(seen, hub, patch)
            assert find_token() is None
            model_path(GPT2)
            seen.attempt(lambda: load_gated_model(GATED, device="cpu"))
            seen.look("objects", hub, hub.requests)
        assert os.environ["HF_TOKEN"] == os.environ["HUGGINGFACEHUB_API_TOKEN"] == MARKER
    assert seen.looked["requests"]
    assert not seen.sent
    assert not seen.leaks


@pytest.mark.parametrize("inside", ["\x01", "é", " ", "\x7f"])
def test_what_cannot_be_a_token_is_refused_before_a_request(inside: str, hub: PracticeHub) -> None:
    """In a header it would come out in the client's own error, behind ours."""
    os.environ["HF_TOKEN"] = f"hf_practice{inside}{TELLTALE}"
    seen = Seen()
    for call in (
        login,
        lambda: load_gated_model(GATED, device="cpu"),
        lambda: model_path(GPT2),
        lambda: LocalPipeline.from_model_id(GPT2),
    ):
        with pytest.raises(errors.CredentialError) as caught:
            call()
        seen.error(caught.value)
    assert not hub.requests
    assert seen.leaks == {}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository here")
def test_git_never_takes_a_settings_file() -> None:
    """`.env` is ignored in every folder; its example is not."""
    names = [".env", "notebooks/.env", "i18n/fr/notebooks/.env", "tests/.env"]
    words = ["git", "check-ignore", *names, ".env.example"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == names


# --- notebooks ----------------------------------------------------------------------------------

LESSON = (
    "import logging, traceback\nlogging.basicConfig(level=logging.DEBUG)",
    "from local_pipelines import find_token, load_gated_model, login, model_path",
    "from local_pipelines import LocalPipeline, setup_environment, will_it_fit",
    "%xmode Verbose\nsetup_environment()",
    "find_token(), login()",
    "! load_gated_model(GATED, device='cpu')",
    "traceback.print_last()",
    "! model_path(GATED)",
    "traceback.print_last()",
    "! LocalPipeline.from_model_id('pocket', model_kwargs={'token': find_token().reveal()})",
    "model_path(GPT2), will_it_fit(GPT2), find_token()",
)


def write_notebook(path: Path, *sources: str) -> Path:
    """Write a notebook with parameters; a source that begins with `!` is meant to fail."""
    from nbformat import v4

    settings = f'MODEL_ID = "pocket"\nGATED = "{GATED}"\nGPT2 = "{GPT2}"'
    cells = [v4.new_code_cell(settings, metadata={"tags": ["parameters"]})]
    for source in sources:
        tagged = {"tags": ["raises-exception"]} if source.startswith("! ") else {}
        cells.append(v4.new_code_cell(source.removeprefix("! "), metadata=tagged))
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("way", ["environment, wrapped", ".env, wrapped", "token file"])
def test_an_executed_notebook_holds_no_token(way: str) -> None:
    """Run with papermill, with all variables in its tracebacks and all logs, it tells nothing."""
    from course_kit.notebooks import executor, run

    seen = Seen()
    with pytest.MonkeyPatch.context() as patch, desk(patch) as folder, PracticeHub() as hub:
        watch_requests(seen, hub, patch)
        gate = Gate(hub, patch)
        gate.standing = "not_accepted"
        course = folder / "home/course"
        notebook = write_notebook(course / "00_lesson.ipynb", *LESSON)
        output = folder / "out/00_lesson.ipynb"
        with socket.create_server(("127.0.0.1", 0)) as elsewhere, watched_output(seen):
            elsewhere.setblocking(False)
            plant(way, folder, patch)
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                patch.setenv(name, f"http://127.0.0.1:{elsewhere.getsockname()[1]}")
            environment = run.kernel_environment({}, online=True)
            values = {"MODEL_ID": "pocket"}
            outcome = executor.run_notebook(
                notebook, output, values=values, timeout=120, environment=environment
            )
            with pytest.raises(BlockingIOError):  # nobody has come
                elsewhere.accept()
        assert outcome.result == "ok"
        store = Path(os.environ["HF_HOME"]) / "token"
        look_at_files(seen, folder, store, course / ".env")
        text = output.read_text(encoding="utf-8")
        assert "Logged in as learner" in text
        assert "is not accepted yet" in text
        assert "is no option of a model here" in text
        assert seen.sent
        assert seen.leaks == {}


@pytest.mark.slow
def test_a_stored_notebook_has_no_token_to_tell() -> None:
    """The clean room in which stored outputs are made has neither variables nor files with one."""
    from course_kit.notebooks.execute import execute

    with pytest.MonkeyPatch.context() as patch, desk(patch) as folder:
        patch.setenv("HF_HOME", str(folder / "home/hf"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN"):
            patch.setenv(name, MARKER)
        for path in ("home/hf/token", "home/.cache/huggingface/token"):
            (folder / path).parent.mkdir(parents=True)
            (folder / path).write_text(MARKER)
        (folder / "home/course/.env").write_text(f"HF_TOKEN={MARKER}\n")
        notebook = write_notebook(
            folder / "home/course/00_lesson.ipynb",
            "from local_pipelines import find_token, setup_environment",
            "report = setup_environment()\nreport.token, find_token()",
            "import os\n[value for value in os.environ.values() if 'hf_practice' in value]",
        )
        executed = execute(notebook, timeout=120)
    shown = [out.data["text/plain"] for cell in executed.cells for out in cell.outputs]
    assert shown == ["(None, None)", "[]"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", MARKER),
        ("HF_TOKEN", "anything"),
        ("MODEL_ID", MARKER),
        ("MODEL_ID", f' "{MARKER}"\n'),
        ("LANGSMITH_API_KEY", "lsv2_pt_practice_0123"),
    ],
)
def test_the_runner_takes_no_token_as_a_parameter(
    name: str, value: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Parameters end up in the executed notebook, so the run does not even begin."""
    from course_kit.notebooks import executor, run

    notebook = write_notebook(tmp_path / "00_lesson.ipynb", "print(MODEL_ID)")
    output = tmp_path / "out"
    assert run.main([str(notebook), "-p", name, value, "--output", str(output)]) == 2
    printed = "".join(capfd.readouterr())
    assert printed.startswith(f"{name} looks like a token")
    assert printed.count("\n") == 1
    outcome = executor.run_notebook(notebook, output / notebook.name, values={name: value})
    assert f"{name} looks like a token" in outcome.error
    printed += "".join(capfd.readouterr()) + outcome.error
    assert value.strip() not in printed
    assert not list(output.rglob("*.ipynb"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_NEW_TOKENS", 8),
        ("MODEL_ID", "pocket"),
        ("MODEL_ID", "somebody/hf_test_little_model"),
    ],
)
def test_the_runner_takes_what_only_sounds_like_a_token(name: str, value: object) -> None:
    """Numbers of tokens and names of models are parameters like others."""
    from course_kit.notebooks import executor

    executor.check_secrets({name: value})


def test_the_check_finds_a_token_that_papermill_has_stored() -> None:
    """Whoever calls papermill itself with a token cannot commit what it writes."""
    from nbformat import v4
    from papermill.parameterize import parameterize_notebook

    from course_kit.notebooks.output_rules import no_tokens
    from course_kit.notebooks.page import Page

    secret = "hf_" + "Z" * 34
    empty = v4.new_notebook(metadata={"papermill": {}})
    nb = parameterize_notebook(
        empty, {"HF_TOKEN": secret}, kernel_name="python3", language="python"
    )
    found = [str(finding) for finding in no_tokens(Page(ROOT / "00_lesson.ipynb", ROOT, nb))]
    assert len(found) == 2  # the cell that papermill put in, and the metadata
    assert not [line for line in found if secret in line]


# --- code in a repository -----------------------------------------------------------------------


class Canary:
    """A file that appears as soon as any code of the repository has run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.code = f"open({str(path)!r}, 'w').close()\n".encode()

    def pickle(self) -> bytes:
        """A pickle that runs it when it is opened."""
        return pickle.dumps(_Payload(self.path))

    def sings(self) -> bool:
        """Whether something has run it."""
        return self.path.exists()


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canary:
    """A canary, and a learner who says yes to whatever asks."""
    monkeypatch.setattr(builtins, "input", lambda prompt="": "y")
    return Canary(tmp_path / "canary")


def evil_code(canary: Canary, kind: str) -> dict[str, bytes]:
    """A repository whose configuration points at Python files of its own."""
    files = checkpoints.llama()
    config = json.loads(files["config.json"])
    tokenizer = json.loads(files["tokenizer_config.json"])
    if kind == "model":
        classes = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
        config |= {"model_type": "practice-own", "auto_map": classes}
    elif kind == "known model":
        config["auto_map"] = {"AutoModelForCausalLM": "code.Model"}
    elif kind == "tokenizer":
        tokenizer |= {
            "tokenizer_class": "OwnTokenizer",
            "auto_map": {"AutoTokenizer": ["code.OwnTokenizer", "code.OwnTokenizer"]},
        }
    return files | {
        "config.json": json.dumps(config).encode(),
        "tokenizer_config.json": json.dumps(tokenizer).encode(),
        "code.py": canary.code,
        "custom_generate/generate.py": canary.code,
        "sitecustomize.py": canary.code,
        "training_args.bin": canary.pickle(),
        "optimizer.pt": canary.pickle(),
    }


LOADERS: dict[str, Callable[[str], object]] = {
    "load_gated_model": lambda model: load_gated_model(model, device="cpu"),
    "LocalPipeline": lambda model: LocalPipeline.from_model_id(model).invoke("a"),
}
EVIL = list(itertools.product(LOADERS, ("model", "known model", "tokenizer", "generate")))


def test_the_canary_sings(canary: Canary) -> None:
    """Both forms of it do run where somebody runs them."""
    exec(canary.code)  # noqa: S102 - it is ours
    assert canary.sings()
    canary.path.unlink()
    pickle.loads(canary.pickle()).close()  # noqa: S301 - it is ours
    assert canary.sings()


@pytest.mark.parametrize(("loader", "kind"), EVIL)
def test_code_of_a_folder_is_not_run(
    loader: str, kind: str, canary: Canary, tmp_path: Path
) -> None:
    """A folder that somebody copied from somewhere is no more trusted than the Hub."""
    folder = tmp_path / "model"
    for name, data in evil_code(canary, kind).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    with contextlib.suppress(Exception):
        LOADERS[loader](str(folder))
    assert not canary.sings()


@pytest.mark.parametrize(("loader", "kind"), EVIL)
def test_code_of_a_repository_is_not_run(
    loader: str, kind: str, canary: Canary, hub: PracticeHub
) -> None:
    """Not even if somebody answers yes where the library would ask, and it is not fetched."""
    hub.add(Repository("practice/evil", evil_code(canary, kind)))
    with contextlib.suppress(Exception):
        LOADERS[loader]("practice/evil")
    assert any(r.path.endswith("config.json") for r in hub.requests)
    assert not canary.sings()
    assert not [r.path for r in hub.requests if r.method == "GET" and r.path.endswith(".py")]


def test_a_pickle_is_not_opened_as_one(canary: Canary, hub: PracticeHub) -> None:
    """Through LangChain's way of loading, too, a `.bin` with a payload does nothing."""
    files = checkpoints.llama(chat=False)
    del files["model.safetensors"]
    hub.add(Repository("practice/evil", {**files, "pytorch_model.bin": canary.pickle()}))
    with pytest.raises(Exception, match=r"(?s)."):
        LocalPipeline.from_model_id("practice/evil")
    assert not canary.sings()


def test_a_template_cannot_leave_its_sandbox(canary: Canary, hub: PracticeHub) -> None:
    """A chat template is a program: it may write text and nothing else."""
    template = (
        "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}"
        "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    ).replace("CANARY", str(canary.path))
    files = {**checkpoints.llama(), "chat_template.jinja": template.encode()}
    hub.add(Repository("practice/evil", files))
    chat = LocalChat(llm=LocalPipeline.from_model_id("practice/evil"))
    with pytest.raises(errors.ParameterError):
        chat.invoke("Hello")
    assert not canary.sings()


def test_no_file_lands_outside_the_cache(hub: PracticeHub, tmp_path: Path) -> None:
    """Names that climb out of their folder write nothing elsewhere, whoever downloads."""
    names = ["../escaped.json", "../../../escaped.json", f"{tmp_path}/escaped.json"]
    names += ["..\\escaped.json", "additional_chat_templates/../../escaped.jinja"]
    files = {**checkpoints.shard(checkpoints.llama(chat=False)), **dict.fromkeys(names, b"{}")}
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"]["model.embed_tokens.weight"] = "../../../escaped.json"
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    hub.add(Repository("practice/evil", files))
    home = Path(os.environ["HF_HOME"])
    around = {path for path in (home.parent, tmp_path, Path.cwd()) if path.is_dir()}
    before = {folder: set(os.listdir(folder)) for folder in around}  # noqa: PTH208 - names only
    for load in (
        lambda: load_gated_model("practice/evil", device="cpu"),
        lambda: LocalPipeline.from_model_id("practice/evil"),
    ):
        with pytest.raises(Exception, match=r"(?s)."):
            load()
    assert not [path for path in home.rglob("*") if "escaped" in path.name]
    for folder, names_before in before.items():
        new = set(os.listdir(folder)) - names_before  # noqa: PTH208 - names only
        assert not [name for name in new if "escaped" in name]
