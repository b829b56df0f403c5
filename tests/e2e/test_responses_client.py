"""The official OpenAI client on `/v1/responses`, unmodified, against the appliance."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseReasoningItem, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.e2e.appliance_process import Appliance, appliance
from tests.e2e.test_first_steps import ANSWER, QUESTION

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SCRIPT = (
    "<think>Let me see.</think>Looking."
    '<tool_call>{"name": "weather", "arguments": {"city": "Bonn"}}</tool_call>'
    '<tool_call>{"name": "clock", "arguments": {"zone": "CET"}}</tool_call>'
)
TOOLS: list[Any] = [
    {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
    for name in ("weather", "clock")
]


class Mood(BaseModel):
    """What the model is asked to fill in; it has no other way to do so."""

    mood: Literal["calm"]
    sure: bool


@pytest.fixture(scope="module")
def client(demo: Appliance) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def scripted(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of an appliance that always says the script."""
    args = ("--engine", "mocker", "--engine-arg", f"text={SCRIPT}")
    parsers = ("--reasoning-parser", "basic", "--tool-call-parser", "hermes")
    with (
        appliance(binary, tmp_path_factory.mktemp("scripted") / "state", *args, *parsers, "m") as one,
        openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0, timeout=60) as made,
    ):
        yield made


def texts(response: Response) -> list[tuple[str, str]]:
    """Kind and content of each output item."""
    shown = []
    for item in response.output:
        if isinstance(item, ResponseFunctionToolCall):
            shown.append((item.name, item.arguments))
        elif isinstance(item, ResponseReasoningItem):
            shown.append(("reasoning", item.summary[0].text))
        else:
            assert item.type == "message"
            part = item.content[0]
            assert part.type == "output_text"
            shown.append(("message", part.text))
    return shown


SCRIPTED_ITEMS = [
    ("reasoning", "Let me see."),
    ("message", "Looking."),
    ("weather", '{"city":"Bonn"}'),
    ("clock", '{"zone":"CET"}'),
]


def test_unary(client: openai.OpenAI, demo: Appliance) -> None:
    response = client.responses.create(model=demo.models[0], input=QUESTION, temperature=0)
    assert response.output_text == ANSWER
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_stream_helper(client: openai.OpenAI, demo: Appliance) -> None:
    with client.responses.stream(model=demo.models[0], input=QUESTION, temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == ANSWER
    assert len(deltas) > 1


def test_a_conversation_goes_on_with_what_was_answered(client: openai.OpenAI, demo: Appliance) -> None:
    first = client.responses.create(model=demo.models[0], input=QUESTION, temperature=0)
    history: list[Any] = [{"role": "user", "content": QUESTION}, *(item.model_dump() for item in first.output)]
    again = client.responses.create(
        model=demo.models[0],
        input=[*history, {"role": "user", "content": QUESTION}],
        instructions="Be brief.",
        max_output_tokens=4,
    )
    assert first.usage is not None
    assert again.usage is not None
    assert again.usage.input_tokens > 2 * first.usage.input_tokens
    assert (again.status, again.incomplete_details and again.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )


def test_parse_gives_an_object(client: openai.OpenAI, demo: Appliance) -> None:
    response = client.responses.parse(model=demo.models[0], input="How are you?", text_format=Mood, temperature=0)
    assert response.output_parsed is not None
    assert response.output_parsed.mood == "calm"


def test_logprobs(client: openai.OpenAI, demo: Appliance) -> None:
    response = client.responses.create(
        model=demo.models[0],
        input=QUESTION,
        temperature=0,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
        max_output_tokens=5,
    )
    item = response.output[0]
    assert item.type == "message"
    part = item.content[0]
    assert part.type == "output_text"
    assert part.logprobs
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)
    assert "".join(entry.token for entry in part.logprobs) == part.text


def test_reasoning_and_calls(scripted: openai.OpenAI) -> None:
    response = scripted.responses.create(model="m", input="x", tools=TOOLS)
    assert texts(response) == SCRIPTED_ITEMS
    assert response.usage is not None
    assert 0 < response.usage.output_tokens_details.reasoning_tokens < response.usage.output_tokens


def test_every_streamed_event_is_of_a_published_type(scripted: openai.OpenAI) -> None:
    events = list(scripted.responses.create(model="m", input="x", tools=TOOLS, stream=True))
    for number, event in enumerate(events):
        assert EVENT.validate_json(event.to_json()).sequence_number == number
    last = events[-1]
    assert last.type == "response.completed"
    assert texts(last.response) == SCRIPTED_ITEMS


def test_stream_helper_with_calls(scripted: openai.OpenAI) -> None:
    with scripted.responses.stream(model="m", input="x", tools=TOOLS) as stream:
        arguments = [e.arguments for e in stream if e.type == "response.function_call_arguments.done"]
        final = stream.get_final_response()
    assert [json.loads(each) for each in arguments] == [{"city": "Bonn"}, {"zone": "CET"}]
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]


def test_calls_can_be_forbidden_and_limited(scripted: openai.OpenAI) -> None:
    forbidden = scripted.responses.create(model="m", input="x", tools=TOOLS, tool_choice="none")
    assert [item.type for item in forbidden.output] == ["reasoning", "message"]
    one = scripted.responses.create(model="m", input="x", tools=TOOLS, parallel_tool_calls=False)
    assert texts(one) == SCRIPTED_ITEMS[:3]


def test_a_demanded_call(client: openai.OpenAI, demo: Appliance) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"city": {"enum": ["Bonn"]}}, "required": ["city"]}
    response = client.responses.create(
        model=demo.models[0],
        input="How is the weather?",
        tools=[{"type": "function", "name": "weather", "parameters": schema, "strict": True}],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
    )
    assert texts(response) == [("weather", '{"city":"Bonn"}')]


def test_wrong_requests_raise_the_matching_exception(client: openai.OpenAI, demo: Appliance) -> None:
    model = demo.models[0]
    textless: list[Any] = [{"role": "user", "content": [{"type": "input_text"}]}]
    with pytest.raises(openai.BadRequestError) as bad:
        client.responses.create(model=model, input=textless)
    assert bad.value.param == "input[0].content[0].text"
    with pytest.raises(openai.BadRequestError, match="bogus, other"):
        client.responses.create(model=model, input="x", extra_body={"bogus": 1, "other": 2})
    with pytest.raises(openai.NotFoundError, match=model):
        client.responses.create(model="no/such", input="x")
    with pytest.raises(openai.APIStatusError) as stored:
        client.responses.create(model=model, input="x", previous_response_id="resp_1")
    assert (stored.value.status_code, stored.value.param) == (501, "previous_response_id")
    with pytest.raises(openai.BadRequestError, match="context"):
        client.responses.create(model=model, input="word " * 20_000)


def test_a_fault_in_the_middle_is_an_error_and_a_failed_response(binary: str | None, tmp_path: Path) -> None:
    args = ("--engine", "mocker", "--engine-arg", "fail_after=3", "--migration-limit", "0", "m")
    with (
        appliance(binary, tmp_path / "state", *args) as one,
        openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        events = list(client.responses.create(model="m", input="x", stream=True))
        error, last = events[-2:]
        assert error.type == "error"
        assert last.type == "response.failed"
        assert last.response.status == "failed"
        assert last.response.error is not None
        assert last.response.error.code == "server_error"
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert last.response.output_text == text != ""
        with pytest.raises(openai.InternalServerError):
            client.responses.create(model="m", input="x")
