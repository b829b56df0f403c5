"""Choices whose text goes through a parser: order, finish, limits, counts, and the same for any cutting."""

import itertools
import json
import random
from typing import Any

import pytest
import trio
from msgspec.structs import astuple
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from appliance.core.errors import EngineFailed, WorkerLost
from appliance.core.output import OutputPart, ReasoningPart, TextPart, ToolCallPart
from appliance.core.requests import FinishReason
from appliance.frontend.protocols.openai.formats import ChatFormat, chat_format
from appliance.frontend.streams.answer import Answer
from appliance.frontend.streams.parsed_text import merged
from tests.fakes.client import RecordingClient
from tests.helpers.answers import chat_request, chunk, feed, hermes, make_answer, read_events

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
SAID = f"<think>Ünsure ☃.</think>First {CALL} then {CALL}last"
PARTS: list[OutputPart] = [
    ReasoningPart("Ünsure ☃."),
    TextPart("First "),
    ToolCallPart(0, "call-0", "f", '{"a":1}'),
    TextPart(" then "),
    ToolCallPart(1, "call-1", "f", '{"a":1}'),
    TextPart("last"),
]


def answer_of(client: RecordingClient, **members: Any) -> Answer:
    request = chat_request(**{"tools": TOOLS, **members})
    return make_answer(request, client, parser=lambda: hermes(request))


async def say(answer: Answer, *texts: str, finish: FinishReason = "stop") -> None:
    feed(answer, *(chunk(text) for text in texts), chunk("", finish))
    with trio.fail_after(1):
        await answer.wait()


def shown_parts(events: list[Any]) -> list[OutputPart]:
    """The parts that a client puts together from a stream's deltas."""
    parts: list[OutputPart] = []
    for event in events:
        ChatCompletionChunk.model_validate(event, strict=True)
        for choice in event["choices"]:
            delta = choice["delta"]
            if "reasoning_content" in delta:
                parts.append(ReasoningPart(delta["reasoning_content"]))
            if "content" in delta:
                parts.append(TextPart(delta["content"]))
            calls = delta.get("tool_calls", [])
            parts += [ToolCallPart(call["index"], call["id"], **call["function"]) for call in calls]
    return merged(parts)


def cuttings() -> list[list[str]]:
    """The text whole, in single characters, and cut at random."""
    found = [[SAID], list(SAID)]
    for seed in range(20):
        places = sorted(random.Random(seed).sample(range(len(SAID)), 12))
        found.append([SAID[a:b] for a, b in itertools.pairwise([0, *places, len(SAID)])])
    return found


@pytest.mark.parametrize("texts", cuttings())
async def test_any_cutting_shows_the_same(texts: list[str]) -> None:
    client = RecordingClient()
    answer = answer_of(client, stream=True)
    await say(answer, *texts)
    events = read_events(client.body)
    assert shown_parts(events) == PARTS
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert [e["choices"][0]["delta"].get("role") for e in events].count("assistant") == 1


async def test_half_characters_between_steps() -> None:
    client = RecordingClient()
    answer = answer_of(client, stream=True)
    for byte in SAID.encode():
        step = chunk("")
        step.token_ids.append(byte)
        feed(answer, step)
    await say(answer)
    assert shown_parts(read_events(client.body)) == PARTS


async def test_an_answer_in_one_piece_has_all_parts() -> None:
    client = RecordingClient()
    answer = answer_of(client)
    await say(answer, SAID)
    outcome = answer.choices[0].outcome()
    assert (outcome.parts, outcome.text, outcome.finish) == (PARTS, "First  then last", "tool_calls")
    [choice] = ChatCompletion.model_validate_json(client.body, strict=True).choices
    assert choice.message.content == "First  then last"
    assert choice.message.tool_calls is not None
    assert [call.id for call in choice.message.tool_calls] == ["call-0", "call-1"]
    assert json.loads(client.body)["choices"][0]["message"]["reasoning_content"] == "Ünsure ☃."


async def test_content_is_null_beside_calls_alone() -> None:
    client = RecordingClient()
    await say(answer_of(client), CALL)
    message = json.loads(client.body)["choices"][0]["message"]
    assert message["content"] is None
    assert "reasoning_content" not in message


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_a_limit_cuts_is_not_shown(stream: bool) -> None:
    client = RecordingClient()
    answer = answer_of(client, stream=stream)
    await say(answer, CALL + CALL[:30], finish="length")
    choice = answer.choices[0]
    assert choice.finish == "length"
    assert client.body.count(b"call-0") == 1
    assert b"call-1" not in client.body


async def test_without_tools_markup_is_text() -> None:
    client = RecordingClient()
    answer = answer_of(client, stream=True, tools=None)
    await say(answer, CALL)
    assert shown_parts(read_events(client.body)) == [TextPart(CALL)]
    assert answer.choices[0].finish == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_without_parallel_calls_the_first_one_ends_the_choice(stream: bool) -> None:
    client, over = RecordingClient(), []
    answer = answer_of(client, stream=stream, parallel_tool_calls=False)
    answer.choices[0].on_over = lambda: over.append(True)
    feed(answer, chunk("Text " + CALL + " more " + CALL), chunk("ignored"))
    with trio.fail_after(1):
        await answer.wait()
    assert over == [True]
    assert answer.choices[0].finish == "tool_calls"
    if stream:
        assert shown_parts(read_events(client.body)) == [TextPart("Text "), PARTS[2]]
    else:
        assert answer.choices[0].outcome().parts == [TextPart("Text "), PARTS[2]]


