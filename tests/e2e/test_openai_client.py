"""The official OpenAI client, unmodified, against the appliance."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import trio

from tests.e2e.appliance_process import Appliance, appliance, eventually
from tests.e2e.test_first_steps import ANSWER, QUESTION


@pytest.fixture(scope="module")
def client(demo: Appliance) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


def test_chat_unary(client: openai.OpenAI, demo: Appliance) -> None:
    answer = client.chat.completions.create(
        model=demo.models[0], messages=[{"role": "user", "content": QUESTION}], temperature=0
    )
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_stream_with_usage(client: openai.OpenAI, demo: Appliance) -> None:
    text, usage, finish = "", None, None
    with client.chat.completions.create(
        model=demo.models[0],
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ) as chunks:
        for chunk in chunks:
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason or finish
            usage = chunk.usage or usage
    assert text == ANSWER
    assert finish == "stop"
    assert usage is not None
    assert usage.completion_tokens > 5


async def test_async_client(demo: Appliance) -> None:
    """The client is asyncio's, so it runs beside trio, in a thread of its own."""

    async def ask() -> str:
        async with openai.AsyncOpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=demo.models[0], messages=[{"role": "user", "content": QUESTION}], temperature=0, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert await trio.to_thread.run_sync(lambda: asyncio.run(ask())) == ANSWER


def test_completion_stream_and_unary_agree(client: openai.OpenAI, demo: Appliance) -> None:
    prompt = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    whole = client.completions.create(model=demo.models[0], prompt=prompt, temperature=0, max_tokens=64)
    chunks = client.completions.create(model=demo.models[0], prompt=prompt, temperature=0, max_tokens=64, stream=True)
    assert whole.choices[0].text == ANSWER
    assert "".join(c.choices[0].text for c in chunks if c.choices) == ANSWER


def test_several_choices_stops_and_logprobs(client: openai.OpenAI, demo: Appliance) -> None:
    answer = client.chat.completions.create(
        model=demo.models[0],
        messages=[{"role": "user", "content": QUESTION}],
        n=2,
        temperature=0.1,
        seed=3,
        stop=[" values"],
        logprobs=True,
        top_logprobs=2,
    )
    assert len(answer.choices) == 2
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        assert " values" not in (choice.message.content or "")
        assert choice.logprobs is not None
        assert choice.logprobs.content
        assert all(len(entry.top_logprobs) == 2 for entry in choice.logprobs.content)


def test_max_tokens_ends_with_length(client: openai.OpenAI, demo: Appliance) -> None:
    answer = client.chat.completions.create(
        model=demo.models[0], messages=[{"role": "user", "content": QUESTION}], max_tokens=3
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_min_tokens_and_ignore_eos(client: openai.OpenAI, demo: Appliance) -> None:
    answer = client.chat.completions.create(
        model=demo.models[0],
        messages=[{"role": "user", "content": "Hi"}],
        max_tokens=80,
        temperature=0,
        extra_body={"nvext": {"ignore_eos": True}},
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 80
    assert answer.choices[0].finish_reason == "length"


def test_json_schema_output_conforms(client: openai.OpenAI, demo: Appliance) -> None:
    answer = client.chat.completions.create(
        model=demo.models[0],
        messages=[{"role": "user", "content": "Pick a colour."}],
        temperature=0,
        max_tokens=40,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "pick", "strict": True, "schema": {"type": "string", "enum": ["red", "green"]}},
        },
    )
    assert answer.choices[0].message.content in {'"red"', '"green"'}


def test_models(client: openai.OpenAI, demo: Appliance) -> None:
    listed = client.models.list().data
    assert [m.id for m in listed] == demo.models
    assert client.models.retrieve(demo.models[0]).created == listed[0].created


def test_wrong_requests_raise_the_matching_exception(client: openai.OpenAI, demo: Appliance) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=demo.models[0], messages=[], temperature=0)
    assert bad.value.param == "messages"
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model=demo.models[0], messages=[{"role": "user", "content": "x"}], temperature=3)
    with pytest.raises(openai.NotFoundError, match=demo.models[0]):
        client.chat.completions.create(model="no/such", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="bogus"):
        client.chat.completions.create(
            model=demo.models[0], messages=[{"role": "user", "content": "x"}], extra_body={"bogus": 1}
        )
    with pytest.raises(openai.BadRequestError, match="context"):
        client.completions.create(model=demo.models[0], prompt="word " * 20_000)


def test_embeddings_and_a_model_name_with_slashes(binary: str | None, tmp_path: Path) -> None:
    args = ("--task", "embed", "--served-model-name", "org/team/embedder")
    with (
        appliance(binary, tmp_path / "state", *args) as one,
        openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0) as client,
    ):
        assert client.models.retrieve("org/team/embedder").id == "org/team/embedder"
        result = client.embeddings.create(model="org/team/embedder", input=["a router", "a planner", "a router"])
        first, second, third = (d.embedding for d in result.data)
        assert first == pytest.approx(third, abs=1e-3)
        assert first != pytest.approx(second, abs=1e-3)
        assert sum(x * x for x in first) == pytest.approx(1.0, abs=1e-3)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="org/team/embedder", messages=[{"role": "user", "content": "x"}])


def test_keys_are_asked_for_and_revoked(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "m") as one:
        secret = one.cli("keys", "create", "laptop", "--json")

        key = json.loads(secret)["key"]
        messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "x"}]
        with (
            openai.OpenAI(base_url=one.url + "/v1", api_key="wrong", max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError),
        ):
            stranger.chat.completions.create(model="m", messages=messages, max_tokens=2)
        with openai.OpenAI(base_url=one.url + "/v1", api_key=key, max_retries=0) as friend:
            assert friend.chat.completions.create(model="m", messages=messages, max_tokens=2).usage
        assert key not in one.cli("keys", "list")
        for file in one.state_dir.rglob("appliance.db*"):
            assert key.encode() not in file.read_bytes()


def test_a_model_that_cannot_start_is_a_503(binary: str | None, tmp_path: Path) -> None:
    with appliance(binary, tmp_path / "state", "--engine", "mocker", "--hold-s", "1", "m") as one:
        one.cli("scale", "worker", "--replicas", "0")
        with openai.OpenAI(base_url=one.url + "/v1", api_key="none", max_retries=0) as client:
            eventually(lambda: one.status()["workers"] == [])
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], max_tokens=1)
            assert caught.value.status_code == 503
            assert caught.value.response.headers["retry-after"]
