"""The Hub's protocol: from a request to an answer, without a socket in sight.

Checked against what huggingface_hub 1.21 asks and reads; see the tests in tests/practice_hub.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, quote, unquote

from local_pipelines.practice_hub import pages
from local_pipelines.practice_hub.accounts import Account, Refusal, check_gate
from local_pipelines.practice_hub.faults import Reply
from local_pipelines.practice_hub.repositories import ALIASES, File, Repository

_MODEL = r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)"
_NAME = r"(?P<id>[^/]+/[^/]+)"
# The client compares this message word for word, to tell a bad token from a missing repository.
_BAD_TOKEN = Refusal(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")


@dataclass(frozen=True)
class Call:
    """A request as the routes see it."""

    method: str
    path: str  # without the query, not decoded
    query: Mapping[str, list[str]] = field(default_factory=dict)
    account: Account | None = None
    authorized: bool = False  # it came with an Authorization header
    span: str | None = None  # the Range header
    body: bytes = b""


@dataclass
class Hub:
    """The Hub's own port: metadata, small files, accounts and pages.

    Args:
        accounts: Everybody with a token, by name.
        repositories: All models, by id.
        address: Gives a large file's address on the file host.
    """

    accounts: dict[str, Account]
    repositories: dict[str, Repository]
    address: Callable[[Repository, File], str]

    def account_of(self, token: str) -> Account | None:
        """Whose token it is; None if nobody's."""
        return next((a for a in self.accounts.values() if a.token == token), None)

    def answer(self, call: Call) -> Reply:
        """Find the answer to a request."""
        if call.authorized and call.account is None:
            return _BAD_TOKEN.reply  # also for what everybody may read
        for pattern, method, route in self._routes():
            match = re.fullmatch(pattern, call.path)
            if match and method in {call.method, "GET" if call.method == "HEAD" else ""}:
                parts = {key: unquote(part or "") for key, part in match.groupdict().items()}
                moved = ALIASES.get(parts.get("id", ""))
                if moved:
                    return _redirect(call.path.replace(parts["id"], moved, 1))
                try:
                    return route(call, parts)
                except Refusal as refusal:
                    return refusal.reply
        return _not_found()

    def _routes(self) -> list[tuple[str, str, Callable[[Call, dict[str, str]], Reply]]]:
        pending = {"error": "authorization_pending"}
        file = r"(?P<revision>[^/]+)/(?P<path>.+)"
        return [
            (r"/(?:models)?", "GET", lambda *_: _html(pages.front(self.repositories.values()))),
            (r"/settings/tokens", "GET", lambda *_: _html(pages.tokens(self.accounts.values()))),
            (r"/api/whoami-v2", "GET", self._whoami),
            (r"/oauth/device", "POST", self._device_code),
            (r"/oauth/token", "POST", lambda *_: _json(pending, status=HTTPStatus.BAD_REQUEST)),
            (rf"/api/resolve-cache/models/{_NAME}/{file}", "GET", self._small_file),
            (rf"/(?P<id>[^/]+(?:/[^/]+)?)/resolve/{file}", "GET", self._resolve),
            (rf"{_MODEL}/auth-check", "GET", self._auth_check),
            (rf"{_MODEL}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", "GET", self._tree),
            (rf"{_MODEL}(?:/revision/(?P<revision>[^/]+))?", "GET", self._info),
            (rf"/{_NAME}", "GET", self._page),
            (rf"/{_NAME}/accept", "POST", self._accept),
        ]

    # --- files ---

    def _resolve(self, call: Call, parts: dict[str, str]) -> Reply:
        """A file's address: a large one lies on the file host, a small one here."""
        repository, file = self._file(call, parts)
        if not file.is_large:
            where = f"/api/resolve-cache/models/{repository.id}/{repository.commit}/"
            return _redirect(where + quote(file.path), _commit(repository))
        headers = {
            **_commit(repository),
            "Location": self.address(repository, file),
            "X-Linked-Size": str(len(file.data)),
            "X-Linked-Etag": f'"{file.etag}"',
        }
        return Reply(HTTPStatus.FOUND, headers)

    def _small_file(self, call: Call, parts: dict[str, str]) -> Reply:
        repository, file = self._file(call, parts)
        return _part(call, file, _commit(repository))

    def _file(self, call: Call, parts: dict[str, str]) -> tuple[Repository, File]:
        repository = self._repository(call, parts, parts["path"])
        file = repository.files.get(parts["path"])
        if file is None:
            raise _no_entry(repository)
        return repository, file

    def _repository(self, call: Call, parts: dict[str, str], path: str | None) -> Repository:
        repository = check_gate(self.repositories.get(parts["id"]), call.account, path)
        revision = parts.get("revision") or "main"
        if revision not in {"main", repository.commit}:
            said = f"Invalid rev id: {revision}"
            raise Refusal(HTTPStatus.NOT_FOUND, said, "RevisionNotFound")
        return repository

    # --- metadata ---

    def _info(self, call: Call, parts: dict[str, str]) -> Reply:
        found = self._repository(call, parts, None)
        return _json(found.info(blobs="blobs" in call.query), _commit(found))

    def _tree(self, call: Call, parts: dict[str, str]) -> Reply:
        found = self._repository(call, parts, None)
        entries = found.tree(parts["folder"].strip("/"))
        if not entries:
            raise _no_entry(found)
        return _json(entries, _commit(found))

    def _auth_check(self, call: Call, parts: dict[str, str]) -> Reply:
        self._repository(call, parts, "config.json")
        return _json({})

    # --- accounts ---

    def _whoami(self, call: Call, parts: dict[str, str]) -> Reply:
        if call.account is None:
            return _BAD_TOKEN.reply
        role = "read" if call.account.reads_gated else "fineGrained"
        access = {"displayName": "practice", "role": role}
        auth = {"type": "access_token", "accessToken": access}
        return _json(
            {"type": "user", "id": "0", "name": call.account.name, "orgs": [], "auth": auth}
        )

    def _device_code(self, call: Call, parts: dict[str, str]) -> Reply:
        code = {"device_code": secrets.token_hex(8), "user_code": "PRACTICE"}
        where = {"verification_uri": "/settings/tokens", "expires_in": 900, "interval": 5}
        return _json(code | where)

    # --- pages ---

    def _page(self, call: Call, parts: dict[str, str]) -> Reply:
        repository = self.repositories.get(parts["id"])
        if repository is None or repository.private:
            return _not_found()
        name = call.query.get("account", ["not_accepted"])[0]
        return _html(pages.model(repository, self.accounts.values(), self.accounts.get(name)))

    def _accept(self, call: Call, parts: dict[str, str]) -> Reply:
        repository = self.repositories.get(parts["id"])
        form = parse_qs(call.body.decode(errors="replace"))
        account = self.accounts.get(form.get("account", [""])[0])
        if repository is None or not repository.gated or account is None:
            return _not_found()
        account.accept(repository.id)
        where = f"/{repository.id}?account={account.name}"
        return Reply(HTTPStatus.SEE_OTHER, {"Location": where})


