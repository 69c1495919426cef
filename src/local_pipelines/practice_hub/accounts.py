"""Who asks, and what the practice Hub lets them see: the gate, as the real Hub answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from local_pipelines.practice_hub.repositories import PUBLIC_FILES, Repository

BOGUS_TOKEN = "hf_practice_bogus"  # noqa: S105 - belongs to nobody, on purpose
ACCOUNTS = ("accepted", "not_accepted", "pending", "rejected", "fine_grained")


@dataclass
class Account:
    """Somebody with a token."""

    name: str  # the key under which the Hub's `tokens` has it
    default: str = "not_accepted"  # what gated models say: or "accepted", "pending", "rejected"
    reads_gated: bool = True  # whether the token may read gated repositories at all
    reads_private: bool = False  # whether it owns the private repositories
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """The practice token that is this account's."""
        return f"hf_practice_{self.name}"

    @property
    def role(self) -> str:
        """What kind of token it is, as `whoami` tells it."""
        return "read" if self.reads_gated else "fineGrained"

    def standing(self, model_id: str) -> str:
        """What a gated model says to this account."""
        return self.answers.get(model_id, self.default)

    def accept(self, model_id: str) -> None:
        """Let this account read a gated model from now on."""
        self.answers[model_id] = "accepted"


def accounts() -> dict[str, Account]:
    """The accounts, fresh, by their names."""
    everyone = [
        Account("accepted", default="accepted", reads_private=True),
        Account("not_accepted"),
        Account("pending", default="pending"),
        Account("rejected", default="rejected"),
        Account("fine_grained", default="accepted", reads_gated=False),
    ]
    return {account.name: account for account in everyone}


@dataclass(frozen=True)
class Refusal:
    """An answer that lets nobody in: the status, the client's code for it and a message."""

    status: HTTPStatus
    message: str
    code: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers by which the client tells one refusal from another."""
        code = {"X-Error-Code": self.code} if self.code else {}
        return {**code, "X-Error-Message": self.message, "Content-Type": "application/json"}

    @property
    def body(self) -> bytes:
        """The message once more, as JSON."""
        return json.dumps({"error": self.message}).encode()


# The client compares this message word for word, to tell a bad token from a missing repository.
BAD_TOKEN = Refusal(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")


def refuse(
    repository: Repository | None, account: Account | None, path: str | None
) -> Refusal | None:
    """Say why a request is refused; None if it is not.

    Nobody is logged in where `account` is None; `path` is None for what is always public.
    """
    hidden = repository is None or repository.private
    if hidden and not (repository and account and account.reads_private):
        status = HTTPStatus.NOT_FOUND if account else HTTPStatus.UNAUTHORIZED
        return Refusal(status, "Repository not found", "RepoNotFound")
    if repository is None or not repository.gated or path is None or path in PUBLIC_FILES:
        return None
    return _gate(repository.id, account)


def _gate(model_id: str, account: Account | None) -> Refusal | None:
    restricted = f"Access to model {model_id} is restricted"
    if account is None:
        return Refusal(
            HTTPStatus.UNAUTHORIZED,
            f"{restricted}. You must have access to it and be authenticated to access it."
            " Please log in.",
            "GatedRepo",
        )
    if not account.reads_gated:
        return Refusal(
            HTTPStatus.FORBIDDEN,
            "Please enable access to public gated repositories in your fine-grained token settings"
            " to view this repository.",
        )
    messages = {
        "pending": f"Your request to access model {model_id} is awaiting a review from the repo"
        " authors.",
        "rejected": f"Your request to access model {model_id} has been rejected by the repo's"
        " authors.",
        "not_accepted": f"{restricted} and you are not in the authorized list. Visit the model's"
        " page to ask for access.",
    }
    message = messages.get(account.standing(model_id))
    return Refusal(HTTPStatus.FORBIDDEN, message, "GatedRepo") if message else None
