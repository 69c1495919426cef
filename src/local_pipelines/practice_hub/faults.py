"""Faults on request: which answers go wrong, how often, and how."""

from __future__ import annotations

import fnmatch
import socket
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Literal, get_args
from urllib.parse import quote

from local_pipelines.errors import failure

FaultKind = Literal["close", "corrupt", "reset", "short", "stall", "trickle"]

_RATE_LIMIT_SECONDS = 1.0
_STALL_SECONDS = 600.0
_TRICKLE_PAUSE = 0.2
# What a header holds as it is: a line end would begin another header, and a letter beyond ASCII
# cannot be sent.
_PLAIN = "".join(map(chr, range(0x20, 0x7F)))


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Fault:
    """One rule: what goes wrong with which answers; `PracticeHub.fail` explains the fields."""

    path: str  # a pattern for the request's path, with * and ?
    method: str
    times: int | None
    kind: FaultKind | int
    after: int | None = None
    seconds: float | None = None

    def matches(self, method: str, path: str) -> bool:
        """Whether it is about such a request."""
        return self.method in {"*", method} and fnmatch.fnmatchcase(path, self.path)

    def place(self, body: bytes, default: int) -> int:
        """The byte at which it happens."""
        return min(len(body), default if self.after is None else self.after)


class Faults:
    """The rules in force. The first that matches is used, and used up."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()
        self.over = threading.Event()  # set when stalls and trickles are to end

    def add(self, fault: Fault) -> None:
        """Put a rule in force, after those that are."""
        known = get_args(FaultKind)
        if fault.kind not in {*known, *HTTPStatus}:
            raise failure("no-fault", kind=fault.kind, names=", ".join(known))
        with self._lock:
            self.over.clear()
            self._rules.append(fault)

    def clear(self) -> None:
        """Take all rules back and let go of whoever is waiting."""
        with self._lock:
            self._rules.clear()
            self.over.set()

    def met_by(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, counted."""
        with self._lock:
            for rule in self._rules:
                if rule.times != 0 and rule.matches(method, path):
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
        return None


def send(
    handler: BaseHTTPRequestHandler, reply: Reply, fault: Fault | None, over: threading.Event
) -> None:
    """Send an answer, well or with a fault."""
    if fault is None:
        _whole(handler, reply)
    elif isinstance(fault.kind, int):
        _whole(handler, _error(fault.kind, fault.seconds))
    elif fault.kind == "corrupt":  # the right length and the wrong bytes, each bit turned over
        start = fault.place(reply.body, 0)
        wrong = bytes(byte ^ 0xFF for byte in reply.body[start : start + 64])
        body = reply.body[:start] + wrong + reply.body[start + len(wrong) :]
        _whole(handler, replace(reply, body=body))
    elif fault.kind == "short":
        body = reply.body[: fault.place(reply.body, len(reply.body) // 2)]
        _whole(handler, replace(reply, body=body))
    else:
        _broken(handler, reply, fault, over)


def _whole(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    _head(handler, reply)
    if handler.command != "HEAD":
        handler.wfile.write(reply.body)


def _head(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    handler.send_response(reply.status)
    for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
        handler.send_header(name, quote(value, safe=_PLAIN))
    handler.end_headers()


def _error(number: int, seconds: float | None) -> Reply:
    status = HTTPStatus(number)
    headers = {"Content-Type": "text/plain"}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = _RATE_LIMIT_SECONDS if seconds is None else seconds
        headers["RateLimit"] = f'"resolvers";r=0;t={wait:.0f}'
        headers["RateLimit-Policy"] = '"fixed window";"resolvers";q=3000;w=300'
    return Reply(status, headers, f"Practice fault: {number} {status.phrase}.".encode())


def _broken(
    handler: BaseHTTPRequestHandler, reply: Reply, fault: Fault, over: threading.Event
) -> None:
    """Begin to answer, then stop: by a close, a reset, silence, or a byte now and then."""
    default = 0 if fault.kind == "trickle" else len(reply.body) // 2
    place = fault.place(reply.body, default)
    handler.close_connection = True
    if handler.command != "HEAD" and (place or fault.kind == "trickle"):
        _head(handler, reply)
        handler.wfile.write(reply.body[:place])
        handler.wfile.flush()
    else:
        handler.log_request(0)  # no answer at all
    if fault.kind == "stall":
        over.wait(_STALL_SECONDS if fault.seconds is None else fault.seconds)
    elif fault.kind == "trickle":
        for position in range(place, len(reply.body)):
            if over.is_set():
                return
            handler.wfile.write(reply.body[position : position + 1])
            handler.wfile.flush()
            time.sleep(_TRICKLE_PAUSE)
    elif fault.kind == "reset":  # lingering for zero seconds gives the other side a reset
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.rfile.close()  # it holds the socket open
        handler.connection.close()
