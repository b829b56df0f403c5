"""Answers of workers that speak text: their own counts, stop strings, parsers."""

import pytest
from openai.types.chat import ChatCompletion

from appliance.core.requests import EngineUsage, FinishReason, TokenChunk
from tests.fakes.client import RecordingClient
from tests.helpers.answers import chat_request, feed, hermes, make_answer, read_events


@pytest.fixture
def client() -> RecordingClient:
    return RecordingClient()


def said(text: str, finish: FinishReason | None = None, *, more_tokens: int = 0) -> TokenChunk:
    usage = None if finish is None else EngineUsage(prompt_tokens=9, completion_tokens=5, cached_tokens=4)
    return TokenChunk(stream=1, token_ids=[0] * (bool(text) + more_tokens), finish=finish, usage=usage, text=text)


async def test_text_is_shown_and_the_pieces_are_counted(client: RecordingClient) -> None:
    answer = make_answer(chat_request(), client)
    feed(answer, said("Hé"), said("llo"), said("", "stop", more_tokens=3))
    await answer.wait()
    document = ChatCompletion.model_validate_json(client.body, strict=True)
    assert document.choices[0].message.content == "Héllo"
    assert document.usage is not None
    assert document.usage.completion_tokens == 5


async def test_a_stop_string_ends_it_in_the_middle_of_a_piece(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stop=["END"]), client)
    over: list[bool] = []
    answer.choices[0].on_over = lambda: over.append(True)
    feed(answer, said("one E"), said("ND two"))
    await answer.wait()
    assert ChatCompletion.model_validate_json(client.body).choices[0].message.content == "one "
    assert over == [True]


async def test_calls_in_the_text_are_found(client: RecordingClient) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    request = chat_request(stream=True, tools=tools)
    answer = make_answer(request, client, parser=lambda: hermes(request))
    feed(answer, said("<think>hm</think>"), said('<tool_call>\n{"name":"f","arguments":{}}\n</tool_call>', "stop"))
    await answer.wait()
    events = read_events(client.body)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["hm"]
    assert [delta["tool_calls"][0]["function"]["name"] for delta in deltas if "tool_calls" in delta] == ["f"]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
