"""Whatever bytes come as a request body, the answer is a request or an error of ours that blames the client."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import InvalidRequest, NotImplementedHere
from appliance.core.generation import EmbeddingRequest, GenerationRequest
from appliance.core.identity import RequestId
from appliance.frontend.protocols.anthropic.decode import decode_count, decode_messages
from appliance.frontend.protocols.openai.decode import decode_chat, decode_completion, decode_embedding

Decode = Callable[[bytes, RequestId], GenerationRequest | EmbeddingRequest]

ANTHROPIC: dict[str, Any] = {
    "model": "m",
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hié"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": ""},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "r"}]},
    ],
    "tools": [{"name": "f", "input_schema": {"a": {}}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"format": {"type": "json_schema", "schema": {"a": [1e5]}}},
}
VALID: dict[Decode, dict[str, Any]] = {
    decode_chat: {
        "model": "m",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hié"}]},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": {}}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": [1e5]}}},
        "stop": ["a"],
        "logit_bias": {"1": 2},
        "nvext": {"annotations": ["x"], "agent_hints": {"priority": 1}},
    },
    decode_completion: {"model": "m", "prompt": ["a", "b"], "stop": ["x", 4], "guided_json": '{"a": 1}', "n": 2},
    decode_messages: {**ANTHROPIC, "max_tokens": 5, "stop_sequences": ["x"], "metadata": {"user_id": "u"}},
    decode_count: ANTHROPIC,
    decode_embedding: {"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64"},
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def check(decode: Decode, body: bytes) -> None:
    """Anything that is neither a request nor one of these two errors fails the test by being raised."""
    with suppress(InvalidRequest, NotImplementedHere):
        decode(body, RequestId("r"))


@pytest.mark.parametrize("decode", VALID)
@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), min_size=1, max_size=4))
def test_mutated_bytes(decode: Decode, edits: list[tuple[float, bytes]]) -> None:
    body = bytearray(json.dumps(VALID[decode]).encode())
    for where, piece in edits:
        at = int(where * len(body))
        body[at : at + 1] = piece
    check(decode, bytes(body))


@pytest.mark.parametrize("decode", VALID)
@given(data=st.data())
def test_members_of_any_type(decode: Decode, data: st.DataObject) -> None:
    others = ["temperature", "seed", "prompt", "input", "max_tokens", "tool_choice", "top_k", "functions"]
    member = data.draw(st.sampled_from([*VALID[decode], *others]))
    check(decode, json.dumps({**VALID[decode], member: data.draw(values)}).encode())


@pytest.mark.parametrize("decode", VALID)
def test_unedited_bodies_are_requests(decode: Decode) -> None:
    assert decode(json.dumps(VALID[decode]).encode(), RequestId("r")).model == "m"
