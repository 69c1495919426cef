"""Raw requests that no honest client sends: the practice Hub answers them in order, and in time."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import huggingface_hub.hf_api
import pytest

from local_pipelines.errors import ModelError
from local_pipelines.practice_hub import PracticeHub, Repository, faults
from local_pipelines.practice_hub import client as client_module
from local_pipelines.practice_hub import server as server_module
from local_pipelines.wording import messages

GATED = "meta-llama/Llama-3.2-1B-Instruct"
ACCEPT = f"/{GATED}/accept"
FORM = "account=not_accepted"


@pytest.fixture
def hub() -> Iterator[PracticeHub]:
    """A practice Hub that serves and leaves the client of this process alone."""
    hub = PracticeHub(client="leave")
    hub.start()
    yield hub
    hub.stop()


def port_of(hub: PracticeHub) -> int:
    port = urllib.parse.urlsplit(hub.url).port
    assert port
    return port


def send(hub: PracticeHub, request: str | bytes) -> bytes:
    """All that comes back until the other side closes, or says nothing more."""
    data = request.encode("utf-8") if isinstance(request, str) else request
    received = b""
    with socket.create_connection(("127.0.0.1", port_of(hub)), timeout=5) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except OSError:  # a reset, as what we sent was not read whole
            pass
    return received


def ask(
    hub: PracticeHub,
    path: str = "/",
    *headers: str,
    method: str = "GET",
    body: str = "",
    host: str = "127.0.0.1",
) -> bytes:
    """One request with these headers."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", body]
    return send(hub, "\r\n".join(lines))


def statuses(answer: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def head(answer: bytes) -> str:
    return answer.partition(b"\r\n\r\n")[0].decode("ascii")  # nothing else may be in a header


# --- headers of the answer -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/practice/chat/resolve/x%0d%0aSet-Cookie:a=b%0d%0a%0d%0a<script>/config.json",
        "/practice/chat/resolve/x%0aSet-Cookie:a=b/config.json",
        "/practice/chat/resolve/main/a%00b",
        "/practice/ch%0d%0aat?account=x",
        "/gpt2%0d%0aX/resolve/main/config.json",
        "/a%7fb",
    ],
)
def test_control_characters_in_an_address_are_refused(hub: PracticeHub, path: str) -> None:
    """None of them begins a header of the answer."""
    answer = ask(hub, path)
    assert statuses(answer) == [400]
    assert "cookie" not in head(answer).lower()


@pytest.mark.parametrize("revision", ["日本", "%E6%97%A5%E6%9C%AC", "é", "%ff"])
def test_a_revision_in_any_letters_is_not_found(hub: PracticeHub, revision: str) -> None:
    """The message that names it is quoted, as headers hold ASCII only."""
    answer = ask(hub, f"/practice/chat/resolve/{revision}/config.json")
    assert statuses(answer) == [404]
    assert "X-Error-Code: RevisionNotFound" in head(answer)
    assert "Invalid rev id: %" in head(answer)


def test_a_message_with_a_line_end_begins_no_header(hub: PracticeHub) -> None:
    """Even if a repository's own name holds one."""
    model_id = "practice/a\r\nSet-Cookie: b"
    hub.add(Repository(model_id, {"config.json": b"{}"}, gated=True))
    reply = faults.Reply(404, {"X-Error-Message": f"no {model_id}"}, b"")
    hub._hub.answer = lambda call: reply
    assert "Set-Cookie" not in [line.partition(":")[0] for line in head(ask(hub)).splitlines()]
    assert "no practice/a%0D%0ASet-Cookie" in head(ask(hub))


def test_a_page_cannot_be_framed(hub: PracticeHub) -> None:
    """Its button is not for other pages."""
    for path in ("/", "/settings/tokens", f"/{GATED}"):
        told = head(ask(hub, path))
        assert "X-Frame-Options: DENY" in told
        assert "frame-ancestors 'none'" in told


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "+5", "5, 6", "0x10", "١", "9" * 40, ""])
def test_a_length_that_is_no_number_is_refused(hub: PracticeHub, length: str) -> None:
    """Nothing is read, and nothing behind it is answered."""
    again = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = ask(hub, ACCEPT, f"Content-Length: {length}", method="POST", body=again)
    assert statuses(answer) == [400]


def test_two_lengths_are_refused(hub: PracticeHub) -> None:
    """Who reads which one is how requests are smuggled."""
    both = ("Content-Length: 5", f"Content-Length: {len(FORM)}")
    assert statuses(ask(hub, ACCEPT, *both, method="POST", body=FORM)) == [400]


