"""Addresses as they may be shown: without the name and password that some of them carry."""

from __future__ import annotations

__all__ = ["shown_address", "shown_host"]


def shown_address(url: str) -> str:
    """Leave out the name and the password of an address, such as a mirror's in `HF_ENDPOINT`.

    Nothing before the last `@` is trusted: a password with a slash in it, which no client would
    understand, must not be shown either.

    Args:
        url: The address, whole or without its scheme.

    Returns:
        The address as it may stand in a message, a report or a saved notebook.

    Examples:
        >>> shown_address("https://ann:secret@mirror.example:8443/hub")
        'https://mirror.example:8443/hub'
        >>> shown_address("https://huggingface.co")
        'https://huggingface.co'
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
