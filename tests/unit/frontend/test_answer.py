"""Answers as clients get them: streamed and in one piece, several choices, usage, log-probabilities, extras."""

import gc
import json
import weakref

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion_choice import Logprobs

from appliance.core.requests import TokenChunk
from appliance.frontend.streams.answer import Answer
from tests.fakes.client import RecordingClient
from tests.helpers.answers import chat_request, chunk, completion_request, feed, make_answer, read_events


@pytest.fixture
def client() -> RecordingClient:
    return RecordingClient()


async def test_stream_has_one_event_per_step_and_one_send_per_read(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True), client)
    feed(answer, chunk("Hel"), chunk("lo"), chunk("!", "stop"))
    await answer.wait()
    events = [ChatCompletionChunk.model_validate(event, strict=True) for event in read_events(client.body)]
    assert [event.choices[0].delta.content for event in events] == ["Hel", "lo", "!"]
    assert [event.choices[0].delta.role for event in events] == ["assistant", None, None]
    assert [event.choices[0].finish_reason for event in events] == [None, None, "stop"]
    assert {event.id for event in events} == {"chatcmpl-11111111-2222-4333-8444-555555555555"}
    assert all(event.usage is None for event in events)
    assert len(client.sends) == 3
    assert client.content_type == "text/event-stream"
    assert client.ended


async def test_a_released_answer_is_freed_without_the_garbage_collector(client: RecordingClient) -> None:
    gc.disable()
    try:
        answer = make_answer(chat_request(), client)
        feed(answer, chunk("Hello", "stop"))
        await answer.wait()
        usage, left = answer.usage(), weakref.ref(answer)
        answer.release()
        assert answer.usage() == usage
        del answer
        assert left() is None
    finally:
        gc.enable()


async def test_steps_of_one_read_go_out_in_one_send(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True), client)
    for text in ("a", "b", "c"):
        answer.choices[0].on_chunk(chunk(text))
    assert client.sends == []
    answer.choices[0].flush()
    assert len(client.sends) == 1
    assert client.sends[0].count(b"data: ") == 3


async def test_unary_answer_is_an_official_document(client: RecordingClient) -> None:
    answer = make_answer(chat_request(n=2), client)
    feed(answer, chunk("one"), chunk(" and", "stop"))
    feed(answer, chunk("two", "length"), choice=1)
    await answer.wait()
    document = ChatCompletion.model_validate_json(client.body, strict=True)
    assert [(choice.index, choice.message.content, choice.finish_reason) for choice in document.choices] == [
        (0, "one and", "stop"),
        (1, "two", "length"),
    ]
    assert document.usage is not None
    assert (document.usage.prompt_tokens, document.usage.completion_tokens) == (7, 10)
    assert document.usage.total_tokens == 17
    assert document.usage.prompt_tokens_details is not None
    assert document.usage.prompt_tokens_details.cached_tokens == 3
    assert len(client.sends) == 1


async def test_usage_event_comes_last_and_alone(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True, stream_options={"include_usage": True}), client)
    feed(answer, chunk("abc"), chunk("", "length"))
    await answer.wait()
    events = read_events(client.body)
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 3
    assert events[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert [event["usage"] for event in events[:-1]] == [None, None]


async def test_continuous_usage_is_on_every_event(client: RecordingClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = make_answer(chat_request(stream=True, stream_options=options), client)
    feed(answer, chunk("a"), chunk("bc"), chunk("d", "stop"))
    await answer.wait()
    assert [event["usage"]["completion_tokens"] for event in read_events(client.body)] == [1, 3, 4, 4]


async def test_stop_string_ends_the_choice_and_frees_the_engine(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True, stop=["END"]), client)
    ended: list[bool] = []
    answer.choices[0].on_over = lambda: ended.append(True)
    feed(answer, chunk("text E"), chunk("N"))
    assert ended == []
    feed(answer, chunk("D more"), chunk(" and more"), chunk("", "length"))
    await answer.wait()
    events = read_events(client.body)
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "text "
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert answer.choices[0].stop_string == "END"
    assert ended == [True]


async def test_beginning_of_a_stop_string_is_shown_at_the_end(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stop=["END"]), client)
    feed(answer, chunk("text EN"), chunk("", "stop"))
    await answer.wait()
    assert json.loads(client.body)["choices"][0]["message"]["content"] == "text EN"


async def test_unfinished_character_at_the_end_is_shown(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True), client)
    feed(answer, TokenChunk(stream=1, token_ids=[0xE2, 0x82]), chunk("", "length"))
    await answer.wait()
    assert read_events(client.body)[0]["choices"][0]["delta"]["content"] == "\ufffd"


