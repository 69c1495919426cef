"""The suite itself: it reaches no network and sees no real token."""

from __future__ import annotations

import os
import socket
import urllib.request

import pytest

from local_pipelines import find_token


def test_outside_hosts_cannot_be_reached() -> None:
    """A connection to another machine fails the test and names the host."""
    with (
        socket.socket() as connection,
        pytest.raises(AssertionError, match=r"192\.0\.2\.1"),
    ):
        connection.connect(("192.0.2.1", 443))
    with pytest.raises(AssertionError, match=r"hub\.example"):
        urllib.request.urlopen("http://hub.example/")


def test_this_machine_can_be_reached() -> None:
    """A server on loopback can be reached, as the practice Hub is one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_no_real_token_is_visible() -> None:
    """Neither we nor the Hub's client find a token, whoever runs the tests."""
    import huggingface_hub

    assert find_token() is None
    assert huggingface_hub.get_token() is None
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert not [name for name in os.environ if name.endswith(("_TOKEN", "_API_KEY"))]
