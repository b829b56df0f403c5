"""Twenty thousand spoilt bodies over the POST routes: each gets an answer that is not our fault, and nothing hangs."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from appliance.core.settings import PathSettings
from appliance.frontend.control.openapi.operations import operations
from appliance.frontend.control.openapi.requests import request_schemas
from tests.e2e.appliance_process import appliance
from tests.helpers.http import RawClient

MOCKER = ("--engine", "mocker", "--engine-arg", "step_ms=0", "--context-length", "64", "--replicas", "2")
REQUESTS = 20_000
CLIENTS = 8
LONGEST_S = 10.0
"""Of one answer."""
NOT_OFFERED = 501
"""A published feature that is not here is a true answer too."""

SAY = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BODIES: dict[str, list[dict[str, object]]] = {
    "/v1/chat/completions": [
        {"model": "m", "messages": SAY, "stream": True, "stream_options": {"include_usage": True}, "n": 2},
        {"model": "m", "messages": SAY, "tools": [TOOL], "logprobs": True, "top_logprobs": 2, "stop": ["a", "b"]},
    ],
    "/v1/completions": [
        {"model": "m", "prompt": ["a", "b"], "echo": True, "max_tokens": 3, "seed": 1},
        {"model": "m", "prompt": [[1, 2], [3]], "stream": True, "logit_bias": {"5": 1}},
    ],
    "/v1/embeddings": [{"model": "m", "input": "x", "encoding_format": "base64"}],
    "/v1/responses": [{"model": "m", "input": [{"role": "user", "content": "x"}], "stream": True}],
    "/v1/messages": [{"model": "m", "max_tokens": 5, "messages": SAY, "system": "s", "stream": True}],
    "/v1/messages/count_tokens": [{"model": "m", "messages": SAY}],
    "/v1/tokenize": [{"model": "m", "prompt": "x", "return_token_strs": True}, {"model": "m", "messages": SAY}],
    "/v1/detokenize": [{"model": "m", "tokens": [1, 2, 3]}],
    "/busy_threshold": [{"model": "nobody", "active_prefill_tokens_threshold": 5}],
}
PIECES = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e999", b"0.5", b"9" * 30, b"\x00",
    b"\xff\xfe", b"\\ud800", b"\\u0000", b"[" * 2000, b'{"a":' * 500, b"stream", b"model", b"nvext", "😀".encode(),
)  # fmt: skip


SCHEMAS = request_schemas()
MEMBERS = {
    one.path: list(SCHEMAS[one.body]["properties"]) for one in operations(PathSettings()) if one.body is not None
}
VALUES: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 2, 5, 2**31, 2**63, 2**64, 0.5, -0.0, 1e308, "", "x", "m", "\ud800", "\0", "é" * 300,
    [], [""], ["x"], [1], [[1, 2]], [[]], {}, {"5": 1}, {"a": {"b": []}}, SAY, [{"role": "assistant", "content": None}],
    [{"role": "tool", "content": [{"type": "text", "text": "x"}]}], [TOOL], {"annotations": ["formatted_prompt"]},
    {"token_data": [1, 2]}, {"backend_instance_id": 1}, {"use_raw_prompt": True}, {"greed_sampling": True}, "none",
    {"type": "enabled"}, {"extra_fields": ["timing", "worker_id"]}, {"format": {"type": "text"}}, {"effort": "low"},
)  # fmt: skip


def _flip(body: bytearray, rng: random.Random) -> None:
    body[rng.randrange(len(body))] = rng.randrange(256)


def _insert(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    body[at:at] = rng.choice(PIECES)


def _replace(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body))
    body[at : at + rng.randrange(1, 9)] = rng.choice(PIECES)


def _cut(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body))
    del body[at : at + rng.randrange(1, 12)]


def _repeat(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body))
    piece = body[at : at + rng.randrange(1, 30)]
    body[at:at] = piece * rng.randrange(1, 4)


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (_flip, _insert, _replace, _cut, _repeat)


def change_members(path: str, body: dict[str, object], rng: random.Random) -> dict[str, object]:
    """The body with none to two members that hold something else, or are new to it."""
    changed = dict(body)
    for _ in range(rng.randrange(3)):
        changed[rng.choice(MEMBERS[path])] = rng.choice(VALUES)
    return changed


def spoil(body: bytes, rng: random.Random) -> bytes:
    """The body after one to four random changes."""
    changed = bytearray(body)
    for _ in range(rng.randrange(1, 5)):
        rng.choice(CHANGES)(changed, rng)
        changed = changed or bytearray(b" ")
    return bytes(changed)


def request(number: int) -> tuple[str, bytes]:
    """One request by its number, so that a failure can be had again."""
    rng = random.Random(number)
    path = rng.choice(list(BODIES))
    members = rng.choice(BODIES[path])
    if rng.random() < 1 / 2:
        body = json.dumps(change_members(path, members, rng)).encode()
    else:
        body = spoil(json.dumps(members).encode(), rng)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return path, head.encode() + body


@pytest.mark.slow
async def test_spoilt_bodies_are_answered(binary: str | None, tmp_path: Path) -> None:
    seen: Counter[int] = Counter()
    wrong: list[tuple[int, int, bytes]] = []
    with appliance(binary, tmp_path / "state", *MOCKER, "m") as one:
        numbers = iter(range(REQUESTS))

        async def ask_on() -> None:
            async with await trio.open_tcp_stream("127.0.0.1", one.port) as stream:
                client = RawClient(stream)
                for number in numbers:
                    with trio.fail_after(LONGEST_S):
                        answer = await client.ask(request(number)[1])
                    seen[answer.status] += 1
                    if answer.status >= 500 and answer.status != NOT_OFFERED:
                        wrong.append((number, answer.status, answer.body[:200]))

        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(ask_on)
        assert wrong == []
        assert sum(seen.values()) == REQUESTS
        assert seen[200] > REQUESTS / 20, seen
        assert one.chat("m", "x", max_tokens=2)["usage"]["completion_tokens"] == 2
