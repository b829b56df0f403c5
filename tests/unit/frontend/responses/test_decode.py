"""Bodies of `/v1/responses` translated to the internal request, and what is refused."""

import json
from typing import Any

import pytest

from appliance.core.errors import ApplianceError, InvalidRequest, NotImplementedHere
from appliance.core.requests import Guided, Sampling
from appliance.frontend.protocols.responses.decode import decode_responses
from tests.helpers.answers import ID
from tests.helpers.responses import responses_request

WEATHER = {"type": "function", "name": "weather", "description": "tells it", "parameters": {"type": "object"}}
CLOCK = {"type": "function", "name": "clock"}
SEARCH = {"type": "web_search", "search_context_size": "low"}
SHOWN_WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "tells it", "parameters": {"type": "object"}},
}
SHOWN_CLOCK = {"type": "function", "function": {"name": "clock"}}


def test_everything_that_has_an_effect() -> None:
    request = responses_request(
        instructions="be brief",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.25,
        top_logprobs=3,
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        stream=True,
        user="u",
        nvext={"annotations": ["request_id"], "extra_fields": ["timing"], "agent_hints": {"priority": 5}},
    )
    assert request.endpoint == "responses"
    assert request.messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert request.sampling == Sampling(temperature=0.5, top_p=0.25)
    assert (request.max_tokens, request.logprobs, request.parallel_tool_calls) == (9, 3, False)
    assert (request.template_args, request.thinking) == ({"reasoning_effort": "low"}, None)
    assert (request.stream, request.include_usage, request.user) == (True, True, "u")
    assert (request.annotations, request.extra_fields, request.priority) == (("request_id",), ("timing",), 5)


def test_a_short_body_leaves_choices_to_the_model() -> None:
    request = responses_request()
    assert request.messages == [{"role": "user", "content": "hi"}]
    assert request.sampling == Sampling()
    assert (request.max_tokens, request.logprobs, request.guided, request.tools) == (None, None, None, None)
    assert (request.tool_choice, request.parallel_tool_calls, request.template_args) == ("auto", True, {})


def test_members_without_effect_are_accepted() -> None:
    request = responses_request(
        store=True,
        metadata={"a": "b"},
        truncation="auto",
        service_tier="flex",
        safety_identifier="s",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        include=["reasoning.encrypted_content"],
        background=False,
        max_tool_calls=2,
        conversation=None,
        previous_response_id=None,
        prompt=None,
    )
    assert request.logprobs is None
    assert request.repeated["metadata"] == {"a": "b"}


def test_no_effort_turns_thinking_off() -> None:
    assert responses_request(reasoning={"effort": "none"}).thinking is False


def test_included_logprobs_come_without_alternatives() -> None:
    assert responses_request(include=["message.output_text.logprobs"]).logprobs == 0


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("form", "guided"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Guided(json_schema='{"type":"object"}')),
        (
            {"type": "json_schema", "name": "n", "strict": True, "schema": SCHEMA},
            Guided(json_schema=json.dumps(SCHEMA)),
        ),
        ({"type": "json_schema", "name": "n", "schema": SCHEMA}, Guided(json_schema=json.dumps(SCHEMA))),
    ],
)
def test_text_format(form: dict[str, Any], guided: Guided | None) -> None:
    assert responses_request(text={"format": form}).guided == guided


@pytest.mark.parametrize(
    ("choice", "shown", "becomes"),
    [
        (None, [SHOWN_WEATHER, SHOWN_CLOCK], "auto"),
        ("auto", [SHOWN_WEATHER, SHOWN_CLOCK], "auto"),
        ("required", [SHOWN_WEATHER, SHOWN_CLOCK], "required"),
        ("none", [SHOWN_WEATHER, SHOWN_CLOCK], "none"),
        ({"type": "function", "name": "clock"}, [SHOWN_WEATHER, SHOWN_CLOCK], "function:clock"),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "clock"}]},
            [SHOWN_CLOCK],
            "required",
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}, SEARCH]},
            [SHOWN_WEATHER],
            "auto",
        ),
    ],
)
def test_tool_choice(choice: Any, shown: Any, becomes: str) -> None:
    request = responses_request(tools=[WEATHER, SEARCH, CLOCK], tool_choice=choice)
    assert (request.tools, request.tool_choice) == (shown, becomes)


