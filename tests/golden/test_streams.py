"""Transcripts of whole answers, byte for byte, but for the time of creation."""

import re
from pathlib import Path
from typing import Any

import pytest

from appliance.core.errors import WorkerLost
from appliance.core.generation import GenerationRequest
from appliance.frontend.protocols.openai.dispatch import NO_DISPATCH, Dispatch
from appliance.frontend.protocols.openai.formats import chat_format
from appliance.frontend.protocols.openai.sse import preamble
from appliance.frontend.streams.answer import Answer
from tests.fakes.client import RecordingClient
from tests.helpers.answers import chat_request, chunk, completion_request, feed, hermes, make_answer

FOLDER = Path(__file__).parent / "streams"
ALL_USAGE = {"include_usage": True, "continuous_usage_stats": True}

REQUESTS: dict[str, GenerationRequest] = {
    "chat_plain": chat_request(stream=True),
    "chat_usage": chat_request(stream=True, stream_options={"include_usage": True}),
    "chat_running_usage": chat_request(stream=True, stream_options=ALL_USAGE),
    "chat_logprobs": chat_request(stream=True, logprobs=True, top_logprobs=1),
    "chat_annotations": chat_request(
        stream=True, nvext={"annotations": ["request_id", "formatted_prompt"], "extra_fields": ["token_ids"]}
    ),
    "chat_two_choices": chat_request(stream=True, n=2),
    "chat_unary": chat_request(n=2, logprobs=True),
    "chat_stop": chat_request(stream=True, stop=["ll"]),
    "chat_broken": chat_request(stream=True, n=3),
    "completion_plain": completion_request(stream=True, stream_options={"include_usage": True}),
    "completion_echo": completion_request(stream=True, echo=True),
    "completion_logprobs": completion_request(stream=True, logprobs=1),
    "completion_unary": completion_request(prompt=["a", "b"], logprobs=0),
}


def play(answer: Answer, logprobs: bool) -> None:
    """Two choices say "Hel", "lo ☃"; a third one, if there is one, fails."""
    for choice in answer.choices[:2]:
        feed(answer, chunk("Hel", logprobs=logprobs), choice=choice.index)
    for choice in answer.choices[2:]:
        choice.on_error(WorkerLost("the worker has gone"))
    for choice in answer.choices[:2]:
        feed(answer, chunk("lo ☃", logprobs=logprobs), choice=choice.index)
        feed(answer, chunk("", "stop"), choice=choice.index)


@pytest.mark.parametrize("name", REQUESTS)
async def test_transcript(name: str, regenerate: bool) -> None:
    request, client = REQUESTS[name], RecordingClient()
    answer = make_answer(request, client, preamble(request, "<user>hi", [1, 2]))
    play(answer, request.logprobs is not None)
    await answer.wait()
    transcript = re.sub(rb'"created":\d+', b'"created":1700000000', client.body).decode()
    check(name, transcript, regenerate)


PARSED: dict[str, dict[str, Any]] = {
    "tools_stream": {"stream": True, "stream_options": {"include_usage": True}},
    "tools_unary": {},
    "tools_logprobs": {"stream": True, "logprobs": True},
}
SAID = (
    "<think>Two cities.",
    " Ask twice.</think>\n\nLooking",
    " <tool_call>\n",
    '{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><tool_call>{"name":"weather",',
    '"arguments":{"city":"Oslo"}}</tool_call>',
    " done",
)


@pytest.mark.parametrize("name", [*PARSED, "tools_dispatch"])
async def test_transcript_of_reasoning_two_calls_and_text(name: str, regenerate: bool) -> None:
    function = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    request = chat_request(tools=[{"type": "function", "function": function}], **PARSED.get(name, {"stream": True}))
    client, dispatch = RecordingClient(), Dispatch(tools=True, reasoning=True)
    make = chat_format(request, dispatch=dispatch if name == "tools_dispatch" else NO_DISPATCH)
    answer = make_answer(request, client, parser=lambda: hermes(request), format=make)
    for text in SAID:
        feed(answer, chunk(text, logprobs=request.logprobs is not None))
    feed(answer, chunk("", "stop"))
    await answer.wait()
    check(name, re.sub(rb'"created":\d+', b'"created":1700000000', client.body).decode(), regenerate)


def check(name: str, transcript: str, regenerate: bool) -> None:
    path = FOLDER / f"{name}.txt"
    if regenerate:
        path.write_text(transcript)
    assert transcript == path.read_text()
