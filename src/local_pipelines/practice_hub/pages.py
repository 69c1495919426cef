"""The pages of the practice Hub: plain HTML with a form, no scripts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from local_pipelines.practice_hub.accounts import Account
from local_pipelines.practice_hub.repositories import Repository

__all__ = ["front", "model", "tokens"]

_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;"
    "margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
    "th,td{text-align:left;padding:.2rem 1rem .2rem 0}button{font:inherit;padding:.4rem 1rem}"
)


def front(repositories: Iterable[Repository]) -> str:
    """The list of models."""
    rows = "".join(
        f'<tr><td><a href="/{escape(r.id)}">{escape(r.id)}</a></td>'
        f"<td>{'gated' if r.gated else ''}</td></tr>"
        for r in repositories
        if not r.private
    )
    return _page(
        "Practice Hub",
        "<p>This Hub runs on your machine. Its models have the names of real ones and random"
        ' weights.</p><p><a href="/settings/tokens">Access tokens</a></p>'
        f"<table><thead><tr><th>model</th><th>access</th></tr></thead><tbody>{rows}</tbody>"
        "</table>",
    )


def tokens(accounts: Iterable[Account]) -> str:
    """The page on which a learner gets a token."""
    rows = "".join(
        f"<tr><td>{escape(a.name)}</td><td><code>{escape(a.token)}</code></td></tr>"
        for a in accounts
    )
    return _page(
        "Access tokens",
        "<p>On the real Hub you make a token here and see it once. These are for practice: they"
        " open nothing anywhere else.</p>"
        f"<table><thead><tr><th>account</th><th>token</th></tr></thead><tbody>{rows}</tbody>"
        "</table>",
    )


def model(repository: Repository, accounts: Iterable[Account], viewer: Account | None) -> str:
    """A model's page, with the button that accepts its licence."""
    files = "".join(f"<li>{escape(path)}</li>" for path in repository.files)
    gate = _gate(repository, accounts, viewer) if repository.gated else ""
    return _page(
        repository.id,
        f"<p>Licence: {escape(repository.licence)}</p>{gate}<h2>Files</h2><ul>{files}</ul>",
    )


def _gate(repository: Repository, accounts: Iterable[Account], viewer: Account | None) -> str:
    standings = {
        "accepted": "has accepted the licence and may read the files",
        "not_accepted": "has not accepted the licence yet",
        "pending": "has asked and waits for the owners' answer",
        "rejected": "has asked and was refused by the owners",
    }
    said = ""
    if viewer:
        standing = standings[viewer.standing(repository.id)]
        said = f'<p role="status">The account <b>{escape(viewer.name)}</b> {standing}.</p>'
    options = "".join(
        f"<option{' selected' if a is viewer else ''}>{escape(a.name)}</option>" for a in accounts
    )
    return (
        "<h2>This is a gated model</h2><p>Its owners ask you to accept their licence before you"
        f' read the files.</p>{said}<form method="post" action="/{escape(repository.id)}/accept">'
        f'<label>Account <select name="account">{options}</select></label> '
        '<button type="submit">Agree and access repository</button></form>'
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f'<body><nav><a href="/">Practice Hub</a></nav><main><h1>{escape(title)}</h1>{body}'
        "</main></body></html>"
    )