async def test_completion_echo_and_batch(client: RecordingClient) -> None:
    answer = make_answer(completion_request(prompt=["A:", "B:"], n=2, echo=True), client)
    for index in range(4):
        feed(answer, chunk(str(index), "stop"), choice=index)
    await answer.wait()
    document = Completion.model_validate_json(client.body, strict=True)
    assert [(choice.index, choice.text) for choice in document.choices] == [
        (0, "A:0"),
        (1, "A:1"),
        (2, "B:2"),
        (3, "B:3"),
    ]
    assert document.usage is not None
    assert (document.usage.prompt_tokens, document.usage.completion_tokens) == (14, 4)


async def test_echo_of_an_answer_without_tokens(client: RecordingClient) -> None:
    answer = make_answer(completion_request(prompt="A:", echo=True, stream=True), client)
    feed(answer, chunk("", "stop"))
    await answer.wait()
    assert [event["choices"][0]["text"] for event in read_events(client.body)] == ["A:", ""]


async def test_chat_logprobs_have_names_bytes_and_alternatives(client: RecordingClient) -> None:
    answer = make_answer(chat_request(logprobs=True, top_logprobs=2), client)
    feed(answer, chunk("é", logprobs=True), chunk("", "stop"))
    await answer.wait()
    choice = ChatCompletion.model_validate_json(client.body, strict=True).choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert [(entry.token, entry.bytes, entry.logprob) for entry in choice.logprobs.content] == [
        ("\ufffd", [0xC3], -0.5),
        ("\ufffd", [0xA9], -0.5),
    ]
    assert [entry.logprob for entry in choice.logprobs.content[0].top_logprobs] == [-0.5, -9999.0]


@pytest.mark.parametrize("stream", [True, False])
async def test_completion_logprobs_leave_the_stop_string_out(client: RecordingClient, stream: bool) -> None:
    answer = make_answer(completion_request(logprobs=1, stop="XY", stream=stream), client)
    feed(answer, chunk("aXb", logprobs=True), chunk("X", logprobs=True), chunk("Yc", logprobs=True))
    await answer.wait()
    documents = read_events(client.body) if stream else [json.loads(client.body)]
    shown = [document["choices"][0] for document in documents]
    logprobs = [Logprobs.model_validate(choice["logprobs"], strict=True) for choice in shown if choice["logprobs"]]
    assert [token for entry in logprobs for token in entry.tokens or []] == ["a", "X", "b"]
    assert [offset for entry in logprobs for offset in entry.text_offset or []] == [0, 1, 2]
    assert logprobs[0].top_logprobs is not None
    assert logprobs[0].top_logprobs[0] == {"a": -0.5}
    assert "".join(choice["text"] for choice in shown) == "aXb"


async def test_tokens_named_by_id(client: RecordingClient) -> None:
    answer = make_answer(completion_request(logprobs=0, return_tokens_as_token_ids=True), client)
    feed(answer, chunk("a", "stop", logprobs=True))
    await answer.wait()
    assert json.loads(client.body)["choices"][0]["logprobs"]["tokens"] == ["token_id:97"]


@pytest.mark.parametrize("stream", [True, False])
async def test_nvext_extra_fields(client: RecordingClient, stream: bool) -> None:
    answer = make_answer(chat_request(stream=stream, nvext={"extra_fields": ["timing", "token_ids"]}), client)
    feed(answer, chunk("ab"), chunk("c", "stop"))
    await answer.wait()
    parts = read_events(client.body) if stream else [json.loads(client.body)]
    assert [token for part in parts for token in part["nvext"]["token_ids"]] == [97, 98, 99]
    timing = parts[-1]["nvext"]["timing"]
    assert 0 <= timing["ttft_ms"] <= timing["total_time_ms"]
    assert timing["request_received_ms"] > 1.6e12
    assert all("timing" not in part["nvext"] for part in parts[:-1])


async def test_times_are_kept(client: RecordingClient) -> None:
    answer = make_answer(chat_request(stream=True, n=2), client)
    assert answer.first_at is None
    feed(answer, chunk("ab"), chunk("c"), chunk("d"), chunk("", "stop"))
    assert answer.first_at is not None
    assert len(answer.gaps) == 2
    assert all(gap >= 0 for gap in answer.gaps)


def test_answer_is_made_outside_of_any_wait() -> None:
    """Making one neither waits nor needs a running nursery."""
    assert isinstance(make_answer(chat_request(), RecordingClient()), Answer)
