"""Request bodies of the OpenAI family: what is taken, what is refused, and which member is blamed."""

import json
from typing import Any

import pytest

from appliance.core.errors import ApplianceError, InvalidRequest, NotImplementedHere
from appliance.core.identity import RequestId
from appliance.core.requests import Guided
from appliance.frontend.protocols.openai.decode import decode_chat, decode_completion, decode_embedding
from tests.helpers.answers import chat_request, completion_request

ID = RequestId("r")
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "hi"}

ACCEPTED_IN_BOTH: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 2},
    {"temperature": None},
    {"top_p": 0},
    {"top_k": -1},
    {"top_k": 1},
    {"min_p": 1},
    {"frequency_penalty": -2},
    {"presence_penalty": 2},
    {"repetition_penalty": 2},
    {"n": 128, "temperature": 0.5},
    {"n": 1, "temperature": 0},
    {"stop": []},
    {"stop": ["s"] * 32},
    {"logit_bias": {"5": -100}},
    {"min_tokens": 9, "max_tokens": 3},
    {"seed": -1},
    {"user": "u"},
    {"metadata": {"a": "b"}},
    {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"ignore_eos": True, "skip_special_tokens": False, "include_stop_str_in_output": True},
    {"guided_decoding_backend": "x", "guided_whitespace_pattern": " *"},
    {"nvext": {"later_member": 1, "agent_hints": {"priority": 3, "latency_sensitivity": 0.5}}},
]
ACCEPTED_IN_CHAT: list[dict[str, Any]] = [
    {"max_tokens": 0},
    {"top_logprobs": 20},
    {"logprobs": True, "top_logprobs": 20},
    {"reasoning_effort": "xhigh"},
    {"service_tier": "auto", "store": True, "modalities": ["text"], "prediction": {"type": "content", "content": ""}},
    {"parallel_tool_calls": False, "tools": [TOOL], "tool_choice": "auto"},
    {"verbosity": "low", "prompt_cache_key": "k", "safety_identifier": "s", "web_search_options": {}},
    {"audio": {}, "moderation": {}, "prompt_cache_options": {}, "prompt_cache_retention": "24h"},
    {"messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}]}]},
    {"messages": [USER, {"role": "assistant", "content": None, "refusal": "no"}, USER]},
    {"media_io_kwargs": {}},
]
REFUSED_IN_BOTH: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "model"),
    ({"model": 5}, "model"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": 0}, "top_k"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 1.1}, "min_p"),
    ({"frequency_penalty": 2.1}, "frequency_penalty"),
    ({"presence_penalty": -2.1}, "presence_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": 2.1}, "repetition_penalty"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": 2, "temperature": 0}, "n"),
    ({"n": 2, "nvext": {"greed_sampling": True}}, "n"),
    ({"seed": 2**63}, "seed"),
    ({"stop": ["s"] * 33}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop"),
    ({"stop": [{}]}, "stop[0]"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"-5": 1}}, "logit_bias"),
    ({"logit_bias": {"a": 1}}, "logit_bias"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 2**31}, "max_tokens"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"user": ""}, "user"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": "yes"}, "stream"),
    ({"nvext": {"annotations": "x"}}, "nvext.annotations"),
    ({"nvext": {"token_data": [-1]}}, "nvext.token_data[0]"),
    ({"nvext": {"agent_hints": {"priority": 2**31}}}, "nvext.agent_hints.priority"),
    ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice"),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_json": 5}, "guided_json"),
    ({"guided_json": "not json"}, "guided_json"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"stop_token_ids": [1]}, "stop_token_ids"),
    ({"prompt_logprobs": 1}, "prompt_logprobs"),
]
REFUSED_IN_CHAT: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "pirate", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0]",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 3}, "logprobs"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
    ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"functions": [TOOL["function"]], "function_call": "maybe"}, "function_call"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "response_format"),
    ({"best_of": 2}, "best_of"),
    ({"add_generation_prompt": True}, "add_generation_prompt"),
]
REFUSED_IN_COMPLETIONS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", ""]}, "prompt"),
    ({"prompt": [[1], []]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": [-1]}, "prompt[0]"),
    ({"prompt": ["a"] * 17, "n": 128}, "prompt"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"best_of": 2}, "best_of"),
    ({"suffix": "x"}, "suffix"),
    ({"echo": True, "logprobs": 1}, "echo"),
    ({"echo": True, "prompt": [1, 2]}, "echo"),
]


@pytest.mark.parametrize("members", ACCEPTED_IN_BOTH, ids=str)
def test_accepted_in_both(members: dict[str, Any]) -> None:
    chat_request(**members)
    completion_request(**members)


@pytest.mark.parametrize("members", ACCEPTED_IN_CHAT, ids=str)
def test_accepted_in_chat(members: dict[str, Any]) -> None:
    chat_request(**members)


@pytest.mark.parametrize(("members", "param"), REFUSED_IN_BOTH + REFUSED_IN_CHAT, ids=str)
def test_refused_in_chat(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat_request(**members)
    assert caught.value.param == param
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("members", "param"), REFUSED_IN_BOTH + REFUSED_IN_COMPLETIONS, ids=str)
def test_refused_in_completions(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        completion_request(**members)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", []]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "user": ""}, "user"),
        ({"input": "a", "truncate": True}, "truncate"),
    ],
    ids=str,
)
def test_refused_in_embeddings(members: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_embedding(json.dumps({"model": "m", **members}).encode(), ID)
    assert caught.value.param == param


def test_prompt_embeds_are_not_offered() -> None:
    with pytest.raises(NotImplementedHere):
        completion_request(prompt_embeds="AAAA")


def test_unknown_members_are_listed_together() -> None:
    with pytest.raises(InvalidRequest, match=r"^Unsupported parameter\(s\): zeta, alpha$"):
        chat_request(zeta=1, temperature="wrong too", alpha=2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model": "m", "user": NaN}',
        b'{"model": "\xff"}',
        b'{"nvext":' * 9999,
        b'{"user":"\\ud800"}',
    ],
    ids=range(7),
)
def test_malformed_bodies(body: bytes) -> None:
    for decode in (decode_chat, decode_completion, decode_embedding):
        with pytest.raises(InvalidRequest, match="as JSON"):
            decode(body, ID)


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"x"'])
def test_bodies_that_are_no_objects(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        decode_chat(body, ID)


def test_complaints_name_the_member_and_what_was_expected() -> None:
    complaints: dict[str, dict[str, Any]] = {
        "messages[0].role: Invalid enum value 'x'; allowed are developer, system, user, assistant, tool, function": {
            "messages": [{"role": "x", "content": ""}]
        },
        "max_tokens: Expected int | null, got str": {"max_tokens": "5"},
        "temperature must be at least 0 and at most 2, not 3.0": {"temperature": 3},
        "repetition_penalty must be above 0 and at most 2, not 0.0": {"repetition_penalty": 0},
    }
    for message, members in complaints.items():
        with pytest.raises(ApplianceError) as caught:
            chat_request(**members)
        assert caught.value.message == message


def test_json_formats_become_constraints() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert chat_request(response_format=wanted).guided == Guided(json_schema=json.dumps(schema))
    assert chat_request(response_format={"type": "json_object"}).guided == Guided(json_schema='{"type":"object"}')
    assert chat_request(response_format={"type": "text"}).guided is None
    assert chat_request(guided_json=schema).guided == Guided(json_schema=json.dumps(schema))
    assert chat_request(guided_json=json.dumps(schema)).guided == Guided(json_schema=json.dumps(schema))
    assert chat_request(guided_json=None, guided_choice=["a", "b"]).guided == Guided(choice=("a", "b"))
