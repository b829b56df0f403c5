"""However the engine cuts its output into steps, the client reads the same text, and never a stop string."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.core.requests import TokenChunk
from tests.fakes.client import RecordingClient
from tests.helpers.answers import chat_request, chunk, make_answer, read_events

STOPS = ("END", "|ab", "aba")
texts = st.text(alphabet=st.sampled_from('ab|END "\\\n€😀é'), max_size=40)
cuts = st.lists(st.integers(1, 4), max_size=60)


def steps(octets: bytes, sizes: list[int]) -> list[TokenChunk]:
    """The bytes cut into steps of these sizes; the rest is one step."""
    chunks = []
    for size in sizes:
        if octets:
            chunks.append(TokenChunk(stream=1, token_ids=list(octets[:size])))
            octets = octets[size:]
    return [*chunks, TokenChunk(stream=1, token_ids=list(octets)), chunk("", "length")]


def run(text: str, sizes: list[int], **members: Any) -> tuple[RecordingClient, int]:
    """The client after the whole answer, and how many tokens the engine gave until the choice was over."""
    client = RecordingClient()
    answer = make_answer(chat_request(**members), client)
    given_tokens = 0
    for step in steps(text.encode(), sizes):
        if answer.choices[0].finish is None:
            given_tokens += len(step.token_ids)
        answer.choices[0].on_chunk(step)
        answer.choices[0].flush()
    if not answer.streaming:
        outcome = answer.choices[0].outcome()
        client.respond(200, json.dumps({"text": outcome.text, "finish": outcome.finish}).encode())
    return client, given_tokens


def read_text(events: list[Any]) -> str:
    """The text of choice 0 as a client puts it together."""
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)


def cut_at_stop(text: str) -> tuple[str, str]:
    """What a client must see, found on the whole text: up to the stop string that is complete first."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in STOPS if stop in text]
    return (text[: min(ends)[1]], "stop") if ends else (text, "length")


@given(texts, cuts)
def test_streamed_text_is_the_engines_text(text: str, sizes: list[int]) -> None:
    client, _ = run(text, sizes, stream=True)
    assert read_text(read_events(client.body)) == text


@given(texts)
def test_byte_by_byte_the_first_complete_stop_string_ends_the_text(text: str) -> None:
    client, _ = run(text, [1] * len(text.encode()), stream=True, stop=list(STOPS))
    events = read_events(client.body)
    assert (read_text(events), events[-1]["choices"][0]["finish_reason"]) == cut_at_stop(text)


@given(texts, cuts)
def test_stop_strings_are_never_shown(text: str, sizes: list[int]) -> None:
    client, tokens = run(text, sizes, stream=True, stop=list(STOPS), stream_options={"include_usage": True})
    *events, last = read_events(client.body)
    shown = read_text(events)
    assert not any(stop in shown for stop in STOPS)
    assert text.startswith(shown)
    assert last["usage"]["completion_tokens"] == tokens


@given(texts, cuts)
def test_unstreamed_text_is_the_streamed_text(text: str, sizes: list[int]) -> None:
    streamed, _ = run(text, sizes, stream=True, stop=list(STOPS))
    unary, _ = run(text, sizes, stop=list(STOPS))
    events = read_events(streamed.body)
    assert json.loads(unary.body) == {
        "text": read_text(events),
        "finish": events[-1]["choices"][0]["finish_reason"],
    }


@given(texts, cuts)
def test_every_shown_token_has_its_detail_in_order(text: str, sizes: list[int]) -> None:
    client = RecordingClient()
    answer = make_answer(chat_request(stream=True, logprobs=True, stop=list(STOPS)), client)
    for step in steps(text.encode(), sizes):
        whole = chunk(logprobs=True)
        whole.token_ids, whole.finish, whole.usage = step.token_ids, step.finish, step.usage
        whole.logprobs = chunk("x" * len(step.token_ids), logprobs=True).logprobs
        answer.choices[0].on_chunk(whole)
        answer.choices[0].flush()
    shown, octets = "", b""
    for event in read_events(client.body):
        choice = event["choices"][0]
        shown += choice["delta"].get("content", "")
        octets += bytes(b for token in choice["logprobs"]["content"] for b in token["bytes"])
    assert octets == shown.encode()
