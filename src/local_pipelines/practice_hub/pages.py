"""The pages of the practice Hub: what pages.html is filled with."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_pipelines.practice_hub.accounts import Account
from local_pipelines.practice_hub.repositories import Repository
from local_pipelines.wording.messages import language, tr

if TYPE_CHECKING:
    from jinja2 import Template


def front(repositories: Iterable[Repository]) -> str:
    """The list of models."""
    return _page("Practice Hub", repositories=repositories)


def tokens(accounts: Iterable[Account]) -> str:
    """The page on which a learner gets a token."""
    return _page(tr("Access tokens"), accounts=accounts)


def model(repository: Repository, accounts: Iterable[Account], viewer: Account | None) -> str:
    """A model's page, with the button that accepts its licence."""
    standings = {
        "accepted": tr("The account {name} has accepted the licence and may read the files."),
        "not_accepted": tr("The account {name} has not accepted the licence yet."),
        "pending": tr("The account {name} has asked and waits for the owners' answer."),
        "rejected": tr("The account {name} has asked and was refused by the owners."),
    }
    words = {"accounts": accounts, "viewer": viewer, "standings": standings}
    return _page(repository.id, repository=repository, **words)


def _page(title: str, **words: Any) -> str:
    shown = language().replace("_", "-")
    return _template().render(title=title, language=shown, tr=tr, **words)


@cache
def _template() -> Template:
    from jinja2 import Environment

    text = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
