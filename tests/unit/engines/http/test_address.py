"""Base URLs of servers."""

import pytest

from appliance.core.errors import UsageError
from appliance.engines.http.address import parse_address


@pytest.mark.parametrize(
    ("url", "authority", "prefix"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", ""),
        ("http://box/v1/", "box", ""),
        ("https://api.example.com/openai/v1", "api.example.com", "/openai"),
        ("http://[::1]:9/", "[::1]:9", ""),
    ],
)
def test_a_base_url_is_taken_apart(url: str, authority: str, prefix: str) -> None:
    address = parse_address(url)
    assert (address.authority, address.prefix) == (authority, prefix)
    assert parse_address(address.url) == address


@pytest.mark.parametrize("url", ["", "box:8000", "ftp://box", "http://", "http://box:99999", "http://box/?a=1"])
def test_what_is_no_base_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="engine URL"):
        parse_address(url)
