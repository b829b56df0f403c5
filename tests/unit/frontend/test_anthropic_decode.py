"""Bodies of `/v1/messages` translated to the internal request, and what is wrong with those that cannot be."""

import json
from typing import Any

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.identity import RequestId
from appliance.core.requests import Guided, Sampling
from appliance.frontend.protocols.anthropic.decode import decode_count, decode_messages
from tests.helpers.answers import SAY_HI
from tests.helpers.messages import TOOL, message_request

SCHEMA = {"type": "object", "properties": {"b": {}, "a": {}}}


def test_everything_that_has_an_effect() -> None:
    request = message_request(
        max_tokens=5,
        stream=True,
        stop_sequences=["x", "y"],
        temperature=1.5,
        top_p=0.5,
        top_k=3,
        metadata={"user_id": "u"},
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 2000},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"},
    )
    assert (request.endpoint, request.model, request.max_tokens) == ("anthropic_messages", "m", 5)
    assert (request.stream, request.include_usage) == (True, True)
    assert (request.stop, request.user, request.thinking) == (("x", "y"), "u", True)
    assert request.sampling == Sampling(temperature=1.5, top_p=0.5, top_k=3)
    assert (request.tool_choice, request.parallel_tool_calls) == ("function:weather", False)
    assert request.guided == Guided(json_schema=json.dumps(SCHEMA))


def test_plain_request_leaves_choices_to_the_model() -> None:
    request = message_request()
    assert (request.sampling, request.stop, request.guided, request.tools) == (Sampling(), (), None, None)
    assert (request.tool_choice, request.parallel_tool_calls, request.thinking) == ("auto", True, None)
    assert (request.stream, request.n) == (False, 1)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, "auto"),
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "weather"}, "function:weather"),
    ],
)
def test_tool_choice(choice: dict[str, Any] | None, expected: str) -> None:
    assert message_request(tools=[TOOL], tool_choice=choice).tool_choice == expected


@pytest.mark.parametrize(
    ("kind", "expected"), [("enabled", True), ("adaptive", True), ("disabled", False), ("between_tools", None)]
)
def test_thinking(kind: str, expected: bool | None) -> None:
    assert message_request(thinking={"type": kind}).thinking is expected


def test_top_k_of_zero_means_all_tokens() -> None:
    assert message_request(top_k=0).sampling.top_k == -1


def test_output_format_of_older_clients() -> None:
    assert message_request(output_format={"type": "json_schema", "schema": SCHEMA}).guided == Guided(
        json_schema=json.dumps(SCHEMA)
    )


def test_published_members_without_effect_are_accepted() -> None:
    message_request(
        cache_control={"type": "ephemeral"},
        container="c",
        context_management={"edits": []},
        inference_geo="eu",
        mcp_servers=[],
        service_tier="auto",
        speed="fast",
        system=[{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        tools=[{**TOOL, "cache_control": {"type": "ephemeral"}, "input_examples": [{}], "type": "custom"}],
    )


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no max_tokens": ({"max_tokens": None}, "max_tokens is required"),
    "max_tokens of zero": ({"max_tokens": 0}, "max_tokens must be at least 1"),
    "no messages": ({"messages": []}, "messages must hold at least one message"),
    "messages missing": ({"messages": None}, "messages is required"),
    "empty model": ({"model": ""}, "model must not be empty"),
    "unknown names": ({"bogus": 1, "n": 2}, r"Unsupported parameter\(s\): bogus, n"),
    "temperature": ({"temperature": 2.1}, "temperature must be"),
    "top_p": ({"top_p": 1.1}, "top_p must be"),
    "top_k": ({"top_k": -2}, "top_k must be"),
    "empty stop": ({"stop_sequences": [""]}, "must not hold an empty string"),
    "too many stops": ({"stop_sequences": ["x"] * 33}, "at most 32"),
    "role": ({"messages": [{"role": "tool", "content": "x"}]}, "role user, assistant or system"),
    "content": ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\]\.content|messages\[...\]\.content"),
    "thinking": ({"thinking": {"type": "maybe"}}, "thinking.type"),
    "choice without tools": ({"tool_choice": {"type": "any"}}, "tool_choice"),
    "choice of no tool": ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice"),
    "choice without a name": ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice"),
    "server tool": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
    "tool without schema": ({"tools": [{"name": "x"}]}, r"tools\[0\].input_schema is required"),
    "tool without name": ({"tools": [{"input_schema": {}}]}, r"tools\[0\].name must not be empty"),
    "schema missing": ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    "two schemas": (
        {
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            "output_format": {"type": "json_schema", "schema": SCHEMA},
        },
        "only one constraint",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bodies(name: str) -> None:
    members, complaint = WRONG[name]
    with pytest.raises(InvalidRequest, match=complaint):
        message_request(**members)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": "m"', b"\xff"])
def test_bodies_that_are_no_json_objects(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_messages(body, RequestId("r"))


def count(**members: Any) -> Any:
    return decode_count(json.dumps({"model": "m", "messages": SAY_HI, **members}).encode(), RequestId("r"))


def test_counting_needs_no_limit_and_takes_none() -> None:
    request = count(system="s", tools=[TOOL], thinking={"type": "disabled"}, tool_choice={"type": "auto"})
    assert request.messages == [{"role": "system", "content": "s"}, *SAY_HI]
    assert (request.thinking, len(request.tools)) == (False, 1)
    with pytest.raises(InvalidRequest, match="max_tokens"):
        count(max_tokens=3)
    with pytest.raises(InvalidRequest, match="messages"):
        count(messages=[])