def test_tools_of_providers_are_not_shown_to_the_model() -> None:
    custom = {"type": "custom", "name": "c", "format": {"type": "text"}}
    assert responses_request(tools=[SEARCH, custom, {"type": "mcp", "server_label": "x"}]).tools is None


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"model": ""}, "model", "model must not be empty"),
    ({"model": 3}, "model", "Expected str, got int"),
    ({"input": ""}, "input", "input must not be empty"),
    ({"input": []}, "input", "input must not be empty"),
    ({"input": 3}, "input", "Expected str | array, got int"),
    ({"temperature": 2.5}, "temperature", "at most 2"),
    ({"top_p": -1}, "top_p", "at least 0"),
    ({"top_logprobs": 21}, "top_logprobs", "at most 20"),
    ({"max_output_tokens": 0}, "max_output_tokens", "at least 1"),
    ({"max_output_tokens": "5"}, "max_output_tokens", "Expected int"),
    ({"user": ""}, "user", "must not be an empty string"),
    ({"metadata": {"a": 1}}, "metadata[...]", "Expected str"),
    ({"truncation": "some"}, "truncation", "one of auto, disabled"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "one of none, minimal"),
    ({"reasoning": {"summary": "x"}}, "reasoning.summary", "one of auto"),
    ({"text": {"verbosity": "x"}}, "text.verbosity", "one of low"),
    ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "not yaml"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name", "is required"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "is required"),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": None}}},
        "text.format.schema",
        "must be a JSON schema object",
    ),
    ({"stream_options": {}}, "stream_options", "needs stream: true"),
    ({"nvext": {"token_data": "x"}}, "nvext.token_data", "Expected"),
    ({"tools": {}}, "tools", "Expected array"),
    ({"tools": [3]}, "tools[0]", "Expected object"),
    ({"tools": [{}]}, "tools[0].type", "is required"),
    ({"tools": [CLOCK, {"type": "function"}]}, "tools[1].name", "is required"),
    ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools[0].name", "is required"),
    ({"tools": [{"type": "function", "name": "x", "parameters": []}]}, "tools[0].parameters", "Expected object"),
    ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].format", "is required"),
    ({"tools": [CLOCK], "tool_choice": "some"}, "tool_choice", "none, auto, required"),
    ({"tool_choice": "required"}, "tool_choice", "needs a function"),
    ({"tools": [CLOCK], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name", "name a function"),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "x"}]}},
        "tool_choice.tools",
        "name functions",
    ),
    ({"tools": [CLOCK], "tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.mode", "auto or required"),
    ({"seed": 1, "messages": []}, "seed", "Unsupported parameter(s): seed, messages"),
]


@pytest.mark.parametrize(("members", "param", "complaint"), BAD)
def test_refused(members: dict[str, Any], param: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        responses_request(**members)
    assert caught.value.param == param
    assert complaint in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("missing", ["model", "input"])
def test_required_members(missing: str) -> None:
    body = {name: "x" for name in ("model", "input") if name != missing}
    with pytest.raises(InvalidRequest, match=f"{missing} is required"):
        decode_responses(json.dumps(body).encode(), ID)


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"background": True},
        {"prompt": {"id": "pmpt_1"}},
        {"tools": [SEARCH], "tool_choice": {"type": "web_search"}},
    ],
)
def test_what_would_need_a_store_or_a_provider(members: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedHere) as caught:
        responses_request(**members)
    assert caught.value.param in members
    assert isinstance(caught.value, ApplianceError)
