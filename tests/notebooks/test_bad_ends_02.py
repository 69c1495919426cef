"""Each row of lesson 2's "If it fails" is what really happens; so is what it says in passing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from bad_ends import rows, shows

from local_pipelines import PracticeHub, model_path

GATED = "meta-llama/Llama-3.2-1B-Instruct"
Provoke = Callable[[], object]


@pytest.fixture(autouse=True)
def hub() -> Iterator[PracticeHub]:
    """Practise, each time with an empty cache."""
    with PracticeHub() as practice:
        yield practice


def load(account: str = "", model: str = GATED) -> Provoke:
    """Load a tokenizer as somebody, with transformers alone."""

    def provoke() -> None:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(model, token=token_of(account))

    return provoke


def fetch(account: str, model: str = GATED) -> Provoke:
    """Fetch a file as somebody, with the Hub's client alone."""

    def provoke() -> None:
        from huggingface_hub import hf_hub_download

        hf_hub_download(model, "config.json", token=token_of(account))

    return provoke


def token_of(account: str) -> str | bool:
    """The practice token of an account; False is nobody."""
    return f"hf_practice_{account}" if account else False


PROVOKED = (
    load(),
    fetch("bogus"),
    fetch("not_accepted"),
    fetch("pending"),
    fetch("fine_grained"),
    fetch("accepted", "someone/no-such-model"),
    fetch("fine_grained"),
)


@pytest.mark.parametrize(("row", "provoke"), zip(rows("02"), PROVOKED, strict=True))
def test_row_is_what_happens(row: str, provoke: Provoke) -> None:
    """What a row quotes is in the error that the fault gives, or in the answer that caused it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the row says which
        provoke()
    message = " ".join(said_of(caught.value))
    for part in row.replace(", or `401`", "").split(", "):
        assert shows(part, message) or "`" not in part + '"', message


def said_of(error: BaseException | None) -> Iterator[str]:
    """What an error says, with its type, and what caused it."""
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__


def test_name_of_nobody_is_a_401(hub: PracticeHub) -> None:
    """Without a token, a model that is not there looks like one that wants a login."""
    with pytest.raises(Exception, match="401"):
        fetch("", "someone/no-such-model")()


def test_library_login_waits_for_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token, the client's login asks again and again until its code has run out."""
    from huggingface_hub import login
    from huggingface_hub.utils import _oauth_device

    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise TimeoutError

    monkeypatch.setattr(_oauth_device.time, "sleep", wait)
    with pytest.raises(TimeoutError):
        login()
    assert waited == [5, 5, 5]


def test_old_option_is_a_type_error() -> None:
    """load_in_4bit=True, given to from_pretrained itself, is refused today."""
    from transformers import AutoModelForCausalLM

    with pytest.raises(TypeError, match="load_in_4bit"):
        AutoModelForCausalLM.from_pretrained(model_path("pocket"), load_in_4bit=True)
