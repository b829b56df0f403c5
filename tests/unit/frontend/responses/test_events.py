"""Streams of events: their order, what they add up to, and how they end. Every event is checked by its public type."""

from typing import Any

import pytest

from appliance.core.errors import InternalError, InvalidRequest, Overloaded, WorkerTimeout
from appliance.frontend.protocols.responses.format import ResponsesFormat
from appliance.frontend.streams.answer import Answer, PromptFacts
from tests.fakes.client import RecordingClient
from tests.fakes.text import byte_tools
from tests.helpers.answers import ID
from tests.helpers.responses import Event, play, read_events, read_response, responses_request

HEAD = ["response.created", "response.in_progress"]
TEXT = [
    "response.output_item.added message",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done message",
]
REASONING = [
    "response.output_item.added reasoning",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.output_item.done reasoning",
]
CALL = [
    "response.output_item.added function_call",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done function_call",
]


async def events_of(*steps: str, body: dict[str, Any] | None = None, **ending: Any) -> list[Event]:
    return read_events(await play(responses_request(stream=True, **(body or {})), *steps, **ending))


def names(events: list[Event]) -> list[str]:
    return [" ".join([event["type"], *([event["item"]["type"]] if "item" in event else [])]) for event in events]


def without_times(response: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in response.items() if name not in ("created_at", "completed_at")}


async def test_items_are_closed_before_the_next_one_opens() -> None:
    events = await events_of("?why", "text", '!f {"a":1}', "!g {}", "more")
    assert names(events) == [*HEAD, *REASONING, *TEXT, *CALL, *CALL, *TEXT, "response.completed"]
    places = [event["output_index"] for event in events if "output_index" in event]
    assert places == sorted(places)
    assert places[-1] == 4


async def test_ids_of_items_agree_and_have_their_prefixes() -> None:
    events = await events_of("?why", "text", "!f {}")
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    assert [id.partition("_")[0] for id in added] == ["rs", "msg", "fc"]
    assert {len(id.partition("_")[2]) for id in added} == {32}
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == added[event["output_index"]]
    assert [item["id"] for item in events[-1]["response"]["output"]] == added
    assert events[0]["response"]["id"] == "resp_" + ID.replace("-", "")


async def test_deltas_add_up_to_what_is_done() -> None:
    events = await events_of("?wh", "?y", "te", "xt ☃\n")
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    why = "".join(event["delta"] for event in events if event["type"] == "response.reasoning_summary_text.delta")
    reasoning, message = events[-1]["response"]["output"]
    assert (text, why) == ("text ☃\n", "why")
    assert reasoning["summary"] == [{"type": "summary_text", "text": why}]
    assert message["content"][0]["text"] == text
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == [reasoning, message]


async def test_a_call_has_its_name_and_arguments() -> None:
    events = await events_of('!weather {"city":"Bonn"}')
    done = next(event for event in events if event["type"] == "response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("weather", '{"city":"Bonn"}')
    (item,) = events[-1]["response"]["output"]
    assert (item["call_id"], item["status"], item["arguments"]) == ("call-0", "completed", '{"city":"Bonn"}')


async def test_first_events_show_a_response_in_progress() -> None:
    for event in (await events_of("x"))[:2]:
        shown = event["response"]
        assert (shown["status"], shown["output"], shown["usage"]) == ("in_progress", [], None)
        assert shown["completed_at"] is None


async def test_the_limit_makes_an_incomplete_response() -> None:
    last = (await events_of("?why", "so", finish="length"))[-1]
    response = last["response"]
    assert last["type"] == "response.incomplete"
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert response["usage"]["output_tokens"] == len("?whyso")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InternalError("it broke"), "server_error"),
        (Overloaded("it broke"), "rate_limit_exceeded"),
        (InvalidRequest("it broke"), "invalid_prompt"),
    ],
)
async def test_a_fault_is_told_and_the_response_has_failed(error: Any, code: str) -> None:
    events = await events_of("par", fault=error)
    assert names(events) == [*HEAD, *TEXT, "error", "response.failed"]
    told, response = events[-2], events[-1]["response"]
    assert (told["code"], told["message"]) == (error.code, "it broke")
    assert (response["status"], response["error"]) == ("failed", {"code": code, "message": "it broke"})
    assert response["output"][0]["status"] == "incomplete"


