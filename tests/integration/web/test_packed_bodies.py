"""Packed request bodies through the real listener."""

import json

import pytest

from appliance.core.settings import HttpSettings
from tests.helpers.http import echo, post, serving
from tests.helpers.packing import PACKERS, pack

SMALL, LARGE = b"x" * 100, b"abc" * 300_000
LIMIT = HttpSettings(body_limit_mb=1.0)


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_the_handler_sees_the_plain_body(coding: str, body: bytes) -> None:
    async with serving(echo, LIMIT) as served:
        client = await served.connect()
        for _ in range(2):
            answer = await client.ask(post("/a", pack(body, coding), f"content-encoding: {coding}"))
            assert (answer.status, answer.body) == (200, b"POST /a  " + body)


@pytest.mark.parametrize(
    ("header", "body", "status"),
    [
        ("gzip", pack(bytes(2_000_000), "gzip"), 413),
        ("zstd", pack(bytes(2_000_000), "zstd"), 413),
        ("gzip", b"no gzip at all", 400),
        ("br", b"?", 415),
        ("gzip, gzip, gzip", b"?", 415),
    ],
)
async def test_a_refused_body_costs_one_answer_and_not_the_connection(header: str, body: bytes, status: int) -> None:
    async with serving(echo, LIMIT) as served:
        client = await served.connect()
        answer = await client.ask(post("/a", body, f"content-encoding: {header}"))
        assert answer.status == status
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
        assert (await client.ask(post("/a", b"hi"))).status == 200
        assert served.errors == []


async def test_identity_and_no_body_at_all() -> None:
    async with serving(echo) as served:
        client = await served.connect()
        assert (await client.ask(post("/a", b"hi", "content-encoding: identity"))).body == b"POST /a  hi"
        assert (await client.ask(post("/a", b"", "content-encoding: gzip"))).body == b"POST /a  "
