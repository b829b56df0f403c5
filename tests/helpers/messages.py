"""Anthropic messages of tests: requests from bodies, answers fed with text, streams put together again."""

import json
from itertools import count
from typing import Any

from appliance.core.generation import GenerationRequest
from appliance.frontend.protocols.anthropic.decode import decode_messages
from appliance.frontend.protocols.anthropic.formats import MessagesFormat
from appliance.frontend.streams.answer import Answer, PromptFacts
from appliance.frontend.streams.seams import TextTools
from appliance.preprocess.output_parser import OutputParser
from appliance.preprocess.reasoning import make_reasoning_parser
from appliance.preprocess.tool_calls import make_tool_parser
from tests.fakes.client import RecordingClient
from tests.fakes.text import byte_tools
from tests.helpers.answers import ID, SAY_HI

TOOL = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object", "properties": {"at": {}}}}


def message_request(**members: Any) -> GenerationRequest:
    """A decoded request for a message. A member that is None is left out."""
    body = {"model": "m", "max_tokens": 99, "messages": SAY_HI, **members}
    return decode_messages(json.dumps({k: v for k, v in body.items() if v is not None}).encode(), ID)


def make_message_answer(request: GenerationRequest, client: RecordingClient) -> Answer:
    """An answer whose tokens are bytes, to a prompt of 7; with tools its reasoning and calls are parsed."""
    plain = byte_tools(request.stop)
    numbers = count(1)

    def parser() -> OutputParser | None:
        if not request.tools:
            return None
        calls = make_tool_parser("hermes", request.tools, new_id=lambda: f"call-{next(numbers)}")
        return OutputParser(make_reasoning_parser("basic"), calls)

    tools = TextTools(detokeniser=plain.detokeniser, matcher=plain.matcher, parser=parser)
    return Answer(request, client, MessagesFormat(request), tools, [PromptFacts(7)])


def read_named_events(body: bytes) -> list[dict[str, Any]]:
    """The values of a stream's events; checks that each is named like its type."""
    values = []
    for text in body.decode().split("\n\n")[:-1]:
        name, data = text.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        values.append(value)
    return values


DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a stream tells of; checks the order of its events."""
    first, *middle, delta, last = [value for value in events if value["type"] != "ping"]
    assert (first["type"], delta["type"], last["type"]) == ("message_start", "message_delta", "message_stop")
    message: dict[str, Any] = first["message"]
    blocks: list[dict[str, Any]] = message["content"]
    is_open = False
    for value in middle:
        if value["type"] == "content_block_start":
            assert (is_open, value["index"]) == (False, len(blocks))
            blocks.append(value["content_block"])
            is_open = True
            continue
        assert (is_open, value["index"]) == (True, len(blocks) - 1)
        if value["type"] == "content_block_stop":
            is_open = False
        elif value["delta"]["type"] == "input_json_delta":
            blocks[-1]["input"] = json.loads(value["delta"]["partial_json"])
        else:
            member = DELTAS[value["delta"]["type"]]
            blocks[-1][member] += value["delta"][member]
    assert not is_open
    return {**message, **delta["delta"], "usage": delta["usage"]}
