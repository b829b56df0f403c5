"""Request bodies translated to the internal request."""

import dis
import json
from typing import Any

import pytest

from appliance.core.generation import EmbeddingRequest
from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import Sampling
from appliance.frontend.protocols.anthropic.decode import decode_messages
from appliance.frontend.protocols.openai.decode import decode_chat, decode_completion, decode_embedding
from appliance.frontend.protocols.responses.decode import decode_responses
from tests.helpers.answers import chat_request, completion_request


def embedding(**members: Any) -> EmbeddingRequest:
    return decode_embedding(json.dumps({"model": "m", **members}).encode(), RequestId("r"))


def test_chat_with_everything_that_has_an_effect() -> None:
    request = chat_request(
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
        temperature=0.5,
        top_k=4,
        logit_bias={"7": 1.5},
        seed=3,
        max_tokens=9,
        max_completion_tokens=10,
        stop="x",
        logprobs=True,
        min_tokens=2,
        user="u",
        nvext={
            "annotations": ["request_id"],
            "extra_fields": ["timing"],
            "agent_hints": {"priority": 5},
            "token_data": [1, 2],
            "use_raw_prompt": True,
        },
    )
    assert request.sampling == Sampling(temperature=0.5, top_k=4, logit_bias={7: 1.5}, seed=3)
    assert (request.max_tokens, request.min_tokens, request.stop, request.logprobs) == (10, 2, ("x",), 0)
    assert (request.stream, request.include_usage, request.continuous_usage) == (True, True, True)
    assert (request.annotations, request.extra_fields, request.priority) == (("request_id",), ("timing",), 5)
    assert (request.token_ids, request.use_raw_prompt, request.user) == ([1, 2], True, "u")


def test_plain_chat_leaves_choices_to_the_model() -> None:
    request = chat_request()
    assert request.messages == [{"role": "user", "content": "hi"}]
    assert request.sampling == Sampling()
    assert (request.max_tokens, request.n, request.logprobs, request.guided, request.tools) == (
        None,
        1,
        None,
        None,
        None,
    )
    assert request.skip_special_tokens


def test_alternatives_without_logprobs_have_no_effect() -> None:
    assert chat_request(top_logprobs=5).logprobs is None
    assert chat_request(logprobs=True, top_logprobs=5).logprobs == 5


def test_greed_sampling_wins_over_temperature() -> None:
    assert chat_request(temperature=1.5, nvext={"greed_sampling": True}).sampling.temperature == 0


def test_messages_as_templates_want_them() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": 2}'}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "t"}], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "x", "function_call": {"name": "g", "arguments": "not json"}},
    ]
    assert chat_request(messages=turns).messages == [
        turns[0],
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": 2}}}],
            "reasoning_content": "hm",
        },
        turns[2],
        {
            "role": "assistant",
            "content": "x",
            "tool_calls": [{"type": "function", "function": {"name": "g", "arguments": "not json"}}],
        },
    ]


def test_tools_and_the_choice_among_them() -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}
    tools = [{"type": "function", "function": function}]
    assert chat_request(tools=tools).tools == tools
    assert chat_request(functions=[function]).tools == tools
    assert chat_request(tools=tools).tool_choice == "auto"
    assert chat_request(tools=tools, tool_choice="none").tool_choice == "none"
    assert chat_request(tools=tools, tool_choice="required").tool_choice == "required"
    named = {"type": "function", "function": {"name": "f"}}
    assert chat_request(tools=tools, tool_choice=named).tool_choice == "function:f"
    assert chat_request(functions=[function], function_call={"name": "f"}).tool_choice == "function:f"
    assert chat_request(functions=[function], function_call="none").tool_choice == "none"
    assert chat_request(tools=tools).parallel_tool_calls
    assert not chat_request(tools=tools, parallel_tool_calls=False).parallel_tool_calls
    assert chat_request(reasoning_effort="none").thinking is False
    assert chat_request(reasoning_effort="low").thinking is None
    assert chat_request(tools=[]).tools is None


def test_template_args_of_both_names_and_reasoning_effort() -> None:
    request = chat_request(chat_template_args={"a": 1}, chat_template_kwargs={"b": 2}, reasoning_effort="low")
    assert request.template_args == {"a": 1, "b": 2, "reasoning_effort": "low"}
    assert chat_request(chat_template_args={"reasoning_effort": "max"}, reasoning_effort="low").template_args == {
        "reasoning_effort": "max"
    }


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
    ids=str,
)
def test_prompt_forms(prompt: Any, prompts: list[Any]) -> None:
    assert completion_request(prompt=prompt).prompts == prompts
    assert embedding(input=prompt).inputs == prompts


def test_integers_among_stop_strings_are_token_ids() -> None:
    request = completion_request(stop=["a", 5, "b"])
    assert (request.stop, request.stop_token_ids) == (("a", "b"), (5,))


def test_completion_members() -> None:
    request = completion_request(echo=True, max_tokens=3, n=2, best_of=2, suffix="")
    assert (request.echo, request.max_tokens, request.n, request.logprobs) == (True, 3, 2, None)
    assert completion_request(logprobs=0).logprobs == 0


def test_embedding_members() -> None:
    request = embedding(input="a", encoding_format="base64", dimensions=8, user="u", nvext={})
    assert request == EmbeddingRequest(id=RequestId("r"), model=ModelName("m"), inputs=["a"], base64=True, dimensions=8)
    assert not embedding(input="a", encoding_format="float").base64


@pytest.mark.parametrize("decode", [decode_chat, decode_completion, decode_responses, decode_messages])
def test_requests_are_made_by_calls_without_a_dict(decode: Any) -> None:
    """Python makes a dict of more than 15 keywords, at the price of decoding a short body."""
    assert "CALL_FUNCTION_EX" not in {step.opname for step in dis.get_instructions(decode)}