def test_a_header_with_a_blank_before_its_colon_is_refused(hub: PracticeHub) -> None:
    """The length in it would not be seen."""
    smuggled = "GET /settings/tokens HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    headers = (f"Content-Length : {len(smuggled)}",)
    assert statuses(ask(hub, ACCEPT, *headers, method="POST", body=smuggled)) == [400]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_the_rest_of_a_long_body_is_no_request(hub: PracticeHub, method: str) -> None:
    """One request, one answer; the licence in the rest is not accepted."""
    inner = (
        f"POST {ACCEPT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(FORM)}\r\n\r\n{FORM}"
    )
    body = "x" * 65536 + inner
    answer = ask(hub, ACCEPT, f"Content-Length: {len(body)}", method=method, body=body)
    assert statuses(answer) in ([413], [])  # none: reset before it could be read
    assert not any(request.path == ACCEPT for request in hub.requests)


@pytest.mark.parametrize("how", ["chunked", "gzip, chunked", "identity", "xchunked"])
def test_a_body_in_chunks_is_refused(hub: PracticeHub, how: str) -> None:
    """With the status that asks for a length; the chunks are no request."""
    body = "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = ask(hub, ACCEPT, f"Transfer-Encoding: {how}", method="POST", body=body)
    assert statuses(answer) == [411]


