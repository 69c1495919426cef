"""A Hub that lies: in its headers, redirects, bodies, lists and statuses.

Whatever it says, a call ends in the right model or in one sentence of the course, after few
requests; nothing is written outside the cache, and the token stays at the Hub's own address.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from local_pipelines import errors
from local_pipelines.models import access, client_guard, download
from local_pipelines.models.download import fetch_model
from local_pipelines.models.paths import model_path
from local_pipelines.practice_hub import checkpoints
from local_pipelines.practice_hub.client import ClientSwitch

MODEL = "some/model"
COMMIT = "0123456789abcdef" * 2 + "01234567"
FILES = checkpoints.llama(chat=False)
TOKEN = "hf_attackattackattack"
WEIGHTS = "/model.safetensors"
PRIVATE = "secret-password"
SMALL = "/tokenizer.json"


# --- the Hub that lies --------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """An answer; a body that is no bytes is sent piece by piece until it ends or breaks."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Iterable[bytes] = b""

    def having(self, **headers: str) -> Reply:
        """The same with other headers; `_` stands for `-`."""
        new = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in map(str.lower, new))
        return replace(self, headers=kept + tuple(new.items()))

    def of(self, body: bytes | Iterable[bytes]) -> Reply:
        """The same with another body."""
        return replace(self, body=body)


Lie = Callable[[Reply], Reply]


