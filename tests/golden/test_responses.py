"""Transcripts of whole answers of the Responses protocol, byte for byte, but for times."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from appliance.core.errors import ApplianceError, WorkerLost
from appliance.core.requests import FinishReason
from tests.helpers.responses import play, responses_request

FOLDER = Path(__file__).parent / "responses"
STEPS = ("?Let me ", "?see.", "Let me ", "look ☃", '!weather {"city":"Bonn"}', '!clock {"zone":"CET"}', "So.")
STREAM = {"stream": True}
RICH = {
    "stream": True,
    "instructions": "be brief",
    "tools": [{"type": "function", "name": "clock", "parameters": {"type": "object"}}, {"type": "web_search"}],
    "tool_choice": {"type": "function", "name": "clock"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
}


class Scene(NamedTuple):
    """What is asked, what the engine gives, and how it ends."""

    body: dict[str, Any]
    steps: tuple[str, ...]
    finish: FinishReason = "stop"
    fault: ApplianceError | None = None


SCENES = {
    "stream_reasoning_calls_text": Scene(STREAM, STEPS),
    "unary_reasoning_calls_text": Scene({}, STEPS),
    "stream_incomplete": Scene(STREAM, ("?why", "so"), finish="length"),
    "stream_failed": Scene(STREAM, ("?why", "so"), fault=WorkerLost("the worker has gone")),
    "stream_empty": Scene(STREAM, ()),
    "stream_logprobs": Scene({"stream": True, "top_logprobs": 1}, ("ab",)),
    "stream_repeated_members": Scene(RICH, ("{}",)),
}


@pytest.mark.parametrize("name", SCENES)
async def test_transcript(name: str, regenerate: bool) -> None:
    scene = SCENES[name]
    body = await play(responses_request(**scene.body), *scene.steps, finish=scene.finish, fault=scene.fault)
    transcript = re.sub(rb'"(created_at|completed_at)":\d+', rb'"\1":1700000000', body).decode()
    path = FOLDER / f"{name}.txt"
    if regenerate:
        path.write_text(transcript)
    assert transcript == path.read_text()