async def test_a_stop_string_is_found_before_parsing_and_ends_everything() -> None:
    client = RecordingClient()
    answer = answer_of(client, stream=True, stop=["</tool_call>"])
    await say(answer, "<think>a</think>b", CALL[:-3], CALL[-3:], "never")
    choice = answer.choices[0]
    assert (choice.finish, choice.stop_string) == ("tool_calls", "</tool_call>")
    assert shown_parts(read_events(client.body)) == [ReasoningPart("a"), TextPart("b"), PARTS[2]]


@pytest.mark.parametrize("piece", [1, 3, 1000])
async def test_every_shown_token_has_its_details(piece: int) -> None:
    client = RecordingClient()
    answer = answer_of(client, stream=True, logprobs=True)
    octets = SAID.encode()
    for at in range(0, len(octets), piece):
        step = chunk("", logprobs=True)
        step.token_ids += octets[at : at + piece]
        step.logprobs = chunk("x" * len(step.token_ids), logprobs=True).logprobs
        feed(answer, step)
    await say(answer)
    shown = [
        token["bytes"]
        for event in read_events(client.body)
        for choice in event["choices"]
        if choice["logprobs"]
        for token in choice["logprobs"]["content"]
    ]
    assert bytes(itertools.chain(*shown)) == octets


async def test_reasoning_tokens_are_counted_by_what_they_complete() -> None:
    answer = answer_of(RecordingClient(), stream=True)
    feed(answer, chunk("<think>"), chunk("abcd"), chunk("efgh"))
    assert answer.usage().reasoning_tokens == 15  # the mark goes with what follows it
    await say(answer, "</think>", "text", CALL)
    assert answer.usage().reasoning_tokens == 15
    assert answer.usage().completion_tokens == 15 + 8 + 4 + len(CALL)


async def test_a_step_of_both_kinds_is_counted_by_characters() -> None:
    answer = answer_of(RecordingClient())
    await say(answer, "<think>aaaaaa</think>bb")
    assert answer.usage().reasoning_tokens == round(23 * 6 / 8)


async def test_another_attempt_begins_with_a_fresh_parser() -> None:
    client = RecordingClient()
    answer = answer_of(client)
    feed(answer, chunk("<think>lost"))
    answer.choices[0].on_error(WorkerLost("gone"))
    with pytest.raises(WorkerLost):
        await answer.wait()
    answer.choices[0].restart()
    await say(answer, "text")
    assert answer.choices[0].outcome().parts == [TextPart("text")]
    assert answer.usage().reasoning_tokens == 0


async def test_a_parser_that_fails_ends_its_choice_only() -> None:
    class Broken:
        def push(self, text: str) -> list[OutputPart]:
            raise RecursionError

        def finish(self, *, truncated: bool) -> list[OutputPart]:
            return []

    answer = make_answer(chat_request(), RecordingClient(), parser=lambda: Broken())
    feed(answer, chunk("x"))
    assert answer.choices[0].error is not None
    assert answer.choices[0].error.code == "internal_error"


class PingingFormat(ChatFormat, frozen=True):
    """As protocols with openings and pings do it."""

    def opening(self, prompt_tokens: int) -> bytes:
        return b": opened after %d\n\n" % prompt_tokens

    def ping(self) -> bytes:
        return b": ping\n\n"


def pinging_answer(client: RecordingClient) -> Answer:
    request = chat_request(stream=True)
    return make_answer(request, client, format=PingingFormat(*astuple(chat_format(request))))


async def test_silence_is_broken_by_pings_until_there_is_something_to_show() -> None:
    client = RecordingClient()
    answer = pinging_answer(client)
    answer.ping()
    answer.ping()
    assert client.sends == [b": opened after 7\n\n: ping\n\n", b": ping\n\n"]
    feed(answer, chunk("a"))
    answer.ping()
    feed(answer, chunk("b", "stop"))
    answer.ping()
    await answer.wait()
    assert client.body.count(b"opened") == 1
    assert client.body.count(b"ping") == 2
    assert len(read_events(client.body)) == 2


async def test_a_quick_answer_has_an_opening_and_no_ping() -> None:
    client = RecordingClient()
    answer = pinging_answer(client)
    feed(answer, chunk("a", "stop"))
    await answer.wait()
    assert client.body.startswith(b": opened after 7\n\ndata: ")
    assert b"ping" not in client.body


async def test_after_a_ping_another_attempt_is_possible_but_no_http_error() -> None:
    client = RecordingClient()
    answer = pinging_answer(client)
    answer.ping()
    answer.choices[0].on_error(WorkerLost("gone"))
    with pytest.raises(WorkerLost):
        await answer.wait()
    assert not answer.fail(WorkerLost("gone"))
    answer.choices[0].restart()
    assert answer.fail(EngineFailed("broken for good"), final=True)
    assert b"broken for good" in client.body
    assert client.ended
