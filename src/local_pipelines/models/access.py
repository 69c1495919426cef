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

from local_pipelines.errors import LocalPipelinesError, failure
from local_pipelines.wording.sentences import tables
from local_pipelines.workbench import patience
from local_pipelines.workbench.addresses import shown_host
from local_pipelines.workbench.credentials import place_token
from local_pipelines.workbench.settings import hub_address

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
    raise failure("log-in-page", host=host())


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
    from huggingface_hub import get_token

    status, seconds = _status(error), _seconds_asked_for(error)
    if status is None:
        return _hub_failure(f"silence: {_kind_of_silence(error)}", **_words(model_id))
    code, said = _header(error, "X-Error-Code"), _header(error, "X-Error-Message").lower()
    token = "without a token" if get_token() is None else "with a token"
    line = f"{status} {code}, {token}: {said}; wait {seconds}"
    return _hub_failure(line, **_words(model_id), status=status, seconds=seconds)


def _kind_of_silence(error: Exception) -> str:
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "offline"
    if isinstance(error, HFValidationError):
        return "no id"
    return "no JSON" if isinstance(error, _NOT_JSON) else "no answer"


def _hub_failure(line: str, **words: Any) -> LocalPipelinesError:
    patterns = ((name, table["hub"]) for name, table in tables().items() if "hub" in table)
    return failure(next(name for name, hub in patterns if re.search(hub, line)), **words)


def no_such_revision(model_id: str) -> LocalPipelinesError:
    """Make the error for a branch, tag or commit that a model does not have."""
    return failure("no-revision", **_words(model_id))


def _words(model_id: str) -> dict[str, str]:
    hub = hub_address()
    return {"model_id": model_id, "host": host(), "endpoint": hub, "page": f"{hub}/{model_id}"}


def host() -> str:
    """The Hub's host, as it may be shown."""
    return shown_host(hub_address())


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
