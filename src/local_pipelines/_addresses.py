"""Addresses as they may be shown."""

from __future__ import annotations

import re

__all__ = ["shown_address", "shown_host"]


def shown_address(address: str) -> str:
    """An address without the user name and password that may stand before its host."""
    return re.sub(r"^(\w+://)?.*@", r"\1", address, flags=re.DOTALL)


def shown_host(address: str) -> str:
    """The host and port of an address."""
    return re.sub(r"^\w+://", "", shown_address(address)).split("/")[0]
