"""Answers of the Responses protocol in tests: asked for by a body, played step by step, read back as events."""

import json
from typing import Any

import msgspec
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from appliance.core.errors import ApplianceError
from appliance.core.generation import GenerationRequest
from appliance.core.requests import FinishReason
from appliance.frontend.protocols.responses.decode import decode_responses
from appliance.frontend.protocols.responses.format import ResponsesFormat
from appliance.frontend.streams.answer import Answer, PromptFacts
from tests.fakes.client import RecordingClient
from tests.fakes.marked_output import MarkedOutput
from tests.fakes.text import byte_tools
from tests.helpers.answers import ID, chunk, feed

Event = dict[str, Any]
_PUBLISHED: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def responses_request(**members: Any) -> GenerationRequest:
    """A decoded request."""
    return decode_responses(json.dumps({"model": "m", "input": "hi", **members}).encode(), ID)


async def play(
    request: GenerationRequest,
    *steps: str,
    finish: FinishReason | None = "stop",
    fault: ApplianceError | None = None,
) -> bytes:
    """The body that a client gets for these steps of an engine, each a piece of marked output; then the end."""
    client = RecordingClient()
    tools = msgspec.structs.replace(byte_tools(), parser=MarkedOutput)
    answer = Answer(request, client, ResponsesFormat(request), tools, [PromptFacts(7)])
    for step in steps:
        feed(answer, chunk(step, logprobs=request.logprobs is not None))
    if fault is None:
        feed(answer, chunk("", finish))
    else:
        answer.choices[0].on_error(fault)
    await answer.wait()
    return client.body


def read_events(body: bytes) -> list[Event]:
    """The events, each of a published type, numbered from 0, and named in the stream as in its own body."""
    events = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event: Event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert _PUBLISHED.validate_python(event).type == event["type"]
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def read_response(body: bytes) -> dict[str, Any]:
    """A whole response, of the published type."""
    response: dict[str, Any] = json.loads(body)
    Response.model_validate(response)
    return response
