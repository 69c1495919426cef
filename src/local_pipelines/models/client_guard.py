"""What the Hub's client may believe and send: one guard on its requests and its answers.

The client of huggingface_hub names files of its cache by headers of the Hub's answers, and sends
the token wherever an answer points. A Hub that lies (a mirror, somebody in between on plain http)
could so write any file and collect tokens. The guard refuses such headers and keeps the token at
home, for every call of the client in this process, ours or not.

For our own calls it bounds the answers as well: their length, also unpacked, and their slowness.
It does not reach Xet, which does its own transfers: it is left on for https://huggingface.co only.
"""

from __future__ import annotations

import math
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from local_pipelines.errors import LocalPipelinesError, failure
from local_pipelines.wording.messages import tr

_TAG = r"\w[\w.-]{0,127}"
_TAG_HEADER = re.compile(rf'W/"{_TAG}"|"{_TAG}"|{_TAG}', re.ASCII)
_FORMS = {
    "X-Repo-Commit": re.compile("[0-9a-f]{40}"),
    "X-Linked-ETag": _TAG_HEADER,
    "ETag": _TAG_HEADER,
}
_DEFAULT_HUB = ("https", "huggingface.co", None)
_MOST_REDIRECTS = 10  # relative ones in a row, which the client follows without end
_LONGEST_ANSWER = 20_000_000  # bytes; the longest lists of files take one or two million
_LONGEST_REFUSAL = 1_000_000  # bytes of an answer that is an error or a redirect
_LEAST = 1_000_000  # bytes in the time of a standstill; 8 kB a second
_PIECE = 1 << 20  # bytes that are unpacked at a time
_RUSH = {408, 429, 500, 502, 503, 504}  # what the client would wait and try again for


class StandstillError(TimeoutError):
    """Less than a megabyte of an answer came in the time that was given."""


@dataclass
class HubCall:
    """The bounds of one call of ours to the client, in force in a `with` block."""

    longest: int = _LONGEST_ANSWER  # bytes that one answer may have, unpacked
    standstill: float = math.inf  # seconds in which a megabyte has to come
    over: bool = False  # nobody waits any more: what is still running stops at its next step
    _before: Token[HubCall | None] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        install_guard()
        self._before = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            _current.reset(self._before)

    def check_wanted(self) -> None:
        """Stop a call that nobody waits for."""
        if self.over:
            raise TimeoutError("nobody waits for this answer any more")


_current: ContextVar[HubCall | None] = ContextVar("_current", default=None)
_redirects = threading.local()


def install_guard() -> None:
    """Put the guard on the client, if it is not there; a factory of your own is kept inside it."""
    from huggingface_hub.utils import _http

    # The client has a function to set a factory and none to ask for it.
    factory = _http._GLOBAL_CLIENT_FACTORY
    if not isinstance(factory, _Guarded):
        _http.set_client_factory(_Guarded(factory, _check_request, _check_answer))
    later = _http._GLOBAL_ASYNC_CLIENT_FACTORY
    if not isinstance(later, _Guarded):
        guarded = _Guarded(later, _check_request_later, _check_answer_later)
        _http.set_async_client_factory(guarded)


@dataclass(frozen=True)
class _Guarded:
    """A factory of clients with the guard on each."""

    make: Callable[[], Any]
    check_request: Callable[..., Any]
    check_answer: Callable[..., Any]

    def __call__(self) -> Any:
        client = self.make()
        hooks = client.event_hooks
        if self.check_request not in hooks["request"]:  # a factory may give the same one again
            client.event_hooks = {
                "request": [self.check_request, *hooks["request"]],
                "response": [self.check_answer, *hooks["response"]],
            }
        return client


# --- requests -----------------------------------------------------------------------------------


def _check_request(request: httpx.Request) -> None:
    if call := _current.get():
        call.check_wanted()
        if request.headers.get("Accept-Encoding") != "identity":
            request.headers["Accept-Encoding"] = "gzip"  # what is unpacked here
    if _is_hub_token(request.headers.get("Authorization", "")) and not _is_home(request.url):
        del request.headers["Authorization"]


