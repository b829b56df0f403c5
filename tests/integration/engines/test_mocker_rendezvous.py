"""Two mocker engines that meet over TCP, as the halves of a split request do."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio

from appliance.core.errors import EngineFailed, InvalidRequest, WorkerLost
from appliance.core.model_facts import EngineOptions
from appliance.core.requests import EngineRequest, KvTransfer, ModelCard, Sampling
from appliance.engines.mocker import MockerEngine
from tests.helpers.engines import CollectingSink, answer, demo_facts, make_request, running
from tests.helpers.waiting import until

PROMPT = list(range(1000, 1100))
HALVES = {"step_ms": "0", "bootstrap_port": "0"}
SLOW = {"kv_bytes_per_token": "2000000000"}


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    with trio.fail_after(20):
        yield


def make(mode: str, **args: str) -> MockerEngine:
    return MockerEngine(demo_facts(), EngineOptions(served_name="m", args={"disaggregation_mode": mode, **args}))


def halves(card: ModelCard, room: int = 77) -> tuple[EngineRequest, EngineRequest]:
    """What a prefill and a decode worker are asked for."""
    there: dict[str, Any] = {
        "bootstrap_host": card.bootstrap_host,
        "bootstrap_port": card.bootstrap_port,
        "bootstrap_room": room,
    }
    sampling = Sampling(seed=3)
    first = make_request(PROMPT, max_tokens=1, sampling=sampling, kv_transfer=KvTransfer(phase="prefill", **there))
    rest = make_request(PROMPT, max_tokens=9, sampling=sampling, kv_transfer=KvTransfer(phase="decode", **there))
    return first, rest


@pytest.mark.parametrize("first", ["prefill", "decode"])
async def test_halves_meet_and_decode_computes_no_prompt(first: str) -> None:
    prefill, decode, whole = make("prefill", **HALVES), make("decode", **HALVES), make("agg", **HALVES)
    async with running(prefill) as card, running(decode) as other, running(whole) as third:
        assert (card.bootstrap_host, other.bootstrap_port, third.bootstrap_port) == ("127.0.0.1", 0, 0)
        one, two = halves(card)
        if first == "prefill":
            half = await answer(prefill, one)
            rest = await answer(decode, two)
        else:
            rest = CollectingSink()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(decode.generate, two, rest)
                await until(lambda: prefill._rendezvous.rooms)
                assert rest.calls == 0
                half = await answer(prefill, one)
        assert (half.finish, rest.finish, len(rest.token_ids)) == ("length", "length", 9)
        undivided = await answer(whole, make_request(PROMPT, max_tokens=9, sampling=Sampling(seed=3)))
        assert rest.token_ids == undivided.token_ids
        assert len(prefill._rendezvous.rooms) == 0


async def test_lost_halves_are_errors_that_may_be_tried_again() -> None:
    """Cancelled, closed, not there any more, never there: what a decode half is told of its prefill half."""
    prefill, decode = make("prefill", **HALVES, **SLOW), make("decode", **HALVES)
    async with running(decode):
        async with running(prefill) as card:
            one, two = halves(card)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loses, decode, two, "prefill failed")
                async with trio.open_nursery() as other:
                    other.start_soon(prefill.generate, one, CollectingSink())
                    await until(lambda: decode._rendezvous._fetching and prefill._rendezvous.rooms)
                    other.cancel_scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(loses, decode, halves(card, room=78)[1], "the prefill worker is gone")
                await until(lambda: prefill._rendezvous.rooms)
                await prefill.close()
        await loses(decode, two, "Connection refused|no connection")


async def loses(engine: MockerEngine, request: EngineRequest, reason: str) -> None:
    with pytest.raises(WorkerLost, match=reason) as caught:
        await answer(engine, request)
    assert caught.value.retryable


async def test_closing_and_cancelling_end_a_decode_that_waits() -> None:
    prefill, decode = make("prefill", **HALVES), make("decode", **HALVES)
    async with running(prefill) as card, running(decode):
        _, two = halves(card)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, decode, two)
            await until(lambda: prefill._rendezvous.rooms)
            nursery.cancel_scope.cancel()
        assert not decode._rendezvous._fetching
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends, decode, two)
            await until(lambda: decode._rendezvous._fetching)
            await decode.close()


async def ends(engine: MockerEngine, request: EngineRequest) -> None:
    with pytest.raises(EngineFailed, match="closed"):
        await answer(engine, request)


async def test_a_cache_of_another_prompt_is_not_taken() -> None:
    prefill, decode = make("prefill", **HALVES), make("decode", **HALVES)
    async with running(prefill) as card, running(decode):
        one, two = halves(card)
        await answer(prefill, one)
        await loses(decode, msgspec.structs.replace(two, token_ids=[1, 2]), "it has 100 tokens and the prompt 2")


async def test_a_prompt_that_is_refused_is_refused_without_a_meeting() -> None:
    prefill, decode = make("prefill", **HALVES), make("decode", **HALVES)
    async with running(prefill) as card, running(decode):
        _, two = halves(card)
        with pytest.raises(InvalidRequest, match="empty"):
            await answer(decode, msgspec.structs.replace(two, token_ids=[]))


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        engine = make("prefill", bootstrap_port=str(port))
        with pytest.raises(EngineFailed, match=f"cannot listen on bootstrap port {port}: "):
            await engine.start(lambda fraction, text: None)
        await engine.close()


async def test_an_engine_that_was_closed_without_having_run_frees_its_port() -> None:
    engine = make("prefill", bootstrap_port="0")
    card = await engine.start(lambda fraction, text: None)
    await engine.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((card.bootstrap_host, card.bootstrap_port), timeout=5)
