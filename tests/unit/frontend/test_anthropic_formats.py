"""Messages as bytes, whole and as streams, and the counting of tokens."""

import json
from typing import Any

import pytest

from appliance.core.errors import EngineFailed, Overloaded, WorkerLost
from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.frontend.protocols.anthropic.count_tokens import count_document, estimate_tokens
from appliance.frontend.protocols.anthropic.decode import decode_messages
from appliance.frontend.protocols.anthropic.formats import MessagesFormat, usage_object
from appliance.frontend.streams.outcome import ChoiceOutcome, Finish, Usage
from tests.fakes.client import RecordingClient
from tests.helpers.answers import ID, SAY_HI, chunk, feed
from tests.helpers.messages import TOOL, make_message_answer, message_request, put_together, read_named_events

USAGE = Usage(prompt_tokens=9, completion_tokens=4, cached_tokens=2, reasoning_tokens=1)
SHOWN_USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 2,
    "output_tokens": 4,
    "output_tokens_details": {"thinking_tokens": 1},
}


def document(parts: list[OutputPart], finish: Finish = "stop", stop_string: str | None = None) -> Any:
    outcome = ChoiceOutcome(index=0, text="", finish=finish, parts=parts, stop_string=stop_string)
    return json.loads(MessagesFormat(message_request()).document([outcome], USAGE, None))


def test_document_has_its_blocks_in_the_order_generated() -> None:
    call = ToolCallPart(index=0, id="call-1", name="f", arguments='{"b":1.0,"a":12345678901234567890}')
    made = MessagesFormat(message_request()).document(
        [ChoiceOutcome(index=0, text="a", finish="tool_calls", parts=[TextPart("a"), call, ReasoningPart("t")])],
        USAGE,
        None,
    )
    assert b'"input":{"b":1.0,"a":12345678901234567890}' in made
    assert json.loads(made) == {
        "id": "msg_11111111222243338444555555555555",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "call-1", "name": "f", "input": {"b": 1.0, "a": 12345678901234567890}},
            {"type": "thinking", "thinking": "t", "signature": "erased"},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": SHOWN_USAGE,
    }


ENDS: list[tuple[Finish, str | None, str, str | None]] = [
    ("stop", None, "end_turn", None),
    ("length", None, "max_tokens", None),
    ("tool_calls", None, "tool_use", None),
    ("stop", "END", "stop_sequence", "END"),
    ("tool_calls", "END", "tool_use", None),
]


@pytest.mark.parametrize(("finish", "stop_string", "reason", "sequence"), ENDS)
def test_stop_reasons(finish: Finish, stop_string: str | None, reason: str, sequence: str | None) -> None:
    shown = document([], finish, stop_string)
    assert (shown["stop_reason"], shown["stop_sequence"], shown["content"]) == (reason, sequence, [])
    made = MessagesFormat(message_request(stream=True))
    opening = made.opening(9)
    ending = made.frames(0).event("", finish=finish, stop_string=stop_string)
    streamed = put_together(read_named_events(opening + ending + made.closing(USAGE)))
    assert streamed == shown


def test_cached_tokens_of_an_uncounted_prompt() -> None:
    shown = usage_object(Usage(prompt_tokens=0, completion_tokens=1, cached_tokens=8))
    assert (shown["input_tokens"], shown["cache_read_input_tokens"]) == (0, 8)


def test_opening_tells_the_size_of_the_prompt() -> None:
    (start,) = read_named_events(MessagesFormat(message_request()).opening(12))
    message = start["message"]
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (12, 0)
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == ([], None, None)


def test_ping() -> None:
    assert MessagesFormat(message_request()).ping() == b'event: ping\ndata: {"type":"ping"}\n\n'


@pytest.mark.parametrize(
    ("error", "kind"), [(Overloaded("busy"), "overloaded_error"), (EngineFailed("broken"), "api_error")]
)
def test_failure(error: Overloaded | EngineFailed, kind: str) -> None:
    (value,) = read_named_events(MessagesFormat(message_request()).failure(error))
    assert value == {"type": "error", "error": {"type": kind, "message": error.message}}


async def test_broken_stream_ends_with_its_error() -> None:
    client = RecordingClient()
    answer = make_message_answer(message_request(stream=True), client)
    feed(answer, chunk("Hel"))
    answer.choices[0].on_error(WorkerLost("the worker has gone"))
    await answer.wait()
    kinds = [value["type"] for value in read_named_events(client.body)]
    assert kinds == ["message_start", "content_block_start", "content_block_delta", "error"]


async def test_long_silence_is_broken_with_pings_behind_the_opening() -> None:
    client = RecordingClient()
    answer = make_message_answer(message_request(stream=True), client)
    answer.ping()
    answer.ping()
    feed(answer, chunk("Hi"), chunk("", "stop"))
    await answer.wait()
    events = read_named_events(client.body)
    assert [value["type"] for value in events[:4]] == ["message_start", "ping", "ping", "content_block_start"]
    assert put_together(events)["content"] == [{"type": "text", "text": "Hi"}]


@pytest.mark.parametrize("stream", [True, False])
async def test_stop_sequence_is_named(stream: bool) -> None:
    client = RecordingClient()
    answer = make_message_answer(message_request(stream=stream, stop_sequences=["no", "lo"]), client)
    feed(answer, chunk("Hel"), chunk("lo, you"))
    await answer.wait()
    message = put_together(read_named_events(client.body)) if stream else json.loads(client.body)
    assert message["content"] == [{"type": "text", "text": "Hel"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "lo")


def test_count_document() -> None:
    assert json.loads(count_document(7)) == {"input_tokens": 7}


def test_estimate_counts_a_third_of_all_characters() -> None:
    assert estimate_tokens(message_request()) == len("userhi") // 3
    request = message_request(system="s" * 30, tools=[TOOL])
    schema = json.dumps(TOOL["input_schema"], separators=(",", ":"))
    texts = ["userhi", "system", "s" * 30, "weather", "Tells it.", schema]
    assert estimate_tokens(request) == sum(map(len, texts)) // 3


def test_estimate_counts_reasoning_and_calls() -> None:
    blocks = [
        {"type": "thinking", "thinking": "think", "signature": ""},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
    ]
    more = message_request(messages=[*SAY_HI, {"role": "assistant", "content": blocks}])
    assert estimate_tokens(more) == len("userhi" + "assistant" + "think" + "f" + '{"a":1}') // 3


HEADER = "x-anthropic-billing-header: cc_version=1; cch=abc;"


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (f"{HEADER}\nYou code.", "You code."),
        ([{"type": "text", "text": HEADER}, {"type": "text", "text": "You code."}], "You code."),
        (HEADER, None),
        (f"You code.\n{HEADER}", f"You code.\n{HEADER}"),
    ],
)
def test_billing_line_is_stripped_only_when_asked(system: Any, expected: str | None) -> None:
    body = json.dumps({"model": "m", "max_tokens": 1, "messages": SAY_HI, "system": system}).encode()
    stripped = decode_messages(body, ID, strip_preamble=True).messages
    kept = decode_messages(body, ID).messages
    assert stripped == [*([] if expected is None else [{"role": "system", "content": expected}]), *SAY_HI]
    assert kept is not None
    assert HEADER in kept[0]["content"]
