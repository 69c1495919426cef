"""May this account read that model? One small question to the Hub, in bounded time.

`README.md`, the list of files and `model_info` are public on gated models: only a file proves
anything. The Hub answers for `config.json` whether it would send it.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from local_pipelines._messages import tr
from local_pipelines.errors import (
    AccessError,
    CredentialError,
    LocalPipelinesError,
    ModelError,
    OfflineError,
    _paragraph,
)

__all__ = ["ask", "check_access", "explain_refusal", "is_passing", "within"]

Answer = TypeVar("Answer")

PATIENCE = 10.0  # seconds for one question, name look-up and slow answers included
PAUSES = (1.0, 2.0)  # seconds before the second and the third try
_LONGEST_WAIT = 10  # seconds that a busy Hub may ask for; a longer wait is the learner's to decide


def check_access(model_id: str, *, revision: str | None = None) -> str:
    """Ask the Hub whether it would send a model's `config.json`.

    Args:
        model_id: An id of the Hub.
        revision: A branch, tag or commit; the main branch if not given.

    Returns:
        The commit that the revision stands for.

    Raises:
        CredentialError: There is no token where one is needed, or not the right one.
        AccessError: The licence is not accepted, or the owners have not said yes.
        ModelError: The Hub has no such model, revision or file.
        OfflineError: There is no way to the Hub, or it has a fault.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    def look() -> str | None:
        url = hf_hub_url(model_id, "config.json", revision=revision)
        commit: str | None = get_hf_file_metadata(url, timeout=PATIENCE).commit_hash
        return commit

    _check_token()
    if commit := ask(model_id, look):
        return commit
    raise OfflineError(
        tr("Something else answered in the Hub's place ({host}).").format(host=_host()),
        tr("A Wi-Fi log-in page or a proxy does that."),
        tr("Open any page in your browser, log in to the network, and run the cell again."),
    )


def ask(model_id: str, question: Callable[[], Answer]) -> Answer:
    """Put a question about a model to the Hub, again if its fault may pass.

    Args:
        model_id: What it is about, for the error's sentence.
        question: A call of the client. It should have a time limit; the thread it runs in is
            left behind when it takes longer than `PATIENCE`.

    Returns:
        Its answer.

    Raises:
        LocalPipelinesError: It was refused, as in `check_access`.
    """
    for pause in (*PAUSES, None):
        try:
            return within(PATIENCE, question)
        except Exception as error:  # noqa: BLE001 - all the client's errors, of several libraries
            wait = _seconds_asked_for(error)
            if pause is None or not is_passing(error) or (wait or 0) > _LONGEST_WAIT:
                # Not chained: the client's error may hold the header with the token.
                raise explain_refusal(model_id, error) from None
            time.sleep(pause if wait is None else wait)
    raise AssertionError("unreachable")


def within(seconds: float, question: Callable[[], Answer]) -> Answer:
    """Call something and wait for it in bounded time.

    The client's own time limit leaves out the look-up of the host's name and starts anew with
    every byte, so the question is asked in a thread, which is left behind if it takes too long.

    Raises:
        TimeoutError: It takes longer.
    """
    answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((question(), None))
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    if error is not None:
        raise error
    return answer  # type: ignore[no-any-return] # it came out of `question`


def is_passing(error: Exception) -> bool:
    """Say whether a failed request is worth a second try.

    A lost connection and a fault or a rush at the Hub may pass. A refusal will not, nor will a
    Hub that was waited for in vain.
    """
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status in {408, 429} or status >= 500
    if isinstance(error, OfflineModeIsEnabled | TimeoutError | LocalPipelinesError | ValueError):
        return False
    return "Timeout" not in type(error).__name__  # httpx and requests have their own


