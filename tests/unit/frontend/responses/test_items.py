"""Input items made into messages: order of reasoning, text and calls, roles, and what is refused."""

from typing import Any

import pytest

from appliance.core.errors import InvalidRequest, NotImplementedHere
from tests.helpers.responses import responses_request

USER = {"role": "user", "content": "hi"}


def messages(*items: Any) -> list[dict[str, Any]]:
    made = responses_request(input=list(items)).messages
    assert made is not None
    return made


def reasoning(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}]}


def said(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "id": "fc_1", "call_id": f"c-{name}", "name": name, "arguments": '{"a":1}'}


def output(name: str, value: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c-{name}", "output": value}


def shown_call(name: str) -> dict[str, Any]:
    return {"type": "function", "id": f"c-{name}", "function": {"name": name, "arguments": '{"a":1}'}}


def shown_output(name: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"c-{name}", "content": "done"}


def turn(content: str, *calls: str, why: Any = None) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        shown["tool_calls"] = [shown_call(name) for name in calls]
    return shown if why is None else {**shown, "reasoning_content": why}


@pytest.mark.parametrize(
    ("items", "becomes"),
    [
        ([said("a")], [turn("a")]),
        ([said("a"), said("b")], [turn("a"), turn("b")]),
        ([reasoning("r"), said("a")], [turn("a", why="r")]),
        ([reasoning("r"), call("f")], [turn("", "f", why="r")]),
        ([reasoning("r"), said("a"), call("f")], [turn("a", "f", why="r")]),
        ([call("f"), call("g")], [turn("", "f", "g")]),
        (
            [reasoning("r"), call("f"), reasoning("s"), call("g")],
            [turn("", "f", "g", why=["r", "s", ""])],
        ),
        ([call("f"), reasoning("s")], [turn("", "f", why=["", "s"])]),
        ([call("f"), said("a")], [turn("", "f"), turn("a")]),
        ([call("f"), reasoning("s"), said("a")], [turn("", "f"), turn("a", why="s")]),
        (
            [reasoning("r"), said("a"), reasoning("s"), said("b"), call("f")],
            [turn("a", why="r"), turn("b", "f", why="s")],
        ),
        ([reasoning("r"), reasoning("s"), said("a")], [turn("a", why="r\ns")]),
        ([reasoning("r")], [turn("", why="r")]),
        ([reasoning("")], []),
        (
            [reasoning("r"), call("f"), output("f"), reasoning("s"), call("g"), output("g"), said("a")],
            [turn("", "f", why="r"), shown_output("f"), turn("", "g", why="s"), shown_output("g"), turn("a")],
        ),
        (
            [call("f"), call("g"), output("f"), output("g")],
            [turn("", "f", "g"), shown_output("f"), shown_output("g")],
        ),
        ([said("a"), {"role": "user", "content": "x"}], [turn("a"), {"role": "user", "content": "x"}]),
    ],
)
def test_turns_of_the_assistant(items: list[Any], becomes: list[Any]) -> None:
    assert messages(USER, *items) == [USER, *becomes]


@pytest.mark.parametrize("role", ["user", "system", "developer"])
def test_roles(role: str) -> None:
    assert messages({"type": "message", "role": role, "content": "x"}) == [{"role": role, "content": "x"}]


def test_one_part_is_a_text_and_several_stay_parts() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages({"role": "user", "content": parts[:1]}) == [{"role": "user", "content": "a"}]
    assert messages({"role": "user", "content": parts}) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]


def test_parts_of_an_answer_are_one_text() -> None:
    parts = [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    assert messages({"role": "assistant", "content": parts}) == [turn("ab")]


def test_full_reasoning_goes_before_its_summary() -> None:
    full = [{"type": "reasoning_text", "text": "long"}]
    assert messages({**reasoning("short"), "content": full}, said("a")) == [turn("a", why="long")]


def test_encrypted_reasoning_is_left_out() -> None:
    assert messages({**reasoning(""), "encrypted_content": "abc"}, said("a")) == [turn("a")]


def test_output_of_a_call_may_be_parts() -> None:
    assert messages(output("f", [{"type": "input_text", "text": "done"}])) == [shown_output("f")]


@pytest.mark.parametrize(
    ("item", "param", "complaint"),
    [
        (3, "input[1]", "Expected object"),
        ({}, "input[1].type", "not supported"),
        ({"type": "computer_call"}, "input[1].type", "'computer_call'"),
        ({"role": "tool", "content": "x"}, "input[1].role", "one of user, assistant"),
        ({"role": "user"}, "input[1].content", "is required"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[1].content[0].text", "is required"),
        ({"role": "user", "content": [{"text": "x"}]}, "input[1].content[0].type", "is required"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[1].content[0]", "takes text only"),
        ({"type": "function_call", "name": "f", "arguments": ""}, "input[1].call_id", "is required"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": 1}, "input[1].arguments", "Expected"),
        ({"type": "function_call_output", "output": "x"}, "input[1].call_id", "is required"),
        (output("f", [{"type": "input_file"}]), "input[1].output[0]", "takes text only"),
        ({"type": "reasoning", "summary": [{"type": "summary_text"}]}, "input[1].summary[0].text", "is required"),
    ],
)
def test_refused(item: Any, param: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages(USER, item)
    assert caught.value.param == param
    assert complaint in caught.value.message


@pytest.mark.parametrize("item", [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_1"}])
def test_references_need_a_store(item: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedHere, match="stores no items"):
        messages(USER, item)