def test_a_body_that_never_comes_ends_the_connection(
    hub: PracticeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a request that is begun and not gone on with."""
    monkeypatch.setattr(server_module._Handler, "timeout", 0.2)
    begun = (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx")
    for data in begun:
        with socket.create_connection(("127.0.0.1", port_of(hub)), timeout=5) as connection:
            connection.sendall(data)
            assert connection.recv(100) == b""


def test_two_requests_on_one_connection_are_two(hub: PracticeHub) -> None:
    """Honest clients keep their connection, with bodies and without."""
    form = f"Content-Length: {len(FORM)}\r\n\r\n{FORM}"
    first = f"POST {ACCEPT} HTTP/1.1\r\nHost: localhost\r\n{form}"
    assert statuses(send(hub, f"{first}GET / HTTP/1.1\r\nHost: [::1]:1\r\n\r\n")) == [303, 200]


# --- who asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8808",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "0.0.0.0",  # noqa: S104 - a name, not an address to listen at
        "[::2]",
        "127.0.0.1:port",
        "",
    ],
)
def test_another_sites_name_is_refused(hub: PracticeHub, host: str) -> None:
    """A page cannot read this Hub by pointing its own name at this machine."""
    assert statuses(ask(hub, "/practice/chat/resolve/main/config.json", host=host)) == [421]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost:80", "LOCALHOST", "[::1]"])
def test_this_machines_names_are_served(hub: PracticeHub, host: str) -> None:
    """With any port: it may be forwarded."""
    assert statuses(ask(hub, host=host)) == [200]


def test_a_request_for_another_host_is_refused(hub: PracticeHub) -> None:
    """Written out as to a proxy, doubled, or left out."""
    assert statuses(ask(hub, "http://evil.example/")) == [421]
    assert statuses(ask(hub, "http://127.0.0.1/")) == [200]
    assert statuses(ask(hub, "/", "Host: evil.example")) == [400]
    assert statuses(send(hub, "GET / HTTP/1.1\r\n\r\n")) == [400]
    assert statuses(ask(hub, "http://[::1")) == [400]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "", "*"]
)
def test_another_sites_page_cannot_press_the_button(hub: PracticeHub, origin: str) -> None:
    """The licence stays as it is."""
    headers = (f"Origin: {origin}", f"Content-Length: {len(FORM)}")
    assert statuses(ask(hub, ACCEPT, *headers, method="POST", body=FORM)) == [403]
    assert hub._accounts["not_accepted"].standing(GATED) == "not_accepted"


def test_our_own_page_can_press_the_button(hub: PracticeHub) -> None:
    """Browsers say where a form comes from."""
    host = f"127.0.0.1:{port_of(hub)}"
    headers = (f"Origin: http://{host}", f"Content-Length: {len(FORM)}")
    assert statuses(ask(hub, ACCEPT, *headers, method="POST", body=FORM, host=host)) == [303]
    assert hub._accounts["not_accepted"].standing(GATED) == "accepted"


# --- what is odd, and many -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_line",
    [
        "DELETE / HTTP/1.1",
        "CONNECT 127.0.0.1:1 HTTP/1.1",
        "GET / HTTP/9.9",
        "GET",
        "\x00\x01\x02",
        "GET /" + "a" * 70000 + " HTTP/1.1",
        "GET /practice/chat/resolve/main/../../../../etc/passwd HTTP/1.1",
        "GET /practice/chat/resolve/main/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1",
    ],
)
def test_an_odd_request_gets_an_error(hub: PracticeHub, request_line: str) -> None:
    """And the next one is answered."""
    answer = send(hub, f"{request_line}\r\nHost: 127.0.0.1\r\n\r\n")
    assert re.search(rb"\b[45]\d\d\b", answer[:300]) or not answer
    assert b"root:" not in answer
    assert statuses(ask(hub)) == [200]


@pytest.mark.parametrize("span", [f"bytes={'9' * 5000}-", "bytes=١-", "bytes=9-1", "bytes=-5", "x"])
def test_an_odd_range_is_the_whole_file(hub: PracticeHub, span: str) -> None:
    """As the protocol says of ranges that mean nothing."""
    path = "/practice/chat/resolve/main/config.json"
    told = re.search(r"Location: (\S+)", head(ask(hub, path)))
    assert told
    assert statuses(ask(hub, told[1], f"Range: {span}")) == [200]


def test_many_at_once_are_all_answered(hub: PracticeHub) -> None:
    """Beside connections that say nothing."""
    port = port_of(hub)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(50)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: statuses(ask(hub)), range(100)))
    for connection in silent:
        connection.close()
    assert answers == [[200]] * 100
    assert server_module._Server.request_queue_size == 128
    assert server_module._Handler.timeout == 30


# --- faults on request ---------------------------------------------------------------------------


def test_a_short_answer_has_as_many_bytes_as_asked(hub: PracticeHub) -> None:
    """The file ends early, in good order."""
    hub.fail("/api/*", with_="short", after=100)
    told, _, body = ask(hub, "/api/models/practice/chat").partition(b"\r\n\r\n")
    assert (b"Content-Length: 100" in told, len(body)) == (True, 100)
    hub.fail("/api/*", with_="short")
    whole = len(json.dumps(hub._repositories["practice/chat"].info(blobs=False)))
    assert len(ask(hub, "/api/models/practice/chat").partition(b"\r\n\r\n")[2]) == whole // 2


def test_a_stall_ends_by_itself(hub: PracticeHub) -> None:
    """After ten minutes, unless told otherwise."""
    waited: list[float] = []
    over: Any = threading.Event()
    over.wait = waited.append
    hub._hub.faults.over = over
    hub.fail("/", with_="stall", after=0)
    hub.fail("/", with_="stall", after=0, seconds=3)
    assert ask(hub) == ask(hub) == b""
    deadline = time.monotonic() + 5
    while len(waited) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert waited == [600, 3]


# --- the environment comes back ------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["_set_environment", "_replace", "_follows"])
def test_a_hub_that_failed_to_start_gives_everything_back(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Your token and your Hub are there again, whatever went wrong in the middle."""
    monkeypatch.setenv("HF_TOKEN", "hf_test_mine")
    place: Any = client_module.ClientSwitch if broken == "_set_environment" else client_module
    real, calls = getattr(place, broken), []

    def fails(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 1:
            return real(*args)
        if broken != "_follows":
            real(*args)
            raise RuntimeError("in the middle")
        return False

    monkeypatch.setattr(place, broken, fails)
    before = dict(os.environ)
    with pytest.raises((RuntimeError, ModelError)):
        PracticeHub().start()
    assert dict(os.environ) == before
    assert huggingface_hub.constants.ENDPOINT == "https://huggingface.co"
    assert huggingface_hub.hf_api.api.endpoint == "https://huggingface.co"


# --- pages ---------------------------------------------------------------------------------------


def test_pages_speak_the_learners_language(
    hub: PracticeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sentence goes through the catalogue, and the page says its language."""

    class Upper:
        def gettext(self, message: str) -> str:
            names = re.split(r"(\{.*?\})", message)
            return "".join(n if n.startswith("{") else n.upper() for n in names)

    monkeypatch.setenv("LOCAL_PIPELINES_LANGUAGE", "fr")
    monkeypatch.setattr(messages, "_catalogue", lambda _: Upper())
    for path in ("/", "/settings/tokens", f"/{GATED}"):
        page = ask(hub, path).partition(b"\r\n\r\n")[2].decode()
        assert '<html lang="fr">' in page
        text = re.sub(r"<(title|style|code|option|li|h1|b|a|td)\b.*?</\1>|<[^>]+>", "", page)
        assert re.sub(r"not_accepted|llama3\.2", "", text) == text.upper().replace(
            "NOT_ACCEPTED", ""
        ).replace("LLAMA3.2", "")


def test_every_status_of_a_refusal_is_sent_once(hub: PracticeHub) -> None:
    """A refused connection is closed and says so."""
    answer = ask(hub, host="evil.example")
    assert head(answer).count("Connection: close") == 1
    assert answer.endswith(HTTPStatus.MISDIRECTED_REQUEST.phrase.encode() + b".")
