"""The SGLang engine over its stand-in: where it differs from vLLM."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from appliance.core.errors import InvalidRequest, NotFound, NotImplementedHere
from appliance.core.kv_events import KvEvent, StoredBlocks
from appliance.core.ports import AdapterHost, Sleeper
from appliance.core.requests import Guided, KvTransfer, Sampling
from appliance.engines.sglang import SglangEngine
from appliance.engines.sglang.body import generate_body
from appliance.events.following import Follower
from appliance.routing.block_hash import local_hashes
from tests.helpers.engines import CollectingSink, answer, make_request, running
from tests.helpers.foreign_engines import has_ability, stand_in
from tests.helpers.waiting import until


@pytest.fixture(autouse=True)
async def deadline() -> AsyncIterator[None]:
    with trio.fail_after(30):
        yield


@asynccontextmanager
async def sglang(**args: str) -> AsyncIterator[Any]:
    engine = stand_in(SglangEngine, args=args)
    async with running(engine):
        yield engine


async def seen(engine: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await engine._control("GET", "/fake/seen")).json()
    return found


async def test_events_with_all_ids_and_with_new_ids_read_alike() -> None:
    request = make_request(max_tokens=7, ignore_eos=True, logprobs=1)
    sinks = []
    for output in ("false", "true"):
        async with sglang(stream_output=output) as engine:
            sinks.append(await answer(engine, request))
    assert sinks[0].token_ids == sinks[1].token_ids
    assert len(sinks[0].token_ids) == 7
    assert [entry.top[0][0] for entry in sinks[0].logprobs] == sinks[0].token_ids


async def test_facts_are_found_under_their_older_name() -> None:
    async with sglang(fake_old="true", page_size="64") as engine:
        assert (engine.probed.version, engine.probed.block_size, engine.probed.total_kv_blocks) == ("0.5.23", 64, 1024)


async def test_the_request_uses_the_servers_names() -> None:
    async with sglang() as engine:
        request = make_request(
            max_tokens=3,
            min_tokens=2,
            stop_token_ids=(9,),
            sampling=Sampling(seed=4, top_p=0.5),
            guided=Guided(choice=("a.b", "c")),
        )
        await answer(engine, request)
        (body,) = (await seen(engine))["bodies"]
    assert body["sampling_params"] == {
        "max_new_tokens": 3,
        "min_new_tokens": 2,
        "stop_token_ids": [9],
        "sampling_seed": 4,
        "top_p": 0.5,
        "skip_special_tokens": False,
        "regex": r"(a\.b)|(c)",
    }
    assert body["input_ids"] == request.token_ids


async def test_both_halves_meet_in_a_room() -> None:
    async with sglang(disaggregation_mode="prefill") as engine:
        card = engine._card
        assert (card.role, card.bootstrap_host) == ("prefill", "127.0.0.1")
        assert f"--disaggregation-bootstrap-port {card.bootstrap_port}" in " ".join((await seen(engine))["argv"])
        room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": card.bootstrap_port, "bootstrap_room": 77}
        prefill = make_request(max_tokens=1, ignore_eos=True, kv_transfer=KvTransfer(phase="prefill", **room))
        sink = await answer(engine, prefill)
        assert (sink.token_ids, sink.finish) == ([], "length")
        (body,) = (await seen(engine))["bodies"]
    assert {key: body[key] for key in room} == room


async def test_a_cancelled_stream_is_aborted_by_name() -> None:
    async with sglang(fake_step_s="0.01") as engine:
        sink = CollectingSink()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.generate, make_request(max_tokens=400, ignore_eos=True), sink)
            await sink.first.wait()
            nursery.cancel_scope.cancel()
        while True:
            found = await seen(engine)
            if found["aborted"] and not found["running"]:
                break
            await trio.sleep(0.01)
        assert found["aborted"] == [found["bodies"][0]["rid"]]


async def test_memory_is_released_as_far_as_it_can_be_taken_again() -> None:
    async with sglang(enable_memory_saver="true") as engine:
        assert has_ability(engine, Sleeper)
        assert engine._make_card().sleep_levels == (), "its weights would stay"
        await engine.sleep(1)
        assert (await engine.is_asleep(), (await seen(engine))["released"]) == (True, ["kv_cache"])
        await engine.wake()
        assert (await engine.is_asleep(), (await seen(engine))["released"]) == (False, [])
        with pytest.raises(NotImplementedHere, match="level 2"):
            await engine.sleep(2)


async def test_adapters_come_and_go(tmp_path: Path) -> None:
    async with sglang(enable_lora="true") as engine:
        assert has_ability(engine, AdapterHost)
        await engine.load_adapter("poet", str(tmp_path))
        await answer(engine, make_request(max_tokens=1, ignore_eos=True, lora="poet"))
        assert (await seen(engine))["bodies"][-1]["lora_path"] == "poet"
        await engine.unload_adapter("poet")
        with pytest.raises(NotFound):
            await engine.unload_adapter("poet")
        with pytest.raises(InvalidRequest):
            await engine.load_adapter("x", str(tmp_path / "nothing"))


async def test_cache_events_speak_of_the_page_size() -> None:
    engine = stand_in(SglangEngine, follow=Follower(), args={"page_size": "8"})
    prompt = list(range(20))
    events: list[KvEvent] = []
    async with running(engine) as card:
        assert (card.kv_events, card.block_size) == (True, 8)
        await answer(engine, make_request(prompt, max_tokens=1, ignore_eos=True))
        engine.publish_kv_events(lambda rank, batch: events.extend(batch))
        await until(lambda: len(events) == 2, deadline_s=10)
    assert [event.local_hashes for event in events if isinstance(event, StoredBlocks)] == [
        [one] for one in local_hashes(prompt, 8)
    ]


async def test_the_rank_that_routing_chose_is_asked_for_under_both_names() -> None:
    body = generate_body(make_request(rank=1), name="n", budget=4, rank=1)
    assert (body["routed_dp_rank"], body["data_parallel_rank"]) == (1, 1)
    assert "routed_dp_rank" not in generate_body(make_request(), name="n", budget=4)