@dataclass
class FileHost:
    """The second port: large files by addresses that only the Hub gives out.

    Args:
        repositories: All models, by id.
        secret: A word in every address; without it nothing is found.
    """

    repositories: dict[str, Repository]
    secret: str = field(default_factory=lambda: secrets.token_hex(8))

    def path(self, repository: Repository, file: File) -> str:
        """Where a file lies. The name at the end is for readers of the log."""
        return f"/{self.secret}/{repository.id}/{file.sha256}/{quote(file.path)}"

    def answer(self, call: Call) -> Reply:
        """Find the answer to a request."""
        if call.authorized:  # as object stores do: the address is the permission
            return Reply(HTTPStatus.BAD_REQUEST, {}, b"Only one way to authorize is allowed.")
        for repository in self.repositories.values():
            for file in repository.files.values():
                if file.is_large and call.path == self.path(repository, file):
                    return _part(call, file, {})
        return Reply(HTTPStatus.FORBIDDEN, {}, b"No such address.")


def _part(call: Call, file: File, headers: Mapping[str, str]) -> Reply:
    """A file, or the part of it that was asked for."""
    headers = {
        **headers,
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    asked = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{0,18})", call.span or "")
    if asked is None or int(asked[2] or asked[1]) < int(asked[1]):
        return Reply(HTTPStatus.OK, headers, file.data)
    size = len(file.data)
    start, end = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
    if start >= size:
        headers["Content-Range"] = f"bytes */{size}"
        return Reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Reply(HTTPStatus.PARTIAL_CONTENT, headers, file.data[start : end + 1])


def _commit(repository: Repository) -> dict[str, str]:
    return {"X-Repo-Commit": repository.commit}


def _no_entry(repository: Repository) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "Entry not found", "EntryNotFound", _commit(repository))


def _not_found() -> Reply:
    return Reply(HTTPStatus.NOT_FOUND, {"Content-Type": "text/plain"}, b"Nothing is here.")


def _redirect(path: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(HTTPStatus.TEMPORARY_REDIRECT, {**(headers or {}), "Location": path})


def _json(
    value: object, headers: Mapping[str, str] | None = None, status: HTTPStatus = HTTPStatus.OK
) -> Reply:
    told = {**(headers or {}), "Content-Type": "application/json"}
    return Reply(status, told, json.dumps(value).encode())


def _html(text: str) -> Reply:
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        # No other page may show this one and have its button pressed.
        "X-Frame-Options": "DENY",
        "Content-Security-Policy": "frame-ancestors 'none'; script-src 'none'",
    }
    return Reply(HTTPStatus.OK, headers, text.encode())
