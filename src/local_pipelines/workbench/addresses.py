"""Addresses and paths as they may be shown: without a password, without whose machine it is."""

from __future__ import annotations

import os
from pathlib import Path


def shown_address(url: str) -> str:
    """Leave out the name and the password of an address, such as a mirror's in `HF_ENDPOINT`.

    Nothing before the last `@` is trusted: a password with a slash in it, which no client would
    understand, must not be shown either.

    >>> shown_address("https://ann:secret@mirror.example:8443/hub")
    'https://mirror.example:8443/hub'
    """
    scheme, divider, rest = url.partition("://")
    if not divider:
        return url.rpartition("@")[2]
    return scheme + divider + rest.rpartition("@")[2]


def shown_host(url: str) -> str:
    """The host and port of an address.

    >>> shown_host("https://ann:secret@mirror.example:8443/hub")
    'mirror.example:8443'
    """
    return shown_address(url).rpartition("://")[2].split("/")[0]


def without_home(text: str) -> str:
    """Write `~` for the home folder: a stored output does not tell whose machine it was."""
    home = str(Path.home())
    if home == Path(home).anchor:
        return text
    return "~" if text == home else text.replace(home + os.sep, "~" + os.sep)
