"""The official Anthropic client, unmodified, against the appliance."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam

from tests.e2e.appliance_process import Appliance, appliance
from tests.e2e.test_first_steps import ANSWER, QUESTION

ASK: list[MessageParam] = [{"role": "user", "content": QUESTION}]
GREEDY = {"temperature": 0}
WEATHER: ToolParam = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}
SCRIPT = (
    "<think>Both towns.</think>\n\n"
    '<tool_call>\n{"name": "weather", "arguments": {"at": "Oslo"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "weather", "arguments": {"at": "Bergen", "days": 2}}\n</tool_call>'
)
KINDS = ["thinking", "text", "tool_use", "text", "tool_use"]


def connect(one: Appliance, api_key: str = "none", **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=one.url, api_key=api_key, max_retries=0, timeout=60, **options)


@pytest.fixture(scope="module")
def client(demo: Appliance) -> Iterator[anthropic.Anthropic]:
    with connect(demo) as made:
        yield made


@pytest.fixture(scope="module")
def agent(binary: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """A model that thinks and calls two tools, whatever is said to it."""
    parsers = ("--tool-call-parser", "hermes", "--reasoning-parser", "basic")
    script = ("--engine", "mocker", "--engine-arg", "step_ms=1", "--engine-arg", f"text={SCRIPT}")
    with appliance(binary, tmp_path_factory.mktemp("agent") / "state", *script, *parsers, "agent") as one:
        yield one


def test_message(client: anthropic.Anthropic, demo: Appliance) -> None:
    answer = client.messages.create(model=demo.models[0], max_tokens=64, messages=ASK, extra_body=GREEDY)
    assert [block.to_dict() for block in answer.content] == [{"type": "text", "text": ANSWER}]
    assert (answer.role, answer.model, answer.stop_reason) == ("assistant", demo.models[0], "end_turn")
    assert answer.id.startswith("msg_")
    assert answer.usage.output_tokens > 5


def test_stream_helper(client: anthropic.Anthropic, demo: Appliance) -> None:
    with client.messages.stream(model=demo.models[0], max_tokens=64, messages=ASK, extra_body=GREEDY) as stream:
        assert "".join(stream.text_stream) == ANSWER
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("end_turn", None)
    assert final.usage.output_tokens > 5


def test_raw_stream_has_the_published_order(client: anthropic.Anthropic, demo: Appliance) -> None:
    with client.messages.create(
        model=demo.models[0], max_tokens=64, messages=ASK, extra_body=GREEDY, stream=True
    ) as events:
        kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def ask_async(one: Appliance) -> tuple[str, str]:
    async with anthropic.AsyncAnthropic(base_url=one.url, api_key="none", max_retries=0) as made:
        whole = await made.messages.create(model=one.models[0], max_tokens=64, messages=ASK, extra_body=GREEDY)
        async with made.messages.stream(model=one.models[0], max_tokens=64, messages=ASK, extra_body=GREEDY) as stream:
            return whole.to_json(), await stream.get_final_text()


async def test_async_client(demo: Appliance) -> None:
    whole, streamed = await ask_async(demo)
    assert json.loads(whole)["content"][0]["text"] == streamed == ANSWER


def test_limits_and_stop_sequences(client: anthropic.Anthropic, demo: Appliance) -> None:
    short = client.messages.create(model=demo.models[0], max_tokens=3, messages=ASK)
    assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 3)
    stopped = client.messages.create(
        model=demo.models[0], max_tokens=64, messages=ASK, stop_sequences=["never", " values"], extra_body=GREEDY
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " values")
    assert stopped.content[0].to_dict() == {"type": "text", "text": ANSWER.partition(" values")[0]}


def test_counted_tokens_are_those_of_the_prompt(client: anthropic.Anthropic, demo: Appliance) -> None:
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    prompt: Any = {"model": demo.models[0], "messages": ASK, "system": system}
    counted = client.messages.count_tokens(**prompt).input_tokens
    usage = client.messages.create(max_tokens=1, **prompt).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert counted > client.messages.count_tokens(model=demo.models[0], messages=ASK).input_tokens
    huge = client.messages.count_tokens(model=demo.models[0], messages=[{"role": "user", "content": "word " * 20_000}])
    assert huge.input_tokens >= 20_000


def test_structured_output_conforms(client: anthropic.Anthropic, demo: Appliance) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    answer = client.messages.create(
        model=demo.models[0],
        max_tokens=64,
        messages=ASK,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    (block,) = answer.content
    assert block.type == "text"
    assert isinstance(json.loads(block.text)["ok"], bool)


def test_models(client: anthropic.Anthropic, demo: Appliance) -> None:
    assert [model.id for model in client.models.list()] == demo.models
    assert client.models.retrieve(demo.models[0]).type == "model"


def test_thinking_and_two_calls(agent: Appliance) -> None:
    with connect(agent) as client:
        wanted: Any = {"model": "agent", "max_tokens": 500, "messages": ASK, "tools": [WEATHER]}
        whole = client.messages.create(thinking={"type": "enabled", "budget_tokens": 1024}, **wanted)
        with client.messages.stream(**wanted) as stream:
            streamed = stream.get_final_message()
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    assert [block.type for block in whole.content] == [block.type for block in streamed.content] == KINDS
    assert whole.content[0].to_dict() == {"type": "thinking", "thinking": "Both towns.", "signature": "erased"}
    inputs = [block.input for block in streamed.content if block.type == "tool_use"]
    assert inputs == [{"at": "Oslo"}, {"at": "Bergen", "days": 2}]


def test_tool_results_go_back_in_a_second_turn(agent: Appliance) -> None:
    with connect(agent) as client:
        first = client.messages.create(model="agent", max_tokens=500, messages=ASK, tools=[WEATHER])
        results: list[ToolResultBlockParam] = [
            {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "rain " * 50}]}
            for block in first.content
            if block.type == "tool_use"
        ]
        turns: list[MessageParam] = [*ASK, first.to_param(), {"role": "user", "content": results}]
        second = client.messages.create(model="agent", max_tokens=500, messages=turns, tools=[WEATHER])
        counted = client.messages.count_tokens(model="agent", messages=turns, tools=[WEATHER]).input_tokens
    assert len(results) == 2
    assert counted == second.usage.input_tokens + (second.usage.cache_read_input_tokens or 0)
    assert counted > first.usage.input_tokens + 100
    assert second.stop_reason == "tool_use"


def test_only_one_call_when_parallel_ones_are_off(agent: Appliance) -> None:
    with connect(agent) as client:
        answer = client.messages.create(
            model="agent",
            max_tokens=500,
            messages=ASK,
            tools=[WEATHER],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        )
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use"]
    assert answer.stop_reason == "tool_use"


def test_demanded_call_is_made(client: anthropic.Anthropic, demo: Appliance) -> None:
    town = {"type": "string", "enum": ["Oslo", "Bergen"]}  # the demo model would not end a free text
    choose: ToolParam = {
        "name": "choose",
        "input_schema": {"type": "object", "properties": {"town": town}, "required": ["town"]},
    }
    answer = client.messages.create(
        model=demo.models[0],
        max_tokens=200,
        messages=ASK,
        tools=[WEATHER, choose],
        tool_choice={"type": "tool", "name": "choose"},
    )
    (block,) = answer.content
    assert block.type == "tool_use"
    assert (block.name, block.input["town"] in ("Oslo", "Bergen")) == ("choose", True)
    assert answer.stop_reason == "tool_use"


def test_wrong_requests_raise_the_matching_exception(client: anthropic.Anthropic, demo: Appliance) -> None:
    def ask(model: str = demo.models[0], **more: Any) -> None:
        client.messages.create(**{"model": model, "max_tokens": 5, "messages": ASK, **more})

    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        ask(max_tokens=0)
    with pytest.raises(anthropic.BadRequestError, match="bogus, other"):
        ask(extra_body={"bogus": 1, "other": 2})
    with pytest.raises(anthropic.BadRequestError, match="context"):
        ask(messages=[{"role": "user", "content": "word " * 20_000}])
    with pytest.raises(anthropic.NotFoundError, match=demo.models[0]) as missing:
        ask("no/such")
    assert missing.value.type == "not_found_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="no/such", messages=ASK)


def test_keys(binary: str | None, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret-key-of-this-test\n")
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "--api-key-file", str(keys), "m") as one:
        with connect(one, api_key="wrong") as client, pytest.raises(anthropic.AuthenticationError):
            client.messages.create(model="m", max_tokens=3, messages=ASK)
        with connect(one, api_key="secret-key-of-this-test") as client:
            assert client.messages.create(model="m", max_tokens=3, messages=ASK).usage.output_tokens == 3


def test_cold_model_is_unavailable_but_its_tokens_are_estimated(binary: str | None, tmp_path: Path) -> None:
    cold = ("--engine", "mocker", "--replicas", "0", "--hold-s", "0.1", "m")
    with appliance(binary, tmp_path / "state", *cold) as one, connect(one) as client:
        with pytest.raises(anthropic.ServiceUnavailableError) as failed:
            client.messages.create(model="m", max_tokens=3, messages=ASK)
        assert failed.value.type == "overloaded_error"
        assert failed.value.response.headers["retry-after"]
        counted = client.messages.count_tokens(model="m", messages=ASK)
        assert counted.input_tokens == len("user" + QUESTION) // 3


def test_the_api_can_be_turned_off(binary: str | None, tmp_path: Path) -> None:
    with (
        appliance(binary, tmp_path / "state", "--engine", "mocker", "--no-enable-anthropic-api", "m") as one,
        connect(one) as client,
    ):
        with pytest.raises(anthropic.NotFoundError, match="turned off"):
            client.messages.create(model="m", max_tokens=3, messages=ASK)
        assert one.chat("m", "x", max_tokens=2)["usage"]["completion_tokens"] == 2


def test_error_inside_a_stream_is_raised(binary: str | None, tmp_path: Path) -> None:
    failing = ("--engine", "mocker", "--engine-arg", "fail_after=3", "--migration-limit", "0", "m")
    with appliance(binary, tmp_path / "state", *failing) as one, connect(one) as client:
        with pytest.raises(anthropic.APIStatusError) as failed:
            list(client.messages.create(model="m", max_tokens=9, messages=ASK, stream=True))
        assert failed.value.status_code == 200
        assert failed.value.type == "api_error"
