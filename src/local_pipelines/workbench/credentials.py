"""Finds a Hugging Face token, puts it where the client reads it, and never shows it.

Nothing here imports `huggingface_hub` before a token is in place: importing it freezes `HF_HOME`.
"""

from __future__ import annotations

import os
import string
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

from local_pipelines.errors import failure
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.cache_folder import cache_home
from local_pipelines.workbench.front_end import running_kernel
from local_pipelines.workbench.patience import within
from local_pipelines.workbench.settings import (
    expanded_path,
    find_env_file,
    hub_is_offline,
    set_variable,
)

TOKEN_PAGE = "https://huggingface.co/settings/tokens"  # noqa: S105 - an address, no secret
WHOAMI_SECONDS = 10.0

# What comes along when a token is copied from a page, a chat or a Windows text file.
_WRAPPING = string.whitespace + "\ufeff\u200b\u00a0\"'`“”‘’"


@dataclass(frozen=True)
class Token:
    """A token that was found; printing, logging or pickling it does not give it away."""

    source: str  # the variable's name, `token file`, `Colab secret` or `prompt`
    # A function, not a string: `vars()`, `asdict()` and a debugger's variable list show no secret.
    reveal: Callable[[], str] = field(repr=False, compare=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError(tr("A token is not written to a file and not sent to another process."))


@dataclass(frozen=True)
class Account:
    """Who the Hub takes us for."""

    name: str | None  # None where the Hub was not asked or did not answer
    source: str  # where the token was found
    note: str = ""  # why there is no name

    def __repr__(self) -> str:
        if self.name:
            return tr("Logged in as {name}; the token is from: {source}.").format(
                name=self.name, source=self.source
            )
        where = tr("A token is in place, from: {source}.").format(source=self.source)
        return paragraph(where, self.note)


def clean_token(raw: str, source: str) -> str | None:
    """Take off what was copied along with a token, and refuse what cannot be one.

    A token goes into an HTTP header: a line break in it would make the client fail with an error
    that prints the token.

    Returns:
        The token, or `None` when nothing is left.

    Raises:
        CredentialError: A character cannot be in a token; the sentence names the `source` and
            says where, never what the token is.
    """
    token = raw.strip(_WRAPPING)
    for position, character in enumerate(token, start=1):
        if fault := _invalid_character(character):
            length = len(token)
            del raw, token  # some show the variables of a traceback
            raise failure(
                "no-token-form",
                source=source,
                position=position,
                length=length,
                fault=fault,
                token_page=TOKEN_PAGE,
            )
    return token or None


def _invalid_character(character: str) -> str:
    if character.isspace():
        return tr("white space")
    if not character.isascii():
        return tr("outside ASCII")
    return "" if character.isprintable() else tr("a control character")


def find_token() -> Token | None:
    """Find the token that the Hub's client would use, in the client's own order.

    The order is that of `huggingface_hub.get_token`: the variables `HF_TOKEN` and
    `HUGGING_FACE_HUB_TOKEN`, the token file (`HF_TOKEN_PATH`, else `HF_HOME/token`), Colab's
    secret `HF_TOKEN`. Its tokens for publishing from CI are left to the client.

    Returns:
        The token with its source, or `None`.

    Raises:
        CredentialError: If what was found cannot be a token, or the token file cannot be read.
    """
    return _token_in(_places())


def place_token() -> None:
    """Make the Hub's client use the very token that `find_token` finds.

    The client sends a token with the quotation marks that came along when it was copied; so where
    the two differ, the clean one goes into `HF_TOKEN`, where the client looks first.

    Raises:
        CredentialError: As `find_token`: in a header it would be printed by the client's error.
    """
    from huggingface_hub import get_token

    token = find_token()
    if token is not None and get_token() != token.reveal():
        set_variable("HF_TOKEN", token.reveal())


def _places(*, to_log_in: bool = False) -> Iterator[tuple[str, Callable[[], str]]]:
    """Where a token may be, and how it is read; no variable holds what is there."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        yield name, partial(_variable, name)
    if to_log_in:
        yield ".env", _read_env_file
    yield tr("token file"), _read_token_file
    yield tr("Colab secret"), _read_colab_secret
    if to_log_in:
        yield tr("prompt"), _typed_token


def _variable(name: str) -> str:
    return os.environ.get(name, "")


def _token_in(places: Iterator[tuple[str, Callable[[], str]]]) -> Token | None:
    for source, read in places:
        if secret := clean_token(read(), source):
            return Token(source, _hidden(secret))
    return None


def _hidden(secret: str) -> Callable[[], str]:
    return lambda: secret


def _token_file() -> Path:
    """Say where the client keeps its token (`huggingface_hub.constants.HF_TOKEN_PATH`)."""
    if client := sys.modules.get("huggingface_hub.constants"):
        return Path(client.HF_TOKEN_PATH)  # whatever the variables have become since
    if path := os.environ.get("HF_TOKEN_PATH"):
        return expanded_path(path)
    return cache_home() / "token"


def _read_token_file() -> str:
    try:
        return _token_file().read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else tr("it is not UTF-8 text")
    # Raised outside the handler: a decoding error carries the file's content along.
    raise failure("token-file-unreadable", reason=reason)


def _read_colab_secret() -> str:
    if "google.colab" not in sys.modules or os.environ.get("VERTEX_PRODUCT") == "COLAB_ENTERPRISE":
        return ""
    try:
        from google.colab import userdata

        return userdata.get("HF_TOKEN") or ""
    except Exception:  # noqa: BLE001 - no such secret, access not granted, time-out: there is none
        return ""


def _read_env_file() -> str:
    """Read the token of the nearest `.env`, for who logs in before `setup_environment()`."""
    import dotenv

    try:
        path = find_env_file()
        return (dotenv.dotenv_values(path).get("HF_TOKEN") or "") if path else ""
    except (OSError, UnicodeDecodeError):
        return ""  # setup_environment() says what is wrong with the file


def login(store: bool = False) -> Account | None:
    """Put a token into `HF_TOKEN`, where every library looks; ask for it if a person is there.

    Looked at in turn: the environment, the nearest `.env`, the stored token, Colab's secret, and
    at last a prompt that hides what is typed.

    Only the environment of this process is changed: a token given to a model's constructor would
    show up in `print(llm)` and in traces.

    Args:
        store: Also write the token to the client's token file, readable by you alone, so that the
            next session finds it.

    Returns:
        The account, or `None` when the prompt was left empty.

    Raises:
        CredentialError: If there is no token and nobody to ask, if the text found cannot be a
            token, if the Hub refuses it, or if it cannot be stored.
    """
    token = _token_in(_places(to_log_in=True))
    if token is None:
        return None
    account = _account(token)
    os.environ["HF_TOKEN"] = token.reveal()
    if store:
        _write_token_file(token)
    return account


def _typed_token() -> str:
    if not somebody_is_there():
        raise failure("no-token-at-all", token_page=TOKEN_PAGE)
    import getpass

    try:
        return getpass.getpass(tr("Hugging Face token (hidden): "))
    except EOFError:
        return ""


def somebody_is_there() -> bool:
    """Say whether a hidden prompt can be answered: never under papermill, nbconvert or in CI."""
    if kernel := running_kernel():
        # Set anew for each cell, from what the front end says it can do.
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stdin is not None and sys.stdin.isatty()


def _account(token: Token) -> Account:
    if hub_is_offline():
        note = tr("Offline mode is on, so the Hub was not asked whose it is.")
        return Account(None, token.source, note)

    def put_question() -> str:
        import huggingface_hub

        return str(huggingface_hub.whoami(token=token.reveal())["name"])

    try:  # the client's own `whoami` waits without end for a Hub that hangs
        return Account(within(WHOAMI_SECONDS, put_question), token.source)
    except Exception as error:  # noqa: BLE001 - its text may hold the token: it ends here
        status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        raise failure("found-token-refused", source=token.source, token_page=TOKEN_PAGE)
    return Account(None, token.source, tr("The Hub did not say whose it is."))


def _write_token_file(token: Token) -> None:
    path = _token_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes a file that only its owner can read; renaming it keeps that, and a reader
        # sees the old token or the new one, never half of it.
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".token")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(token.reveal())
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise failure("token-not-stored", strerror=error.strerror) from None
