"""Responses: any body is a request or blames the client; streams say what documents say; answers can be input again."""

import json
from contextlib import suppress
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.errors import InvalidRequest, NotImplementedHere
from appliance.frontend.protocols.responses.decode import decode_responses
from tests.helpers.answers import ID
from tests.helpers.responses import Event, play, read_events, read_response, responses_request

VALID: dict[str, Any] = {
    "model": "m",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hié"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "why"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
    ],
    "instructions": "i",
    "tools": [{"type": "function", "name": "f", "parameters": {"a": {}}}, {"type": "web_search"}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": [1e5]}}},
    "reasoning": {"effort": "low"},
    "metadata": {"a": "b"},
    "nvext": {"annotations": ["x"], "agent_hints": {"priority": 1}},
}
OTHERS = ("temperature", "top_logprobs", "stream", "include", "background", "conversation", "prompt", "truncation")
STEPS = ("?why", "?so", "text", "more ☃", '!f {"a":1}', "!g {}")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
member_names = st.sampled_from(["type", "role", "content", "summary", "text", "call_id", "name", "arguments", "output"])
kinds = st.sampled_from(["message", "reasoning", "function_call", "function_call_output", "item_reference"])
items = st.fixed_dictionaries({"type": kinds | values}) | st.dictionaries(member_names, values)
steps = st.lists(st.sampled_from(STEPS), max_size=8)


def check(body: bytes) -> None:
    """Anything that is neither a request nor one of these two errors fails the test by being raised."""
    with suppress(InvalidRequest, NotImplementedHere):
        decode_responses(body, ID)


@given(edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), min_size=1, max_size=4))
def test_mutated_bytes(edits: list[tuple[float, bytes]]) -> None:
    body = bytearray(json.dumps(VALID).encode())
    for where, piece in edits:
        at = int(where * len(body))
        body[at : at + 1] = piece
    check(bytes(body))


@given(member=st.sampled_from([*VALID, *OTHERS]), value=values)
def test_members_of_any_type(member: str, value: Any) -> None:
    check(json.dumps({**VALID, member: value}).encode())


@given(st.lists(items | values, min_size=1, max_size=4))
def test_items_of_any_kind(given_items: list[Any]) -> None:
    check(json.dumps({**VALID, "input": given_items}).encode())


def test_the_unedited_body_is_a_request() -> None:
    assert decode_responses(json.dumps(VALID).encode(), ID).model == "m"


def played(made: list[str], finish: Any, **body: Any) -> bytes:
    return trio.run(lambda: play(responses_request(**body), *made, finish=finish))


@given(made=steps, finish=st.sampled_from(["stop", "length"]))
def test_streams_say_what_documents_say(made: list[str], finish: str) -> None:
    events = read_events(played(made, finish, stream=True))
    document = read_response(played(made, finish))
    last = events[-1]["response"]
    for times in ("created_at", "completed_at"):
        del last[times], document[times]
    assert last == document
    assert rebuilt(events) == document["output"]


def rebuilt(events: list[Event]) -> list[Any]:
    """What a client puts together that believes the order of events: one item open at a time, in order."""
    output: list[Any] = []
    open_item: str | None = None
    for event in events:
        if event["type"] == "response.output_item.added":
            assert open_item is None
            open_item = event["item"]["id"]
            assert event["output_index"] == len(output)
        elif event["type"] == "response.output_item.done":
            assert open_item == event["item"]["id"]
            open_item = None
            output.append(event["item"])
        elif "item_id" in event:
            assert event["item_id"] == open_item
    assert open_item is None
    return output


@given(made=steps)
def test_an_answer_as_input_keeps_its_order(made: list[str]) -> None:
    output = read_response(played(made, "stop"))["output"]
    messages = responses_request(input=[{"role": "user", "content": "hi"}, *output]).messages
    assert messages is not None
    shown = [piece for message in messages[1:] for piece in in_order(message)]
    assert shown == [piece for item in output for piece in pieces(item)]


def pieces(item: dict[str, Any]) -> list[str]:
    match item["type"]:
        case "message":
            return ["text " + item["content"][0]["text"]] if item["content"][0]["text"] else []
        case "reasoning":
            return ["why " + item["summary"][0]["text"]]
        case _:
            return ["call " + item["name"]]


def in_order(message: dict[str, Any]) -> list[str]:
    """The pieces of an assistant's message as templates show them: reasoning, text, then calls with theirs."""
    calls, why = message.get("tool_calls", []), message.get("reasoning_content", "")
    before = [*why] if isinstance(why, list) else [why, *[""] * len(calls)]
    text = [message["content"]] if message["content"] else []
    shown = [("why ", before[0]), *(("text ", piece) for piece in text)]
    for call, after in zip(calls, before[1:], strict=True):
        shown += [("call ", call["function"]["name"]), ("why ", after)]
    return [kind + piece for kind, piece in shown if piece]