async def test_an_empty_answer_is_an_empty_message() -> None:
    events = await events_of()
    assert names(events) == [*HEAD, *TEXT[:2], *TEXT[3:], "response.completed"]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


async def test_only_one_call_when_calls_are_not_parallel() -> None:
    events = await events_of("!f {}", "!g {}", body={"parallel_tool_calls": False})
    assert names(events) == [*HEAD, *CALL, "response.completed"]


async def test_logprobs_go_with_the_text_they_belong_to() -> None:
    events = await events_of("?why", "ab", body={"top_logprobs": 2})
    (delta,) = [event for event in events if event["type"] == "response.output_text.delta"]
    assert [entry["token"] for entry in delta["logprobs"]] == ["a", "b"]
    assert [entry["token"] for entry in delta["logprobs"][0]["top_logprobs"]] == ["a", "z"]
    content = events[-1]["response"]["output"][1]["content"][0]
    assert content["logprobs"] == delta["logprobs"]


async def test_extra_fields_are_in_the_last_response() -> None:
    body = {"nvext": {"extra_fields": ["token_ids", "timing"]}}
    nvext = (await events_of("ab", "c", body=body))[-1]["response"]["nvext"]
    assert nvext["token_ids"] == list(b"abc")
    assert nvext["timing"]["total_time_ms"] >= 0


SCENES: list[tuple[tuple[str, ...], str]] = [
    (("?why", "text", '!f {"a":1}', "!g {}", "more"), "stop"),
    (("?why", "text"), "length"),
    (("?why",), "length"),
    (("!f {}",), "stop"),
    ((), "stop"),
]


@pytest.mark.parametrize(("steps", "finish"), SCENES)
@pytest.mark.parametrize("body", [{}, {"top_logprobs": 1}])
async def test_stream_and_document_agree(steps: tuple[str, ...], finish: Any, body: dict[str, Any]) -> None:
    last = (await events_of(*steps, finish=finish, body=body))[-1]["response"]
    document = read_response(await play(responses_request(**body), *steps, finish=finish))
    assert without_times(last) == without_times(document)


async def test_document_repeats_the_request() -> None:
    tools = [{"type": "function", "name": "f"}, {"type": "web_search", "search_context_size": "low"}]
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": None}
    given = {
        "tools": tools,
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": form, "verbosity": "low"},
        "instructions": "be brief",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "max_output_tokens": 5,
        "store": True,
        "reasoning": {"effort": "low", "summary": "auto"},
        "truncation": "auto",
        "user": "u",
        "parallel_tool_calls": False,
    }
    response = read_response(await play(responses_request(**given), "x"))
    assert {name: response[name] for name in given} == given


async def test_document_without_wishes_has_the_published_defaults() -> None:
    response = read_response(await play(responses_request(), "x"))
    assert (
        response.items()
        >= {
            "object": "response",
            "status": "completed",
            "model": "m",
            "error": None,
            "incomplete_details": None,
            "background": False,
            "parallel_tool_calls": True,
            "service_tier": "auto",
            "temperature": 1.0,
            "top_p": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": 0,
            "truncation": "disabled",
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "store": False,
            "metadata": {},
            "instructions": None,
            "previous_response_id": None,
        }.items()
    )
    assert response["completed_at"] >= response["created_at"]
    assert response["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }


async def test_reasoning_tokens_are_counted() -> None:
    response = read_response(await play(responses_request(), "?why", "x"))
    assert response["usage"]["output_tokens_details"]["reasoning_tokens"] == len("?why")


async def test_a_stream_that_only_pinged_can_fail() -> None:
    request, client = responses_request(stream=True), RecordingClient()
    answer = Answer(request, client, ResponsesFormat(request), byte_tools(), [PromptFacts(7)])
    answer.ping()
    assert answer.fail(WorkerTimeout("no token came"), final=True)
    assert client.body.count(b": ping\n\n") == 1
    events = read_events(client.body.replace(b": ping\n\n", b""))
    assert names(events) == [*HEAD, "error", "response.failed"]
    assert events[-1]["response"]["output"] == []
