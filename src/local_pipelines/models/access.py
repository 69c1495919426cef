"""May this account read that model? One small question to the Hub, in bounded time.

`README.md`, the list of files and `model_info` are public on gated models: only a file proves
anything. The Hub answers for `config.json` whether it would send it.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from local_pipelines.errors import (
    AccessError,
    CredentialError,
    LocalPipelinesError,
    ModelError,
    OfflineError,
    State,
)
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.workbench import patience
from local_pipelines.workbench.addresses import shown_address, shown_host
from local_pipelines.workbench.credentials import place_token

Result = TypeVar("Result")

PATIENCE = 10.0  # seconds for one question, name look-up and slow answers included
PAUSES = (1.0, 2.0)  # seconds before the second and the third try
_NO_NETWORK = {errno.EADDRNOTAVAIL, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
# What the client raises where an answer is no JSON, or not of the form that it expects.
_NOT_JSON = ValueError | TypeError | KeyError | AttributeError | RecursionError
_LONGEST_WAIT = 10  # seconds that a busy Hub may ask for; a longer wait is the learner's to decide


def check_access(model_id: str, *, revision: str | None = None) -> str:
    """Ask the Hub whether it would send a model's `config.json`; give the revision's commit.

    Raises:
        LocalPipelinesError: It would not, or there is no way to it: a sentence for each reason.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    def look() -> str | None:
        url = hf_hub_url(model_id, "config.json", revision=revision)
        commit: str | None = get_hf_file_metadata(url, timeout=PATIENCE).commit_hash
        return commit

    place_token()  # refuses one that the client would print when it finds that it cannot send it
    if commit := call_hub(model_id, look):
        return commit
    raise _log_in_page()


def call_hub(model_id: str, question: Callable[[], Result]) -> Result:
    """Put a question about a model to the Hub, again if its fault may pass."""
    return try_again(
        lambda: within(PATIENCE, question),
        pauses=PAUSES,
        explain=lambda error: explain_refusal(model_id, error),
    )


def try_again(
    call: Callable[[], Result],
    *,
    pauses: Sequence[float],
    explain: Callable[[Exception], LocalPipelinesError],
) -> Result:
    """Call something, and again after each pause, or a longer one that a busy Hub asks for."""
    for pause in (*pauses, None):
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - all the client's errors, of several libraries
            refusal = explain(error)
            wait = _seconds_asked_for(error) or 0
            if pause is None or not is_passing(error) or wait > _LONGEST_WAIT:
                break
        time.sleep(max(pause, wait))
    # Outside the handler and without a past: the client's frames hold the header with the token.
    refusal.__cause__ = refusal.__context__ = None
    raise refusal.with_traceback(None)


def within(seconds: float, question: Callable[[], Result]) -> Result:
    """Call something and wait for it in bounded time, or raise TimeoutError.

    The client's own time limit leaves out the look-up of the host's name and starts anew with
    every byte, so the question is asked in a thread. It is left behind if it takes too long, and
    ends at its next request, answer or piece of an answer.
    """
    from local_pipelines.models.client_guard import HubCall

    call = HubCall()

    def guarded() -> Result:
        with call:
            return question()

    try:
        return patience.within(seconds, guarded)
    finally:
        call.over = True