@dataclass
class LyingHub:
    """A Hub with one model. `lies` change its answers; the first that matches is told."""

    url: str = ""
    elsewhere: str = ""
    lies: list[tuple[str, str, Lie]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    told_elsewhere: list[dict[str, str]] = field(default_factory=list)

    def lie(self, end_of_path: str, lie: Lie, method: str = "HEAD GET") -> None:
        """Change the answers to requests whose path ends so."""
        self.lies.append((end_of_path, method, lie))

    def answer(self, method: str, path: str) -> Reply:
        """The answer to a request, honest or not."""
        self.asked.append((method, path))
        reply = self._honest(path)
        for end, methods, lie in self.lies:
            if path.endswith(end) and method in methods:
                return lie(reply)
        return reply

    def _honest(self, path: str) -> Reply:
        if path.startswith("/api/models/"):
            return Reply(headers=(("Content-Type", "application/json"),), body=info())
        name = path.rsplit("/", 1)[-1]
        if name not in FILES:
            return Reply(404, (("X-Error-Code", "EntryNotFound"),))
        return Reply(
            headers=(("X-Repo-Commit", COMMIT), ("ETag", f'"{tag(name)}"')), body=FILES[name]
        )


def tag(name: str) -> str:
    """The sum that the Hub tells of a file."""
    data = FILES[name]
    if name.endswith(".safetensors"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def siblings() -> list[dict[str, Any]]:
    """What the Hub tells of the model's files."""
    told: list[dict[str, Any]] = []
    for name, data in FILES.items():
        one: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": tag(name)[:40]}
        if name.endswith(".safetensors"):
            one["lfs"] = {"sha256": tag(name), "size": len(data), "pointerSize": 1}
        told.append(one)
    return told


def info(**changed: Any) -> bytes:
    """What the Hub tells of the model."""
    told = {"id": MODEL, "sha": COMMIT, "siblings": siblings(), "tags": []}
    return json.dumps({**told, **changed}).encode()


@contextmanager
def running() -> Iterator[LyingHub]:
    """Serve a lying Hub and a second server on loopback."""
    hub = LyingHub()

    class OfTheHub(_Handler):
        def reply(self) -> Reply:
            return hub.answer(self.command, unquote(self.path.split("?")[0]))

    class Elsewhere(_Handler):
        def reply(self) -> Reply:
            hub.told_elsewhere.append({k.lower(): v for k, v in self.headers.items()})
            return hub._honest(unquote(self.path.split("?")[0]))

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (OfTheHub, Elsewhere)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.url, hub.elsewhere = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each body waits for 40 ms

    def reply(self) -> Reply:
        raise NotImplementedError

    def do_GET(self) -> None:
        reply = self.reply()
        whole = isinstance(reply.body, bytes)
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if whole and "content-length" not in {name.lower() for name, _ in reply.headers}:
            self.send_header("Content-Length", str(len(reply.body)))  # type: ignore[arg-type]
        self.end_headers()
        self.close_connection = not whole
        with suppress(OSError):  # the client has had enough
            for piece in () if self.command == "HEAD" else [reply.body] if whole else reply.body:
                self.wfile.write(piece)  # type: ignore[arg-type]

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch, short_pauses: None) -> None:
    """As many tries as learners have, without the time between them."""
    monkeypatch.setattr(access, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LyingHub]:
    """A lying Hub that the client asks, with files of mine around its cache."""
    home = tmp_path / "mine" / "home"
    home.mkdir(parents=True)
    (tmp_path / "mine" / ".bashrc").write_text("mine")
    with running() as hub:
        switch = ClientSwitch(hub.url, home)
        switch.enter(refuse_frozen=False)
        os.environ["HF_TOKEN"] = TOKEN
        try:
            yield hub
            assert_nothing_happened(tmp_path, hub)
        finally:
            switch.leave()


def assert_nothing_happened(root: Path, hub: LyingHub) -> None:
    """Nothing outside the model's own folders, no token elsewhere, and an end to the questions."""
    cache = root / "mine" / "home" / "hub"
    homes = (cache / "models--some--model", cache / ".locks" / "models--some--model")
    marks = {cache / "CACHEDIR.TAG", cache / ".locks" / "CACHEDIR.TAG"}
    strangers = [
        path
        for path in root.rglob("*")
        if path.is_file() and not any(map(path.is_relative_to, homes)) and path not in marks
    ]
    assert strangers == [root / "mine" / ".bashrc"]
    assert strangers[0].read_text() == "mine"
    assert not any(TOKEN in str(headers) for headers in hub.told_elsewhere)
    assert len(hub.asked) < 60


def outcome(call: Callable[[], object] = lambda: fetch_model(MODEL)) -> object:
    """The folder with the right bytes, or the error, which tells no token and has no past."""
    try:
        folder = Path(str(call()))
    except errors.LocalPipelinesError as error:
        told = error
    else:
        assert {file.name for file in folder.iterdir()} >= {"config.json", "model.safetensors"}
        assert all(file.read_bytes() == FILES[file.name] for file in folder.iterdir())
        return folder
    assert "\n" not in str(told)
    assert told.next_step
    assert told.__context__ is None
    assert TOKEN not in f"{told!r} {vars(told)}"
    return told


def refused(kind: type[errors.LocalPipelinesError], words: str) -> errors.LocalPipelinesError:
    """The one sentence, of this kind, with these words."""
    error = outcome()
    assert isinstance(error, kind), error
    assert words in str(error)
    return error


IN_ITS_PLACE = "in the Hub's place"


# --- headers ------------------------------------------------------------------------------------

COMMITS = [
    "../../../../mine/.bashrc",
    "../../../.bashrc",
    "/tmp/owned",
    "..",
    "main",
    "",
    COMMIT[:-1],
    COMMIT + "0",
    COMMIT + "/x",
    "../" + COMMIT,
    COMMIT.upper(),
    "g" * 40,
    f"{COMMIT}, {COMMIT}",
]
TAGS = [
    '"../../../../../mine/startup/00-hub.py"',
    "../../../.bashrc",
    'W/"../../../.bashrc"',
    '"..\\..\\x"',
    '"/tmp/owned"',
    '"C:x"',
    '"a/b"',
    '"."',
    '".."',
    '""',
    "W/W",
    '"%2e%2e%2fx"',
    '"' + "x" * 300 + '"',
    '"a", "b"',
]


@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("name", ["/config.json", WEIGHTS])
def test_a_commit_names_no_other_file(hub: LyingHub, name: str, commit: str) -> None:
    """It is forty hexadecimal digits or the answer is refused, whichever file it comes with."""
    hub.lie(name, lambda reply: reply.having(X_Repo_Commit=commit))
    refused(errors.OfflineError, IN_ITS_PLACE)


@pytest.mark.parametrize("value", TAGS)
@pytest.mark.parametrize("header", ["ETag", "X-Linked-ETag"])
def test_a_tag_names_no_other_file(hub: LyingHub, header: str, value: str) -> None:
    """A tag is one word, or the answer is refused."""
    hub.lie(WEIGHTS, lambda reply: reply.having(**{header: value}))
    refused(errors.OfflineError, IN_ITS_PLACE)


@pytest.mark.parametrize("value", ['"{}"', "{}", 'W/"{}"', '"{}-gzip"'])
def test_an_honest_tag_is_left_alone(hub: LyingHub, value: str) -> None:
    """Weak tags, tags without quotes and those of a compressing server are in use."""
    hub.lie(WEIGHTS, lambda reply: reply.having(ETag=value.format("ab" * 20)))
    assert isinstance(outcome(), Path)


@pytest.mark.parametrize("value", ["../../../.bashrc", '".."'])
def test_calls_of_the_client_itself_are_guarded_too(hub: LyingHub, value: str) -> None:
    """After one call of ours, lessons that use the client directly are safe as well."""
    client_guard.install_guard()
    hub.lie(SMALL, lambda reply: reply.having(ETag=value))
    with pytest.raises(errors.OfflineError, match=IN_ITS_PLACE):
        huggingface_hub.hf_hub_download(MODEL, "tokenizer.json")


def test_a_missing_file_names_no_other_file(hub: LyingHub) -> None:
    """The client notes what does not exist, too, by the commit of a 404."""
    client_guard.install_guard()
    hub.lie("/none.json", lambda reply: reply.having(X_Repo_Commit="../../../x"))
    with pytest.raises(errors.OfflineError, match=IN_ITS_PLACE):
        huggingface_hub.hf_hub_download(MODEL, "none.json")


NUMBERS = [
    ("X-Linked-Size", "-5"),
    ("X-Linked-Size", "many"),
    ("X-Linked-Size", str(10**18)),
    ("X-Linked-Size", "9" * 5000),
    ("Content-Range", "bytes 5-3/1"),
    ("Content-Encoding", "gzip"),
    ("Retry-After", "1e9"),
    ("X-Error-Code", "GatedRepo"),
    ("X-Error-Message", "\t" * 2000),
    ("X-HF-Warning", "look; " + "x" * 2000),
    ("Content-Disposition", 'attachment; filename="../../x"'),
]


@pytest.mark.parametrize(("header", "value"), NUMBERS)
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_other_odd_headers_do_no_harm(hub: LyingHub, method: str, header: str, value: str) -> None:
    """They lead to the model or to a sentence; the bytes are judged by what was told before."""
    hub.lie(SMALL, lambda reply: reply.having(**{header: value}), method=method)
    outcome()


def test_a_file_of_another_version_is_refused(hub: LyingHub) -> None:
    """All files come from the commit that was asked for first, or the model would be mixed."""
    hub.lie(SMALL, lambda reply: reply.having(X_Repo_Commit="f" * 40))
    refused(errors.OfflineError, "another version")


def test_a_branch_that_moves_meanwhile_does_no_harm(hub: LyingHub) -> None:
    """The branch is noted for the commit whose files are here, and found offline."""
    hub.lie("/resolve/main/tokenizer.json", lambda reply: reply.having(X_Repo_Commit="f" * 40))
    folder = fetch_model(MODEL)
    assert all(
        f"/resolve/{COMMIT}/" in path
        for method, path in hub.asked
        if method == "GET" and not path.startswith("/api")
    )
    asked = len(hub.asked)
    assert model_path(MODEL) == str(folder)
    assert len(hub.asked) == asked


@pytest.mark.parametrize("revision", ["../../x", "..", "/tmp/owned", "a\\b", "C:x", "a b", 7, "\0"])
def test_a_revision_names_no_other_file(hub: LyingHub, revision: Any) -> None:
    """The cache keeps a file of each branch's name, and a Hub may claim to have any branch."""
    hub.lie("", lambda reply: reply.having(X_Repo_Commit=COMMIT))
    for door in (fetch_model, model_path):
        error = outcome(lambda door=door: door(MODEL, revision=revision))
        assert "no such revision" in str(error)
    assert not hub.asked


def test_a_branch_with_a_slash_is_kept_for_offline_use(hub: LyingHub) -> None:
    """Pull requests have such names on the Hub."""
    folder = fetch_model(MODEL, revision="refs/pr/1")
    asked = len(hub.asked)
    assert fetch_model(MODEL, revision="refs/pr/1") == folder
    assert len(hub.asked) == asked


# --- where it sends us --------------------------------------------------------------------------

PLACES = [
    "/some/model/resolve/main/config.json",  # itself
    "?again",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "javascript:alert(1)",
    "http://[::bad",
    "http://127.0.0.1:99999/",
    "//127.0.0.1:1/x",
    "",
]


@pytest.mark.parametrize("status", [307, 304])
@pytest.mark.parametrize("place", PLACES)
def test_no_redirect_leads_astray(hub: LyingHub, place: str, status: int) -> None:
    """Circles end after a few steps, and other protocols are not followed."""
    hub.lie(
        "/config.json",
        lambda reply: Reply(status, reply.headers).having(Location=place),
    )
    assert isinstance(outcome(), errors.LocalPipelinesError)


def test_a_circle_of_files_leaves_nobody_running(hub: LyingHub) -> None:
    """After the sentence no thread goes on asking."""
    hub.lie("/config.json", lambda _: Reply(307).having(Location="/some/model/x/config.json"))
    refused(errors.OfflineError, "in a circle")
    asked = len(hub.asked)
    assert asked < 20


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_file_may_lie_elsewhere_but_the_token_stays(
    hub: LyingHub, status: int, host: str
) -> None:
    """Large files lie on other hosts, which have no business with the token."""
    there = hub.elsewhere.replace("127.0.0.1", host) + WEIGHTS
    hub.lie(
        WEIGHTS,
        lambda reply: Reply(status, reply.headers).having(
            Location=there, X_Linked_Size=str(len(FILES[WEIGHTS[1:]]))
        ),
    )
    assert isinstance(outcome(), Path)
    assert hub.told_elsewhere


def test_the_next_page_of_a_list_is_fetched_without_the_token(hub: LyingHub) -> None:
    """`Link: rel=next` may point anywhere; transformers follows it for its lists."""
    client_guard.install_guard()
    link = f'<{hub.elsewhere}/api/models/x>; rel="next"'
    hub.lie("/tree/main", lambda _: Reply(headers=(("Link", link),), body=b"[]"))
    with pytest.raises(Exception):  # noqa: B017, PT011 - what comes from elsewhere is no list
        list(huggingface_hub.HfApi().list_repo_tree(MODEL))
    assert hub.told_elsewhere


def test_a_key_of_another_service_is_left_alone(hub: LyingHub) -> None:
    """Only the Hub's token stays at the Hub: providers have keys of their own."""
    client_guard.install_guard()
    headers = {"Authorization": "Bearer another-key"}
    huggingface_hub.get_session().get(f"{hub.elsewhere}/x", headers=headers)
    assert hub.told_elsewhere[0]["authorization"] == headers["Authorization"]


@pytest.mark.parametrize(
    ("address", "goes"),
    [
        ("https://huggingface.co/api", True),
        ("https://router.huggingface.co/v1", True),
        ("http://huggingface.co/api", False),
        ("https://huggingface.co:8443/api", False),
        ("https://huggingface.co.evil.example/", False),
        ("https://evilhuggingface.co/", False),
        ("https://cdn.example/", False),
    ],
)
def test_the_token_goes_home_only(
    address: str, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scheme, host and port decide; Hugging Face's own services count as home over https."""
    import httpx

    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    request = httpx.Request("GET", address, headers={"Authorization": f"Bearer {TOKEN}"})
    client_guard._check_request(request)
    assert ("Authorization" in request.headers) == goes


def test_xet_is_off_at_other_hubs(hub: LyingHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transfers and its token route are out of our reach, so mirrors download as usual."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    auth = f'<{hub.elsewhere}/refresh>; rel="xet-auth"'
    hub.lie(WEIGHTS, lambda reply: reply.having(X_Xet_Hash="ab" * 32, Link=auth))
    assert isinstance(outcome(), Path)
    assert not hub.told_elsewhere


# --- bodies -------------------------------------------------------------------------------------

TOKENIZER = FILES["tokenizer.json"]
PAGE = b"<html>Welcome to our Wi-Fi</html>".ljust(len(TOKENIZER))[: len(TOKENIZER)]


def endless() -> Iterator[bytes]:
    """More than any file of the model has; the test would notice an end."""
    return itertools.repeat(b"x" * 65536, 10_000)


def bomb() -> bytes:
    """Two hundred megabytes, packed."""
    return gzip.compress(bytes(200_000_000), compresslevel=1)


def told(size: int, body: Any, **headers: str) -> Lie:
    """A body for a GET, whatever the HEAD said."""
    return lambda reply: reply.of(body).having(Content_Length=str(size), **headers)


def streamed(body: Callable[[], Any], **headers: str) -> Lie:
    """A body without a length."""
    return lambda reply: reply.of([body()] if isinstance(body(), bytes) else body()).having(
        Connection="close", **headers
    )


BODIES: dict[str, Lie] = {
    "a log-in page of the same size": lambda reply: reply.of(PAGE),
    "half of it changed": lambda reply: reply.of(TOKENIZER[:50] + PAGE[50:]),
    "short, in good order": lambda reply: reply.of(TOKENIZER[:-1]),
    "long, in good order": lambda reply: reply.of(TOKENIZER + b" "),
    "empty": lambda reply: reply.of(b""),
    "endless": streamed(endless),
    "packed in an unknown way": lambda reply: reply.having(Content_Encoding="br"),
    "packed twice": lambda reply: reply.having(Content_Encoding="gzip, gzip"),
    "not packed as it says": lambda reply: reply.having(Content_Encoding="gzip"),
}


@pytest.mark.parametrize("name", BODIES)
def test_wrong_bytes_are_neither_kept_nor_waited_for(hub: LyingHub, name: str) -> None:
    """The size and the sum that the Hub told decide; a second try with a good line works."""
    hub.lie(SMALL, BODIES[name], method="GET")
    assert isinstance(outcome(), errors.ModelError)
    hub.lies.clear()
    assert isinstance(outcome(), Path)


def test_wrong_bytes_once_are_fetched_again(hub: LyingHub) -> None:
    """A small file is tried again as weights are."""
    once = iter([PAGE])
    hub.lie(SMALL, lambda reply: reply.of(next(once, TOKENIZER)), method="GET")
    assert isinstance(outcome(), Path)
    assert [path for method, path in hub.asked if method == "GET"].count(
        f"/{MODEL}/resolve/{COMMIT}/tokenizer.json"
    ) == 2


def test_a_packed_file_is_unpacked(hub: LyingHub) -> None:
    """The Hub and proxies may pack texts."""
    hub.lie(
        SMALL,
        lambda reply: reply.of(gzip.compress(TOKENIZER)).having(Content_Encoding="gzip"),
        method="GET",
    )
    assert isinstance(outcome(), Path)


@pytest.mark.parametrize("place", [SMALL, f"/{COMMIT}"])
def test_a_bomb_is_not_unpacked(hub: LyingHub, place: str, tmp_path: Path) -> None:
    """Neither a file nor a list grows to more than there can be of it."""
    packed = bomb()
    hub.lie(place, lambda reply: reply.of(packed).having(Content_Encoding="gzip"), method="GET")
    refused(errors.OfflineError, "goes on after its end")
    largest = max((f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()), default=0)
    assert largest < 1_000_000


@pytest.mark.parametrize("place", [WEIGHTS, f"/{COMMIT}"])
def test_what_never_ends_is_broken_off(hub: LyingHub, place: str) -> None:
    """More bytes than announced end the download."""
    hub.lie(place, streamed(endless), method="GET")
    refused(errors.OfflineError, "goes on after its end")


def test_a_refusal_without_end_is_broken_off(hub: LyingHub) -> None:
    """The client reads a refusal whole, for its text."""
    hub.lie(f"/{COMMIT}", lambda _: Reply(403, (("Connection", "close"),), endless()))
    refused(errors.OfflineError, "goes on after its end")


def test_a_question_left_behind_stops_by_itself(
    hub: LyingHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that comes in crumbs is given up, and so is the thread that reads it."""
    gone = threading.Event()

    def crumbs() -> Iterator[bytes]:
        try:
            while True:
                yield b" "
                time.sleep(0.01)
        finally:
            gone.set()

    monkeypatch.setattr(access, "PATIENCE", 0.3)
    hub.lie(f"/{COMMIT}", lambda _: Reply(200, (("Connection", "close"),), crumbs()))
    refused(errors.OfflineError, "cannot be reached")
    assert gone.wait(10)


@pytest.mark.parametrize("place", [SMALL, WEIGHTS])
def test_a_body_in_crumbs_is_broken_off(
    hub: LyingHub, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte starts the client's time limit anew; less than a megabyte in ours is too slow."""
    body = FILES[place[1:]]

    def crumbs() -> Iterator[bytes]:
        for position in range(len(body)):
            yield body[position : position + 1]
            time.sleep(0.01)

    monkeypatch.setattr(download, "STANDSTILL", 0.1)
    hub.lie(place, lambda reply: told(len(body), crumbs())(reply), method="GET")
    refused(errors.OfflineError, "all but stands still")


# --- lists --------------------------------------------------------------------------------------


def changed(**one: Any) -> bytes:
    """The list of files with one of them changed."""
    first, *rest = siblings()
    return info(siblings=[{**first, **one}, *rest])


LISTS: dict[str, bytes] = {
    "no JSON": b"<html>Wi-Fi</html>",
    "empty": b"",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "far too deep": b"[" * 100_000,
    "files are a number": info(siblings=7),
    "files are words": info(siblings=["config.json"]),
    "no files": info(siblings=[]),
    "a negative size": changed(size=-5),
    "a size of words": changed(size="12"),
    "more than any disk": changed(size=10**18),
    "a name that is a number": changed(rfilename=7),
    "sums are a list": changed(lfs=[1]),
    "another sum": changed(blobId="0" * 40),
}


@pytest.mark.parametrize("name", LISTS)
def test_an_odd_list_is_a_sentence(hub: LyingHub, name: str) -> None:
    """What is no list of files, or tells what cannot be, is refused."""
    hub.lie(f"/{COMMIT}", lambda reply: reply.of(LISTS[name]))
    assert isinstance(outcome(), errors.LocalPipelinesError)


@pytest.mark.parametrize(
    "name", ["../../../x.json", "/etc/x.json", "a/b.json", "..\\x.json", "x" * 300 + ".json"]
)
def test_an_odd_name_is_left_out(hub: LyingHub, name: str) -> None:
    """Only short names in the top folder are fetched."""
    extra = {"rfilename": name, "size": 1, "blobId": "0" * 40}
    hub.lie(f"/{COMMIT}", lambda reply: reply.of(info(siblings=[*siblings(), extra])))
    assert isinstance(outcome(), Path)


# --- statuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("place", ["/config.json", SMALL, WEIGHTS])
@pytest.mark.parametrize("wait", ["250", "99999999999999999999"])
def test_a_rush_is_not_slept_through(hub: LyingHub, place: str, method: str, wait: str) -> None:
    """The client would sleep up to five times as long, without a word."""
    rate = {"RateLimit": f'"resolvers";r=0;t={wait}'}
    hub.lie(place, lambda reply: Reply(429, reply.headers).having(**rate), method=method)
    error = refused(errors.OfflineError, "asks you to wait")
    assert error.status == 429


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 410, 416, 418, 429, 451, 500, 503])
@pytest.mark.parametrize("place", ["/config.json", WEIGHTS])
def test_a_status_that_stays_is_a_sentence(hub: LyingHub, place: str, status: int) -> None:
    """It carries the status for a program, and few requests were made."""
    hub.lie(place, lambda reply: Reply(status, reply.headers))
    error = outcome()
    assert isinstance(error, errors.LocalPipelinesError)
    assert error.status == status


# --- this machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ENOSPC", "disk is full"),
        ("EDQUOT", "disk is full"),
        ("EMFILE", "Restart the kernel"),
        ("EIO", "Restart the kernel"),
        ("EFBIG", "another disk"),
        ("EPERM", "that you may write to"),
        ("EACCES", "that you may write to"),
        ("EROFS", "that you may write to"),
    ],
)
def test_a_file_that_cannot_be_kept_is_no_broken_connection(
    hub: LyingHub, name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once, with what to do about it."""
    tries = []

    def write(*_: object, **__: object) -> None:
        tries.append(name)
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", write)
    refused(errors.CacheError, words)
    assert len(tries) == 1


# --- passwords ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 416, 429, 503, 200])
@pytest.mark.parametrize("door", [fetch_model, model_path])
def test_a_password_in_the_address_is_not_shown(
    hub: LyingHub, door: Callable[[str], object], status: int
) -> None:
    """A mirror's address may hold one, and sentences end up in saved notebooks."""
    del os.environ["HF_TOKEN"]
    code = (("X-Error-Code", "GatedRepo"),) if status == 401 else ()
    hub.lie("", lambda _: Reply(status, code))
    address = hub.url.replace("//", f"//somebody:{PRIVATE}@")
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", address)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        error = outcome(lambda: door(MODEL))
    assert isinstance(error, errors.LocalPipelinesError)
    assert PRIVATE not in str(error)
    assert "somebody" not in str(error)


# --- the guard itself ---------------------------------------------------------------------------


def test_the_guard_is_put_on_once_and_keeps_a_factory_of_your_own() -> None:
    """A proxy or certificate that you set stays in force, with the guard around it."""
    import httpx

    made = []

    def my_factory() -> httpx.Client:
        made.append(httpx.Client())
        return made[-1]

    before = _http._GLOBAL_CLIENT_FACTORY
    try:
        huggingface_hub.set_client_factory(my_factory)
        client_guard.install_guard()
        client_guard.install_guard()
        client = huggingface_hub.get_session()
        assert client is made[0]
        assert len(made) == 1
        assert client.event_hooks["request"] == [client_guard._check_request]
        assert client.event_hooks["response"] == [client_guard._check_answer]
    finally:
        huggingface_hub.set_client_factory(before)


async def test_the_asynchronous_client_is_guarded_too(hub: LyingHub) -> None:
    """Its answers are refused and its token stays at home."""
    client_guard.install_guard()
    hub.lie("/x", lambda _: Reply(headers=(("X-Repo-Commit", ".."),)))
    async with huggingface_hub.get_async_session() as client:
        await client.get(f"{hub.elsewhere}/x", headers={"Authorization": f"Bearer {TOKEN}"})
        with pytest.raises(errors.OfflineError, match=IN_ITS_PLACE):
            await client.get(f"{hub.url}/x")
    assert hub.told_elsewhere
