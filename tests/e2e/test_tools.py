"""Tools, reasoning and structured answers with the official OpenAI client."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.e2e.appliance_process import Appliance, appliance

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "%s"}}\n</tool_call>'
SAID = f"<think>Two cities.</think>Looking.{CALL % 'Rome'}{CALL % 'Oslo'}"
MOCKER = ("--engine", "mocker", "--engine-arg", f"text={SAID}", "--engine-arg", "step_ms=0", "m")
PARSERS = ("--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}, "days": {"enum": [1, 2]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NOW: ChatCompletionToolParam = {"type": "function", "function": {"name": "now"}}
QUESTION: ChatCompletionMessageParam = {"role": "user", "content": "How is the weather in Rome and Oslo?"}


@pytest.fixture(scope="module")
def mocked(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of a mocker that always says the same: reasoning, text and two calls."""
    with (
        appliance(binary, tmp_path_factory.mktemp("tools") / "state", *MOCKER, *PARSERS) as one,
        openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client(demo: Appliance) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


def test_a_round_trip_of_two_turns(mocked: openai.OpenAI) -> None:
    messages = [QUESTION]
    [choice] = mocked.chat.completions.create(model="m", messages=messages, tools=[WEATHER]).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Looking."
    assert choice.message.model_dump()["reasoning_content"] == "Two cities."
    assert choice.message.tool_calls is not None
    asked = {call.id: json.loads(call.function.arguments) for call in choice.message.tool_calls}  # type: ignore[union-attr]  # no custom tools
    assert list(asked.values()) == [{"city": "Rome"}, {"city": "Oslo"}]
    turn: Any = choice.message.model_dump(exclude_none=True)
    answers: list[ChatCompletionMessageParam] = [
        {"role": "tool", "tool_call_id": id_, "content": "sunny"} for id_ in asked
    ]
    second = mocked.chat.completions.create(model="m", messages=[*messages, turn, *answers], tools=[WEATHER])
    assert second.usage is not None
    assert second.usage.completion_tokens_details is not None
    assert second.usage.completion_tokens_details.reasoning_tokens


def test_streamed_calls_add_up_to_the_whole_ones(mocked: openai.OpenAI) -> None:
    with mocked.chat.completions.stream(model="m", messages=[QUESTION], tools=[WEATHER]) as stream:
        for _ in stream:
            pass
        [choice] = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Looking."
    assert choice.message.tool_calls is not None
    assert [call.function.name for call in choice.message.tool_calls] == ["weather", "weather"]
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_one_call_at_a_time(mocked: openai.OpenAI) -> None:
    answer = mocked.chat.completions.create(model="m", messages=[QUESTION], tools=[WEATHER], parallel_tool_calls=False)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls is not None
    assert len(answer.choices[0].message.tool_calls) == 1


def test_markup_is_text_when_no_call_is_wanted(mocked: openai.OpenAI) -> None:
    for members in ({"tools": [WEATHER], "tool_choice": "none"}, {}):
        [choice] = mocked.chat.completions.create(model="m", messages=[QUESTION], **members).choices  # type: ignore[call-overload]  # members of either kind
        assert choice.message.content == SAID.partition("</think>")[2]
        assert choice.message.tool_calls is None
        assert choice.finish_reason == "stop"


def test_what_cannot_be_demanded(mocked: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot follow a grammar"):
        mocked.chat.completions.create(model="m", messages=[QUESTION], tools=[WEATHER], tool_choice="required")
    with pytest.raises(openai.BadRequestError, match="tool_choice") as caught:
        mocked.chat.completions.create(
            model="m",
            messages=[QUESTION],
            tools=[WEATHER],
            tool_choice={"type": "function", "function": {"name": "snow"}},
        )
    assert caught.value.param == "tool_choice"


def test_demanded_calls_of_the_embedded_model(client: openai.OpenAI, demo: Appliance) -> None:
    answer = client.chat.completions.create(
        model=demo.models[0],
        messages=[QUESTION],
        tools=[WEATHER, NOW],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=200,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls is not None
    [call] = answer.choices[0].message.tool_calls
    assert call.type == "function"
    assert call.function.name in ("weather", "now")
    assert isinstance(json.loads(call.function.arguments), dict)


def test_a_named_function_of_the_embedded_model(client: openai.OpenAI, demo: Appliance) -> None:
    with client.chat.completions.stream(
        model=demo.models[0],
        messages=[QUESTION],
        tools=[NOW, WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=200,
    ) as stream:
        [choice] = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")


class Pick(BaseModel):
    """A bounded answer: every member has few values."""

    colour: Literal["red", "green"]
    size: Literal[1, 2, 3]
    glossy: bool


def test_structured_answers_are_parsed_by_the_client(client: openai.OpenAI, demo: Appliance) -> None:
    answer = client.chat.completions.parse(
        model=demo.models[0],
        messages=[{"role": "user", "content": "Pick a colour."}],
        response_format=Pick,
        max_tokens=100,
    )
    assert isinstance(answer.choices[0].message.parsed, Pick)


def test_unknown_parsers_are_refused_at_the_start(binary: str | None, demo: Appliance) -> None:
    done = demo.run("serve", "--engine", "mocker", "--tool-call-parser", "hermess", "m")
    assert done.returncode in (1, 2)
    assert "did you mean 'hermes'?" in done.stderr