def explain_refusal(model_id: str, error: Exception) -> LocalPipelinesError:
    """Say in a sentence what the Hub, or its absence, means by an error."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(error, LocalPipelinesError):
        return error
    if isinstance(error, OfflineModeIsEnabled):
        return OfflineError(
            tr("{model_id} is not on this machine, or only in part.").format(model_id=model_id),
            tr("HF_HUB_OFFLINE forbids downloads."),
            tr(
                "Set HF_HUB_OFFLINE=0, restart the kernel and run the cells again with a"
                " connection."
            ),
        )
    if isinstance(error, HFValidationError):
        return ModelError(
            tr("{model_id!r} cannot be an id of the Hub.").format(model_id=model_id),
            next_step=tr("Write it as owner/name."),
        )
    status = _status(error)
    if status is None:
        return OfflineError(
            tr(
                "{model_id} is not on this machine, or only in part, and the Hub ({host}) cannot"
                " be reached."
            ).format(model_id=model_id, host=_host()),
            tr("There is no connection, or the Hub does not answer in time."),
            tr(
                'Connect to the internet and run the cell again, or write MODEL_ID = "pocket",'
                " which needs no download."
            ),
        )
    return _explain_status(model_id, status, error)


def _explain_status(model_id: str, status: int, error: Exception) -> LocalPipelinesError:
    code = _header(error, "X-Error-Code")
    if status == 401:
        return _explain_401(model_id, code)
    if status == 403:
        return _explain_403(model_id, code, _header(error, "X-Error-Message").lower())
    if status == 404:
        return _explain_404(model_id, code)
    if status == 429:
        wait = _seconds_asked_for(error)
        return OfflineError(
            tr("The Hub asks you to wait: too many requests came from you or your network."),
            tr("Without a token the limit is low, and a classroom shares one address."),
            tr("Wait {seconds} seconds, run `login()`, and try again.").format(seconds=wait)
            if wait
            else tr("Wait a few minutes, run `login()`, and try again."),
        )
    return OfflineError(
        tr(
            "The Hub ({host}) has a fault and did not answer for {model_id} (status {status})."
        ).format(host=_host(), model_id=model_id, status=status),
        tr("That is not your doing and mostly passes within minutes."),
        tr("Run the cell again later; what is downloaded already stays."),
    )


def _explain_401(model_id: str, code: str) -> LocalPipelinesError:
    if _token() is not None:
        return CredentialError(
            tr("The Hub does not accept your token."),
            tr("It was revoked, has expired, or was not copied whole."),
            tr(
                "Make a new one at {endpoint}/settings/tokens and run `login()` with it, or set"
                " HF_TOKEN."
            ).format(endpoint=_endpoint()),
        )
    if code == "GatedRepo":
        return CredentialError(
            tr("{model_id} is gated, and you are not logged in.").format(model_id=model_id),
            tr("Its owners want to know who reads it."),
            tr(
                "Get a token at {endpoint}/settings/tokens, run `login()`, and accept the licence"
                " at {page}."
            ).format(endpoint=_endpoint(), page=_page(model_id)),
        )
    return _no_such_model(model_id, tr("If it is private, get a token and run `login()`."))


def _explain_403(model_id: str, code: str, message: str) -> LocalPipelinesError:
    if code != "GatedRepo":
        return CredentialError(
            tr("Your token may not read gated models."),
            tr("It is a fine-grained one without that permission."),
            tr(
                "Open {endpoint}/settings/tokens and allow it to read the public gated"
                " repositories that you have access to, or make one of the type Read."
            ).format(endpoint=_endpoint()),
        )
    if "awaiting" in message or "pending" in message:
        return AccessError(
            tr("Your request to read {model_id} waits for its owners' answer.").format(
                model_id=model_id
            ),
            tr("They decide by hand, which may take days."),
            tr("Its state is shown at {page}; until then take another model.").format(
                page=_page(model_id)
            ),
        )
    if "rejected" in message:
        return AccessError(
            tr("The owners of {model_id} have refused your request to read it.").format(
                model_id=model_id
            ),
            tr("They need not say why."),
            tr("Take another model; {page} says whom to ask.").format(page=_page(model_id)),
        )
    return AccessError(
        tr("You are logged in, and the licence of {model_id} is not accepted yet.").format(
            model_id=model_id
        ),
        tr("A token alone does not open a gated model."),
        tr(
            "Open {page}, accept the licence with the account that the token is of, and run the"
            " cell again."
        ).format(page=_page(model_id)),
    )


def _explain_404(model_id: str, code: str) -> LocalPipelinesError:
    if code == "RevisionNotFound":
        return ModelError(
            tr("{model_id} has no such revision.").format(model_id=model_id),
            tr("It was renamed or deleted, or is misspelt."),
            tr("{page}/commits lists them; without revision=… the newest is taken.").format(
                page=_page(model_id)
            ),
        )
    if code == "EntryNotFound":
        return ModelError(
            tr("{model_id} lacks a file that every model has.").format(model_id=model_id),
            tr("It is no model for transformers, perhaps a GGUF file or an adapter."),
            tr("See what it is at {page}.").format(page=_page(model_id)),
        )
    return _no_such_model(model_id, tr("If it is private, your account is not among its members."))


def _no_such_model(model_id: str, private: str) -> ModelError:
    return ModelError(
        tr("The Hub has no model {model_id} that you may see.").format(model_id=model_id),
        _paragraph(tr("The id is misspelt, or the model was removed."), private),
        tr("Look for it at {endpoint}/models.").format(endpoint=_endpoint()),
    )


def _check_token() -> None:
    """Refuse a token that cannot be one, and clean the one that the client is about to send."""
    from local_pipelines.credentials import place_token

    place_token()


def _token() -> str | None:
    from huggingface_hub import get_token

    token: str | None = get_token()
    return token


def _endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _host() -> str:
    return urlsplit(_endpoint()).netloc or _endpoint()


def _page(model_id: str) -> str:
    return f"{_endpoint()}/{model_id}"


def _answered(error: BaseException | None) -> Any:
    """The Hub's answer behind an error; the client often wraps the error that has it."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__
    return None


def _status(error: Exception) -> int | None:
    response = _answered(error)
    return None if response is None else int(response.status_code)


def _header(error: Exception, name: str) -> str:
    response = _answered(error)
    return "" if response is None else str(response.headers.get(name) or "")


def _seconds_asked_for(error: Exception) -> int | None:
    """How long a busy Hub asks to wait: `RateLimit: "resolvers";r=0;t=55`."""
    found = re.search(r"\bt\s*=\s*(\d+)", _header(error, "RateLimit"))
    return int(found[1]) + 1 if found else None
