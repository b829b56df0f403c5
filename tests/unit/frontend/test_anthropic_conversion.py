"""Anthropic's turns and tools as chat templates want them."""

from typing import Any

import pytest

from appliance.core.errors import InvalidRequest
from tests.helpers.messages import TOOL, message_request

Turns = list[dict[str, Any]]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
CACHED = {"cache_control": {"type": "ephemeral"}}


def say(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def think(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": "erased"}


def use(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": arguments}


def call(call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def assistant(*blocks: dict[str, Any]) -> Turns:
    turns = message_request(messages=[{"role": "assistant", "content": list(blocks)}]).messages
    assert turns is not None
    return turns


ASSISTANT_TURNS: dict[str, tuple[list[dict[str, Any]], Turns]] = {
    "text": ([say("a"), say("b")], [{"role": "assistant", "content": "ab"}]),
    "thinking and text": (
        [think("t"), say("a")],
        [{"role": "assistant", "content": "a", "reasoning_content": "t"}],
    ),
    "thinking, text and a call": (
        [think("t"), say("a"), use("1", at="x")],
        [
            {
                "role": "assistant",
                "content": "a",
                "tool_calls": [call("1", at="x")],
                "reasoning_content": ["t", ""],
            }
        ],
    ),
    "thinking before each call and after them": (
        [think("t"), use("1"), think("u"), use("2"), think("v")],
        [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [call("1"), call("2")],
                "reasoning_content": ["t", "u", "v"],
            }
        ],
    ),
    "thinking in two blocks": (
        [think("t"), think("u"), use("1")],
        [{"role": "assistant", "content": "", "tool_calls": [call("1")], "reasoning_content": ["t\nu", ""]}],
    ),
    "whitespace between calls": (
        [use("1"), say("\n"), use("2")],
        [{"role": "assistant", "content": "", "tool_calls": [call("1"), call("2")]}],
    ),
    "text behind a call": (
        [think("t"), say("a"), use("1"), think("u"), say("b"), use("2")],
        [
            {"role": "assistant", "content": "a", "tool_calls": [call("1")], "reasoning_content": ["t", ""]},
            {"role": "assistant", "content": "b", "tool_calls": [call("2")], "reasoning_content": ["u", ""]},
        ],
    ),
    "redacted thinking": (
        [{"type": "redacted_thinking", "data": "x"}, say("a")],
        [{"role": "assistant", "content": "a"}],
    ),
}


@pytest.mark.parametrize("name", ASSISTANT_TURNS)
def test_assistant_turn(name: str) -> None:
    blocks, expected = ASSISTANT_TURNS[name]
    assert assistant(*blocks) == expected


def test_tool_results_come_before_what_the_user_says() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": "rain", **CACHED}
    parts = {"type": "tool_result", "tool_use_id": "2", "is_error": True, "content": [say("a"), say("b")]}
    nothing = {"type": "tool_result", "tool_use_id": "3"}
    request = message_request(
        messages=[
            {"role": "user", "content": [say("ask"), say("again")]},
            {"role": "assistant", "content": [use("1"), use("2")]},
            {"role": "user", "content": [say("and?"), result, parts, nothing]},
        ]
    )
    assert request.messages == [
        {"role": "user", "content": [say("ask"), say("again")]},
        {"role": "assistant", "content": "", "tool_calls": [call("1"), call("2")]},
        {"role": "tool", "tool_call_id": "1", "content": "rain", "name": "weather"},
        {"role": "tool", "tool_call_id": "2", "content": "a\nb", "name": "weather"},
        {"role": "tool", "tool_call_id": "3", "content": ""},
        {"role": "user", "content": "and?"},
    ]


def test_neighbours_of_one_role_are_one_turn() -> None:
    request = message_request(
        messages=[
            {"role": "assistant", "content": "first"},
            {"role": "user", "content": "a"},
            {"role": "user", "content": [say("b")]},
            {"role": "system", "content": "mind"},
            {"role": "assistant", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]
    )
    assert request.messages == [
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": [say("a"), say("b")]},
        {"role": "system", "content": "mind"},
        {"role": "assistant", "content": "cd"},
    ]


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("be kind", "be kind"),
        ([{**say("a"), **CACHED}, say("b")], "a\nb"),
        ("", None),
        ([], None),
    ],
)
def test_system_text(system: Any, expected: str | None) -> None:
    turns = message_request(system=system).messages
    assert turns is not None
    assert [turn["content"] for turn in turns if turn["role"] == "system"] == ([] if expected is None else [expected])


def test_tools() -> None:
    request = message_request(tools=[{**TOOL, "strict": True}, {"name": "b", "input_schema": {}}])
    assert request.tools == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells it.",
                "parameters": TOOL["input_schema"],
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "b", "parameters": {}}},
    ]
    assert message_request(tools=[TOOL], tool_choice={"type": "none"}).tools is None


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "image": ([{"role": "user", "content": [say("a"), IMAGE]}], r"messages\[0\].content\[1\].*text.*'image'"),
    "image in a result": (
        [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [IMAGE]}]}],
        r"messages\[0\].content\[0\].content\[0\].*'image'",
    ),
    "document": ([{"role": "user", "content": [{"type": "document", "source": {}}]}], "'document'"),
    "server tool": (
        [{"role": "assistant", "content": [{"type": "server_tool_use", "id": "1", "name": "x", "input": {}}]}],
        "'server_tool_use'",
    ),
    "thinking of the user": ([{"role": "user", "content": [think("t")]}], "'thinking'"),
    "result without id": (
        [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}],
        r"messages\[0\].content\[0\].tool_use_id is required",
    ),
    "result of no shape": (
        [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": {}}]}],
        "must be a string or a list",
    ),
    "call without name": (
        [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "input": {}}]}],
        "name is required",
    ),
    "text without text": ([{"role": "user", "content": [{"type": "text"}]}], "text is required"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_blocks(name: str) -> None:
    messages, complaint = REFUSED[name]
    with pytest.raises(InvalidRequest, match=complaint):
        message_request(messages=messages)


def test_refused_system_blocks_are_named() -> None:
    with pytest.raises(InvalidRequest, match=r"system\[0\]"):
        message_request(system=[IMAGE])
