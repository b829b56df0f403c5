"""Transcripts of whole Anthropic messages, byte for byte."""

from pathlib import Path

import pytest

from appliance.core.generation import GenerationRequest
from tests.fakes.client import RecordingClient
from tests.helpers.answers import chunk, feed
from tests.helpers.messages import TOOL, make_message_answer, message_request

FOLDER = Path(__file__).parent / "streams"
TEXT = ("Hel", "lo ☃")
CALLS = (
    "<think>Rain",
    " or sun?</think>\n\n",
    '<tool_call>{"name": "weather", "arguments": {"at": "Oslo", "days": 1.0}}</tool_call>',
    '<tool_call>{"name": "weather", "arguments": {"at": "Bergen"}}</tool_call>\n',
    "I asked",
    " twice.",
)
CASES: dict[str, tuple[GenerationRequest, tuple[str, ...]]] = {
    "message_plain": (message_request(stream=True), TEXT),
    "message_empty": (message_request(stream=True), ()),
    "message_calls": (message_request(stream=True, tools=[TOOL]), CALLS),
    "message_unary": (message_request(tools=[TOOL]), CALLS),
}


@pytest.mark.parametrize("name", CASES)
async def test_transcript(name: str, regenerate: bool) -> None:
    request, pieces = CASES[name]
    client = RecordingClient()
    answer = make_message_answer(request, client)
    feed(answer, *(chunk(piece) for piece in pieces), chunk("", "stop"))
    await answer.wait()
    transcript = client.body.decode()
    path = FOLDER / f"{name}.txt"
    if regenerate:
        path.write_text(transcript)
    assert transcript == path.read_text()
