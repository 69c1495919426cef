"""The pages of the practice Hub: plain HTML with a form, no scripts."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from local_pipelines.practice_hub.accounts import Account
from local_pipelines.practice_hub.repositories import Repository
from local_pipelines.wording.messages import language, tr

_TITLE = "Practice Hub"
_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;"
    "margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
    "th,td{text-align:left;padding:.2rem 1rem .2rem 0}button{font:inherit;padding:.4rem 1rem}"
)


def front(repositories: Iterable[Repository]) -> str:
    """The list of models."""
    rows = [
        (f'<a href="/{escape(r.id)}">{escape(r.id)}</a>', tr("gated") if r.gated else "")
        for r in repositories
        if not r.private
    ]
    said = tr("This Hub runs on your machine. Its models have the names of real ones.")
    words = escape(tr("Access tokens"))
    link = f'<p><a href="/settings/tokens">{words}</a></p>'
    table = _table((tr("model"), tr("access")), rows)
    return _page(_TITLE, f"<p>{escape(said)}</p>{link}{table}")


def tokens(accounts: Iterable[Account]) -> str:
    """The page on which a learner gets a token."""
    rows = [(escape(a.name), f"<code>{escape(a.token)}</code>") for a in accounts]
    said = tr(
        "On the real Hub you make a token here and see it once. These are for practice: they open"
        " nothing anywhere else."
    )
    table = _table((tr("account"), tr("token")), rows)
    return _page(tr("Access tokens"), f"<p>{escape(said)}</p>{table}")


def model(repository: Repository, accounts: Iterable[Account], viewer: Account | None) -> str:
    """A model's page, with the button that accepts its licence."""
    files = "".join(f"<li>{escape(path)}</li>" for path in repository.files)
    gate = _gate(repository, accounts, viewer) if repository.gated else ""
    heading = escape(tr("Files"))
    licence = tr("Licence: {licence}").format(licence=repository.licence)
    return _page(
        repository.id,
        f"<p>{escape(licence)}</p>{gate}<h2>{heading}</h2><ul>{files}</ul>",
    )


def _gate(repository: Repository, accounts: Iterable[Account], viewer: Account | None) -> str:
    sentences = {
        "accepted": tr("The account {name} has accepted the licence and may read the files."),
        "not_accepted": tr("The account {name} has not accepted the licence yet."),
        "pending": tr("The account {name} has asked and waits for the owners' answer."),
        "rejected": tr("The account {name} has asked and was refused by the owners."),
    }
    status = ""
    if viewer:
        said = sentences[viewer.standing(repository.id)].format(name=viewer.name)
        status = f'<p role="status">{escape(said)}</p>'
    options = "".join(
        f"<option{' selected' if a is viewer else ''}>{escape(a.name)}</option>" for a in accounts
    )
    why = tr("Its owners ask you to accept their licence before you read the files.")
    button = tr("Agree and access repository")
    heading, account = escape(tr("This is a gated model")), escape(tr("account"))
    return (
        f"<h2>{heading}</h2><p>{escape(why)}</p>{status}"
        f'<form method="post" action="/{escape(repository.id)}/accept">'
        f'<label>{account} <select name="account">{options}</select></label> '
        f'<button type="submit">{escape(button)}</button></form>'
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; its rows are HTML already."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="{escape(language().replace("_", "-"))}"><head>'
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f'<body><nav><a href="/">{_TITLE}</a></nav><main><h1>{escape(title)}</h1>{body}'
        "</main></body></html>"
    )
