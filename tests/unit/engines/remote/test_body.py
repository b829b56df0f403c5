"""What an OpenAI server is asked."""

from typing import Any

import pytest

from appliance.core.errors import InvalidRequest
from appliance.core.identity import ModelName, RequestId
from appliance.core.requests import EngineRequest, Guided, KvTransfer, Sampling, StopConditions
from appliance.engines.remote.body import text_body

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def body_of(*, finds_calls: bool = True, **fields: Any) -> tuple[str, dict[str, Any]]:
    stop = StopConditions(max_tokens=fields.pop("max_tokens", 8))
    fields.setdefault("messages", [{"role": "user", "content": "hi"}])
    request = EngineRequest(id=RequestId("r"), model=ModelName("here"), stop=stop, **fields)
    return text_body(request, model="there", context=100, server_finds_calls=finds_calls)


def test_a_chat_goes_out_as_it_is() -> None:
    path, body = body_of(sampling=Sampling(temperature=0.5, seed=3, logit_bias={5: 1.0}))
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "there",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "seed": 3,
        "logit_bias": {"5": 1.0},
        "max_tokens": 8,
    }


def test_a_limit_that_is_the_whole_context_is_none() -> None:
    assert "max_tokens" not in body_of(max_tokens=100)[1]


def test_a_prompt_is_a_plain_completion() -> None:
    path, body = body_of(messages=None, text="once")
    assert (path, body["prompt"]) == ("/v1/completions", "once")


@pytest.mark.parametrize(
    ("finds_calls", "guided", "choice"),
    [(True, None, "auto"), (False, None, "none"), (True, Guided(json_schema='{"type":"object"}'), "none")],
)
def test_who_finds_the_calls_is_said(finds_calls: bool, guided: Guided | None, choice: str) -> None:
    _, body = body_of(finds_calls=finds_calls, tools=TOOLS, guided=guided)
    assert (body["tools"], body["tool_choice"]) == (TOOLS, choice)
    assert ("response_format" in body) == (guided is not None)


@pytest.mark.parametrize(
    "fields", [{"logprobs": 1}, {"guided": Guided(regex="a")}, {"kv_transfer": KvTransfer(phase="prefill")}]
)
def test_what_cannot_be_asked_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        body_of(**fields)