async def _check_request_later(request: httpx.Request) -> None:
    _check_request(request)


def _is_hub_token(header: str) -> bool:
    """Tell the Hub's token from the key that another service was given on purpose."""
    from huggingface_hub import get_token

    return header.startswith("Bearer hf_") or (
        header.startswith("Bearer ") and header == f"Bearer {get_token()}"
    )


def _is_home(url: httpx.URL) -> bool:
    """Whether the token may go there: to the Hub itself, and to Hugging Face's other services."""
    family = (".huggingface.co", ".huggingface.cloud")
    return _origin(url) == _hub() or (
        url.scheme == "https" and url.port is None and f".{url.host}".endswith(family)
    )


def _hub() -> tuple[str, str, int | None]:
    from huggingface_hub import constants

    return _origin(httpx.URL(constants.ENDPOINT))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


# --- answers ------------------------------------------------------------------------------------


def _check_answer(response: httpx.Response) -> None:
    _check_headers(response)
    _check_redirects(response)
    if call := _current.get():
        call.check_wanted()
        response.stream = _Body(response, call)
        if response.status_code in _RUSH:  # here, so that the client does not sleep for minutes
            from huggingface_hub.utils import _http

            _http.hf_raise_for_status(response)


async def _check_answer_later(response: httpx.Response) -> None:
    _check_headers(response)


def _check_headers(response: httpx.Response) -> None:
    """Refuse what would name a file outside the cache; only answers with a commit name any."""
    if "X-Repo-Commit" in response.headers:
        for name, form in _FORMS.items():
            value = response.headers.get(name)
            if value is not None and not form.fullmatch(value):
                hint = tr("Its header {name} would name a file outside the cache.")
                raise _not_the_hub(response, hint.format(name=name))
    if _hub() != _DEFAULT_HUB:
        response.headers.pop("X-Xet-Hash", None)  # without it the client downloads as usual


def _check_redirects(response: httpx.Response) -> None:
    location = response.headers.get("Location")
    relative = response.is_redirect and location is not None and httpx.URL(location).host == ""
    _redirects.number = getattr(_redirects, "number", 0) + 1 if relative else 0
    if _redirects.number > _MOST_REDIRECTS:
        _redirects.number = 0
        raise _not_the_hub(response, tr("It sends the question in a circle, without end."))


def _not_the_hub(response: httpx.Response, hint: str) -> LocalPipelinesError:
    return failure("not-the-hub", hint, host=response.request.url.host)


class _Body(httpx.SyncByteStream):
    """The body of an answer to a call of ours, unpacked, and stopped beyond the call's bounds."""

    def __init__(self, response: httpx.Response, call: HubCall) -> None:
        self._stream: Any = response.stream
        self._call = call
        self._response = response
        self._longest = call.longest if response.is_success else _LONGEST_REFUSAL
        self._inflate = None
        packed = response.headers.get("Content-Encoding", "identity")
        if packed == "gzip":
            self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)
            for name in ("Content-Encoding", "Content-Length"):  # they are about the packed body
                response.headers.pop(name, None)
        elif packed != "identity":
            hint = tr("Its answer is packed in a way that was not asked for.")
            raise _not_the_hub(response, hint)

    def __iter__(self) -> Iterator[bytes]:
        size, counted, since = 0, 0, time.monotonic()
        for piece in self._stream:
            for part in self._unpacked(piece):
                size += len(part)
                if size > self._longest:
                    hint = tr("Its answer goes on after its end.")
                    raise _not_the_hub(self._response, hint)
                yield part
            self._call.check_wanted()
            if size - counted >= _LEAST:
                counted, since = size, time.monotonic()
            elif time.monotonic() - since > self._call.standstill:
                raise StandstillError

    def _unpacked(self, piece: bytes) -> Iterator[bytes]:
        """Unpack it here: the client would unpack a bomb before it counts."""
        if self._inflate is None:
            yield piece
            return
        while piece:
            yield self._inflate.decompress(piece, _PIECE)
            piece = self._inflate.unconsumed_tail

    def close(self) -> None:
        self._stream.close()
