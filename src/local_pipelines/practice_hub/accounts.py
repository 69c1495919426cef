"""Who asks, and what the practice Hub lets them see: the gate, as the real Hub answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from local_pipelines.practice_hub.faults import Reply
from local_pipelines.practice_hub.repositories import PUBLIC_FILES, Repository

BOGUS_TOKEN = "hf_practice_bogus"  # noqa: S105 - belongs to nobody, on purpose


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


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer that lets nobody in.

    Args:
        status: Its status.
        message: What it says, in a header and as JSON.
        code: By which the client tells one refusal from another.
        headers: More of its headers.
    """

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        code: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        told = {"X-Error-Code": code} if code else {}
        told |= {"X-Error-Message": message, "Content-Type": "application/json"}
        body = json.dumps({"error": message}).encode()
        self.reply = Reply(status, {**(headers or {}), **told}, body)


def check_gate(
    repository: Repository | None, account: Account | None, path: str | None
) -> Repository:
    """Give the repository that a request is about, or raise the Refusal.

    Nobody is logged in where `account` is None; `path` is None for what is always public.
    """
    hidden = repository is None or repository.private
    if repository is None or (hidden and not (account and account.reads_private)):
        status = HTTPStatus.NOT_FOUND if account else HTTPStatus.UNAUTHORIZED
        raise Refusal(status, "Repository not found", "RepoNotFound")
    if repository.gated and path is not None and path not in PUBLIC_FILES:
        _check_standing(repository.id, account)
    return repository


def _check_standing(model_id: str, account: Account | None) -> None:
    restricted = f"Access to model {model_id} is restricted"
    if account is None:
        raise Refusal(
            HTTPStatus.UNAUTHORIZED,
            f"{restricted}. You must have access to it and be authenticated to access it."
            " Please log in.",
            "GatedRepo",
        )
    if not account.reads_gated:
        raise Refusal(
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
    if message := messages.get(account.standing(model_id)):
        raise Refusal(HTTPStatus.FORBIDDEN, message, "GatedRepo")
