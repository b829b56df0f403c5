"""The remote engine against a stand-in for an OpenAI server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from appliance.core.errors import ApplianceError, EngineFailed, InvalidRequest, ModelFileBad, UsageError
from appliance.core.identity import ModelName, RequestId
from appliance.core.model_facts import EngineOptions
from appliance.core.requests import EngineRequest, StopConditions
from appliance.engines.http.connection import ServerLost
from appliance.engines.remote import RemoteEngine
from tests.fakes.engines.fake_openai import FakeOpenAi
from tests.fakes.engines.serving import serve
from tests.helpers.engines import CollectingSink, answer, running
from tests.helpers.threaded_http import serving_in_thread
from tests.helpers.waiting import until


@asynccontextmanager
async def server(**switches: Any) -> AsyncIterator[tuple[FakeOpenAi, str]]:
    fake = FakeOpenAi(models=["tiny", "other"], **switches)
    with serving_in_thread(serve(0, fake.routes())) as listening, trio.fail_after(20):
        yield fake, f"http://127.0.0.1:{listening.server_address[1]}/v1"


def remote(url: str, model: str = "tiny", **args: str) -> RemoteEngine:
    return RemoteEngine(model, EngineOptions(served_name="here", args={"url": url, **args}))


def ask(text: str, **fields: Any) -> EngineRequest:
    stop = StopConditions(max_tokens=fields.pop("max_tokens", 1 << 20))
    messages = [{"role": "user", "content": text}]
    return EngineRequest(id=RequestId("r"), model=ModelName("here"), messages=messages, stop=stop, **fields)


async def test_text_comes_back_with_the_servers_counts() -> None:
    async with server() as (fake, url), running(engine := remote(url)) as card:
        assert (card.io, card.context_length, card.name) == ("text", 4096, "here")
        sink = await answer(engine, ask("hi there"))
        assert (sink.said, sink.finish) == ("you said: hi there", "stop")
        assert sink.usage is not None
        assert (sink.usage.prompt_tokens, sink.usage.completion_tokens, len(sink.token_ids)) == (11, 40, 40)
        assert fake.bodies[0]["model"] == "tiny"


async def test_a_server_that_does_not_stream_is_read_too() -> None:
    async with server() as (_, url), running(engine := remote(url)):
        assert (await answer(engine, ask("json please"))).said == "you said: json please"


@pytest.mark.parametrize(("text", "kind"), [("too long", InvalidRequest), ("explode", EngineFailed)])
async def test_refusals_are_told_in_our_words(text: str, kind: type[ApplianceError]) -> None:
    async with server() as (_, url), running(engine := remote(url)):
        with pytest.raises(kind) as caught:
            await answer(engine, ask(text))
        assert "/secret" not in str(caught.value)


async def test_an_error_in_the_middle_ends_the_stream_with_it() -> None:
    async with server(fail_after=2) as (_, url), running(engine := remote(url)):
        sink = CollectingSink()
        with pytest.raises(EngineFailed):
            await engine.generate(ask("one two three"), sink)
        assert (sink.finish, bool(sink.said)) == (None, True)


async def test_cancelling_disconnects_from_the_server() -> None:
    async with server(step_s=0.01) as (fake, url), running(engine := remote(url)):
        sink = CollectingSink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.generate, ask("word " * 500), sink)
            await sink.first.wait()
            nursery.cancel_scope.cancel()
        await until(lambda: fake.cut_off, deadline_s=10)
        assert (await answer(engine, ask("again"))).said == "you said: again"


async def test_draining_lets_streams_end_and_closing_fails_them() -> None:
    async with server(step_s=0.01) as (_, url):
        async with running(engine := remote(url)):
            sink = CollectingSink()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.generate, ask("a b c"), sink)
                await sink.first.wait()
                await engine.drain()
            assert sink.finish == "stop"
            with pytest.raises(EngineFailed, match="draining"):
                await answer(engine, ask("x"))
        async with running(engine := remote(url)):
            sink = CollectingSink()

            async def close_early() -> None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(engine.generate, ask("word " * 500), sink)
                    await sink.first.wait()
                    await engine.close()

            with pytest.raises(ExceptionGroup) as caught:
                await close_early()
            assert caught.group_contains(EngineFailed, match="closed")


async def test_a_name_that_the_server_does_not_list_is_refused_with_those_it_has() -> None:
    async with server() as (_, url):
        engine = remote(url, "nope")
        with pytest.raises(ModelFileBad, match="no model 'nope'; it has tiny, other"):
            await engine.start(lambda fraction, text: None)
        await engine.close()


async def test_a_server_that_goes_away_ends_the_engine() -> None:
    async with server() as (_, url):
        engine = remote(url, health_every_s="0.05")
        await engine.start(lambda fraction, text: None)
    await engine._client.close()  # the stand-in's threads would go on serving the connection that is open
    with trio.fail_after(10), pytest.raises(EngineFailed, match="is gone"):
        await engine.run()
    with pytest.raises(ServerLost):
        await answer(engine, ask("hi"))
    await engine.close()


async def test_wrong_arguments_are_named() -> None:
    for args, words in (({}, "--engine-url"), ({"url": "http://x", "colour": "red"}, "colour")):
        with pytest.raises(UsageError, match=words):
            RemoteEngine("m", EngineOptions(served_name="m", args=args))
