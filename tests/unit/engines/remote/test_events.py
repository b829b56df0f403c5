"""Chunks of OpenAI servers read as text."""

from typing import Any

import pytest

from appliance.core.errors import EngineFailed, WorkerLost
from appliance.engines.remote.events import TextEvents


def delta(**members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members}]}


def read(*events: dict[str, Any]) -> tuple[str, TextEvents, int]:
    reader = TextEvents()
    steps = [reader.take(event) for event in events]
    steps.append(reader.end())
    return "".join(step.text or "" for step in steps), reader, sum(len(step.token_ids) for step in steps)


FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def test_content_is_text_and_the_servers_count_is_reached() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    text, reader, tokens = read(delta(role="assistant"), delta(content="a"), delta(content="b"), FINISH,
                                {"choices": [], "usage": usage})  # fmt: skip
    assert (text, reader.finish, tokens) == ("ab", "stop", 5)
    assert (reader.usage().prompt_tokens, reader.usage().completion_tokens, reader.usage().cached_tokens) == (9, 5, 4)


def test_without_a_count_pieces_are_counted() -> None:
    _, reader, tokens = read(delta(content="a"), delta(content="b"), FINISH)
    assert (tokens, reader.usage().completion_tokens) == (2, 2)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_goes_back_between_its_marks(name: str) -> None:
    text, _, _ = read(delta(**{name: "let "}), delta(**{name: "me"}), delta(content="hi"), FINISH)
    assert text == "<think>let me</think>hi"


def test_reasoning_that_is_cut_off_is_closed() -> None:
    text, _, _ = read(delta(reasoning="let"), {"choices": [{"delta": {}, "finish_reason": "length"}]})
    assert text == "<think>let</think>"


def test_calls_go_back_whole_in_their_order() -> None:
    first = {"index": 0, "function": {"name": "f", "arguments": '{"a":'}}
    second = {"index": 1, "function": {"name": "g", "arguments": ""}}
    text, _, _ = read(
        delta(content="well"), delta(tool_calls=[first]), delta(tool_calls=[second]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]),
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
    )  # fmt: skip
    first_call = '<tool_call>\n{"name":"f","arguments":{"a":1}}\n</tool_call>'
    assert text == "well" + first_call + '<tool_call>\n{"name":"g","arguments":{}}\n</tool_call>'


def test_a_whole_answer_is_read_like_a_stream() -> None:
    message = {"role": "assistant", "content": "hi", "tool_calls": None}
    text, reader, _ = read({"choices": [{"message": message, "finish_reason": "length"}]})
    assert (text, reader.finish) == ("hi", "length")


def test_plain_completions_have_text() -> None:
    text, _, _ = read({"choices": [{"text": "x"}]}, {"choices": [{"text": "", "finish_reason": "stop"}]})
    assert text == "x"


@pytest.mark.parametrize(("word", "kind"), [("abort", WorkerLost), ("error", EngineFailed)])
def test_an_end_that_is_a_failure_is_one(word: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        TextEvents().take({"choices": [{"delta": {}, "finish_reason": word}]})
