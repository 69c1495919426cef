"""Sockets: one port, its requests, their log, and the faults on the way out."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from local_pipelines.practice_hub.accounts import Account
from local_pipelines.practice_hub.faults import Fault, Faults, Reply, send
from local_pipelines.practice_hub.routes import Call

_LOOPBACK = "127.0.0.1"
_LONGEST_BODY = 65536  # bytes of a request; forms and device codes are far shorter
_LONGEST_SILENCE = 30.0  # seconds until a connection is given up that begins a request
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Another name for this machine is another site's, which its owner points here to be let in.
_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """A request that was answered, for the log. The token itself is never kept."""

    port: str  # "hub" or "files"
    method: str
    path: str  # decoded, without the query
    status: int  # 0 if no answer was sent
    authorized: bool  # it came with an Authorization header
    account: str | None  # whose token that was; None if nobody's
    span: str | None  # the Range header
    fault: str | int | None


@dataclass(kw_only=True)
class Port:
    """One of the two servers. It can be closed and opened again at the same address.

    Args:
        name: "hub" or "files".
        answer: From a request to its answer.
        account_of: Whose token it is.
        faults: The rules in force.
        log: Where answered requests are written.
        number: The port's number; 0 takes a free one.
        tls: Serve https with this context's certificate.
    """

    name: str
    answer: Callable[[Call], Reply]
    account_of: Callable[[str], Account | None]
    faults: Faults
    log: list[Request]
    number: int = 0
    tls: ssl.SSLContext | None = None
    _server: _Server | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """The address it listens at, once it was opened."""
        return f"{'https' if self.tls else 'http'}://{_LOOPBACK}:{self.number}"

    def open(self) -> None:
        """Listen, and answer in threads of its own."""
        if self._server is not None:
            return
        self._server = _Server(self)
        self.number = self._server.server_address[1]
        serve = self._server.serve_forever
        threading.Thread(target=serve, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Stop listening and drop every connection: the host is not there any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.drop_connections()
            self._server = None


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a whole class that begins at once

    def __init__(self, port: Port) -> None:
        super().__init__((_LOOPBACK, port.number), _Handler)
        self.port = port
        self._connections: set[socket.socket] = set()
        if port.tls is not None:
            # The handshake waits for the first read, in the connection's own thread.
            self.socket = port.tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when the other side has left: learners interrupt cells."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "PracticeHub"
    sys_version = ""
    timeout = _LONGEST_SILENCE
    server: _Server
    _call: Call | None = None
    _fault: Fault | None = None

    def parse_request(self) -> bool:
        """Forget the request before on the same connection."""
        self._call = self._fault = None
        return super().parse_request()

    def do_GET(self) -> None:
        port = self.server.port
        if (status := self._refused()) is not None:
            self.close_connection = True  # the next bytes may be this request's body
            body = f"{status.phrase}.".encode()
            headers = {"Content-Type": "text/plain", "Connection": "close"}
            send(self, Reply(status, headers, body), None, port.faults.over)
            return
        self._call = call = self._read_call(port)
        self._fault = port.faults.met_by(call.method, unquote(call.path))
        # A fault must not hide what the answer would have been: it may come in the middle of it.
        send(self, port.answer(call), self._fault, port.faults.over)

    do_HEAD = do_POST = do_GET  # noqa: N815 - the base class looks for these names

    def _refused(self) -> HTTPStatus | None:
        """Why a request is none for this Hub; None if it is one."""
        hosts = self.headers.get_all("Host") or []
        lengths = set(self.headers.get_all("Content-Length") or ["0"])
        origin = self.headers.get("Origin")
        try:
            parts = urlsplit(self.path)
        except ValueError:
            return HTTPStatus.BAD_REQUEST
        one_each = len(hosts) == len(lengths) == 1
        if self.headers.defects or not one_each or not re.fullmatch("[0-9]{1,18}", min(lengths)):
            return HTTPStatus.BAD_REQUEST
        if _CONTROL.search(unquote(self.path)):
            return HTTPStatus.BAD_REQUEST  # no name holds it; in a header it would begin another
        if not all(_HOST.fullmatch(host) for host in [*hosts, parts.netloc or hosts[0]]):
            return HTTPStatus.MISDIRECTED_REQUEST
        scheme = self.server.port.url.partition(":")[0]
        if self.command == "POST" and origin not in {None, f"{scheme}://{hosts[0]}"}:
            return HTTPStatus.FORBIDDEN  # another site's page that presses our buttons
        if "Transfer-Encoding" in self.headers:
            return HTTPStatus.LENGTH_REQUIRED
        too_long = int(min(lengths)) > _LONGEST_BODY
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_long else None

    def _read_call(self, port: Port) -> Call:
        parts = urlsplit(self.path)
        header = self.headers.get("Authorization")
        return Call(
            method=self.command,
            path=parts.path,
            query=parse_qs(parts.query, keep_blank_values=True),
            account=port.account_of((header or "").removeprefix("Bearer ").strip()),
            authorized=header is not None,
            span=self.headers.get("Range"),
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if (call := self._call) is None:
            return
        self.server.port.log.append(
            Request(
                port=self.server.port.name,
                method=call.method,
                path=unquote(call.path),
                status=int(code),
                authorized=call.authorized,
                account=call.account.name if call.account else None,
                span=call.span,
                fault=self._fault.kind if self._fault else None,
            )
        )

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Print nothing: the log is for programs."""