def is_passing(error: Exception) -> bool:
    """Whether a request that failed is worth a second try: no refusal, and no silence."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = _status(error)
    if status is not None:
        return status in {408, 416, 429} or status >= 500
    if isinstance(error, OfflineModeIsEnabled | TimeoutError | LocalPipelinesError | _NOT_JSON):
        return False
    # httpx and requests have time-outs of their own.
    return not is_local_fault(error) and "Timeout" not in type(error).__name__


def is_local_fault(error: Exception) -> bool:
    """Say whether it is this machine that refuses to keep what came, not the connection."""
    if not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError):
        return False
    # Look-ups of names have negative numbers; the client's own errors have none.
    return (error.errno or 0) > 0 and error.errno not in _NO_NETWORK


def explain_refusal(model_id: str, error: Exception) -> LocalPipelinesError:
    """Say in a sentence what the Hub, or its absence, means by an error."""
    if isinstance(error, LocalPipelinesError):
        return error
    status = _status(error)
    if status is None:
        refusal = _explain_silence(model_id, error)
    else:
        refusal = _explain_status(model_id, status, error)
    refusal.model_id, refusal.status = model_id, status
    return refusal


def _explain_silence(model_id: str, error: Exception) -> LocalPipelinesError:
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        step = tr(
            "Set HF_HUB_OFFLINE=0, restart the kernel and run the cells again with a connection."
        )
        return OfflineError(
            tr("{model_id} is not on this machine, or only in part.").format(model_id=model_id),
            tr("HF_HUB_OFFLINE forbids downloads."),
            step,
        )
    if isinstance(error, HFValidationError):
        return ModelError(
            tr("{model_id!r} cannot be an id of the Hub.").format(model_id=model_id),
            next_step=tr("Write it as owner/name."),
        )
    if isinstance(error, _NOT_JSON):
        return _log_in_page()
    return OfflineError(
        tr(
            "{model_id} is not on this machine, or only in part, and the Hub ({host}) cannot"
            " be reached."
        ).format(model_id=model_id, host=host()),
        tr("There is no connection, or the Hub does not answer in time."),
        tr(
            'Connect to the internet and run the cell again, or write MODEL_ID = "pocket",'
            " which needs no download."
        ),
    )


def _log_in_page() -> OfflineError:
    return OfflineError(
        tr("Something else answered in the Hub's place ({host}).").format(host=host()),
        tr("A Wi-Fi log-in page or a proxy does that."),
        tr("Open any page in your browser, log in to the network, and run the cell again."),
    )


def _explain_status(model_id: str, status: int, error: Exception) -> LocalPipelinesError:
    code = _header(error, "X-Error-Code")
    if status == 401:
        return _explain_401(model_id, code)
    if status == 403:
        return _explain_403(model_id, code, _header(error, "X-Error-Message").lower())
    if status == 404:
        return _explain_404(model_id, code)
    if status == 429:
        seconds = _seconds_asked_for(error)
        step = tr("Wait {seconds} seconds, run `login()`, and try again.").format(seconds=seconds)
        return OfflineError(
            tr("The Hub asks you to wait: too many requests came from you or your network."),
            tr("Without a token the limit is low, and a classroom shares one address."),
            step if seconds else tr("Wait a few minutes, run `login()`, and try again."),
        )
    return OfflineError(
        tr(
            "The Hub ({host}) has a fault and did not answer for {model_id} (status {status})."
        ).format(host=host(), model_id=model_id, status=status),
        tr("That is not your doing and mostly passes within minutes."),
        tr("Run the cell again later; what is downloaded already stays."),
    )


def _explain_401(model_id: str, code: str) -> LocalPipelinesError:
    from huggingface_hub import get_token

    if get_token() is not None:
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
            state="scope",
        )
    if "awaiting" in message or "pending" in message:
        state: State = "pending"
        fact = tr("Your request to read {model_id} waits for its owners' answer.")
        cause = tr("They decide by hand, which may take days.")
        step = tr("Its state is shown at {page}; until then take another model.")
    elif "rejected" in message:
        state = "rejected"
        fact = tr("The owners of {model_id} have refused your request to read it.")
        cause = tr("They need not say why.")
        step = tr("Take another model; {page} says whom to ask.")
    else:
        state = "not accepted"
        fact = tr("You are logged in, and the licence of {model_id} is not accepted yet.")
        cause = tr("A token alone does not open a gated model.")
        step = tr(
            "Open {page}, accept the licence with the account that the token is of, and run the"
            " cell again."
        )
    fact, step = fact.format(model_id=model_id), step.format(page=_page(model_id))
    return AccessError(fact, cause, step, state=state)


def _explain_404(model_id: str, code: str) -> LocalPipelinesError:
    if code == "RevisionNotFound":
        return no_such_revision(model_id)
    if code == "EntryNotFound":
        return ModelError(
            tr("{model_id} lacks a file that every model has.").format(model_id=model_id),
            tr("It is no model for transformers, perhaps a GGUF file or an adapter."),
            tr("See what it is at {page}.").format(page=_page(model_id)),
        )
    return _no_such_model(model_id, tr("If it is private, your account is not among its members."))


def no_such_revision(model_id: str) -> ModelError:
    """Make the error for a branch, tag or commit that a model does not have."""
    return ModelError(
        tr("{model_id} has no such revision.").format(model_id=model_id),
        tr("It was renamed or deleted, or is misspelt."),
        tr("{page}/commits lists them; without revision=… the newest is taken.").format(
            page=_page(model_id)
        ),
    )


def _no_such_model(model_id: str, private: str) -> ModelError:
    return ModelError(
        tr("The Hub has no model {model_id} that you may see.").format(model_id=model_id),
        paragraph(tr("The id is misspelt, or the model was removed."), private),
        tr("Look for it at {endpoint}/models.").format(endpoint=_endpoint()),
    )


def _endpoint() -> str:
    from huggingface_hub import constants

    return shown_address(constants.ENDPOINT)


def host() -> str:
    """The Hub's host, as it may be shown."""
    return shown_host(_endpoint())


def _page(model_id: str) -> str:
    return f"{_endpoint()}/{model_id}"


def _answer_behind(error: BaseException | None) -> Any:
    """The Hub's answer behind an error; the client often wraps the error that has it."""
    while error is not None and getattr(error, "response", None) is None:
        error = error.__cause__
    return getattr(error, "response", None)


def _status(error: Exception) -> int | None:
    answer = _answer_behind(error)
    return None if answer is None else int(answer.status_code)


def _header(error: Exception, name: str) -> str:
    answer = _answer_behind(error)
    return "" if answer is None else str(answer.headers.get(name) or "")


def _seconds_asked_for(error: Exception) -> int | None:
    """How long a busy Hub asks to wait: `RateLimit: "resolvers";r=0;t=55`."""
    found = re.search(r"\bt\s*=\s*(\d{1,9})", _header(error, "RateLimit"))
    return int(found[1]) + 1 if found else None
