"""Addresses are shown without the passwords in them."""

from __future__ import annotations

import pytest

from local_pipelines.workbench.addresses import shown_address


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:s3cret@mirror.example/hub",
        "https://s3cret@mirror.example/hub",
        "https://ann:s3/cret#s3cret@mirror.example/hub",
        "https://ann:s3cret@s3cret@mirror.example/hub",
        "https://[broken:s3cret@mirror.example/hub",
    ],
)
def test_no_name_and_no_password_is_shown(url: str) -> None:
    assert shown_address(url) == "https://mirror.example/hub"


def test_an_address_without_a_scheme_loses_its_password_too() -> None:
    assert shown_address("ann:s3cret@mirror.example") == "mirror.example"


@pytest.mark.parametrize("url", ["", "https://huggingface.co", "http://127.0.0.1:8808/a?b#c"])
def test_other_addresses_stay_as_they_are(url: str) -> None:
    assert shown_address(url) == url
