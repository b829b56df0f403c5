"""The SGLang engine over its stand-in: where it differs from vLLM."""

import dataclasses

import pytest

from appliance.core.errors import ModelNotReady, NotImplementedHere, UsageError
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import Sleeper
from appliance.core.requests import Guided, KvTransfer, Sampling
from appliance.engines.sglang import SglangEngine
from appliance.engines.sglang.body import generate_body
from tests.helpers.engines import answer, demo_facts, make_request
from tests.helpers.foreign_engines import around, has_ability, seen, serving

pytestmark = pytest.mark.usefixtures("deadline")


async def test_events_with_all_ids_and_with_new_ids_read_alike() -> None:
    request = make_request(max_tokens=7, ignore_eos=True, logprobs=1)
    sinks = []
    for output in ("false", "true"):
        async with serving(SglangEngine, stream_output=output) as engine:
            sinks.append(await answer(engine, request))
    assert sinks[0].token_ids == sinks[1].token_ids
    assert len(sinks[0].token_ids) == 7
    assert [entry.top[0][0] for entry in sinks[0].logprobs] == sinks[0].token_ids


async def test_facts_are_found_under_their_older_name() -> None:
    async with serving(SglangEngine, fake_old="true", page_size="64") as engine:
        assert (engine.probed.version, engine.probed.block_size, engine.probed.total_kv_blocks) == ("0.5.23", 64, 1024)


async def test_the_request_uses_the_servers_names() -> None:
    async with serving(SglangEngine) as engine:
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
    async with serving(SglangEngine, disaggregation_mode="prefill") as engine:
        card = engine._card
        assert (card.role, card.bootstrap_host) == ("prefill", "127.0.0.1")
        assert f"--disaggregation-bootstrap-port {card.bootstrap_port}" in " ".join((await seen(engine))["argv"])
        room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": card.bootstrap_port, "bootstrap_room": 77}
        prefill = make_request(max_tokens=1, ignore_eos=True, kv_transfer=KvTransfer(phase="prefill", **room))
        sink = await answer(engine, prefill)
        assert (sink.token_ids, sink.finish) == ([], "length")
        (body,) = (await seen(engine))["bodies"]
    assert {key: body[key] for key in room} == room


async def test_a_decode_worker_runs_nothing_by_itself() -> None:
    async with serving(SglangEngine, disaggregation_mode="decode") as engine:
        card = engine._card
        assert (card.role, card.needs_prefill, card.bootstrap_port) == ("decode", True, 0)
        for halves in (None, KvTransfer(phase="decode", params={"x": 1})):
            with pytest.raises(ModelNotReady, match="a decode worker of sglang runs no request without a prefill"):
                await answer(engine, make_request(max_tokens=2, kv_transfer=halves))
        assert (await seen(engine))["bodies"] == [], "the server was not asked"
        room = KvTransfer(phase="decode", bootstrap_host="127.0.0.1", bootstrap_port=1, bootstrap_room=7)
        sink = await answer(engine, make_request(max_tokens=2, ignore_eos=True, kv_transfer=room))
        assert len(sink.token_ids) == 2


async def test_a_prefill_server_that_runs_already_is_met_where_it_says() -> None:
    async with serving(SglangEngine, disaggregation_mode="prefill") as started:
        url = started._client.address.url
        async with serving(SglangEngine, disaggregation_mode="prefill", url=url) as attached:
            assert (attached._card.bootstrap_host, attached._card.needs_prefill) == ("127.0.0.1", False)
            assert attached._card.bootstrap_port == started._card.bootstrap_port
        own = {"disaggregation_mode": "prefill", "url": url, "disaggregation_bootstrap_port": "77"}
        async with serving(SglangEngine, **own) as attached:
            assert attached._card.bootstrap_port == 77
    async with serving(SglangEngine) as silent:
        url = silent._client.address.url
        async with serving(SglangEngine, disaggregation_mode="prefill", url=url) as attached:
            assert attached._card.bootstrap_port == 8998


@pytest.mark.parametrize("mode", ["prefill", "decode"])
async def test_halves_of_a_model_that_is_asked_by_text_are_refused(mode: str) -> None:
    facts = dataclasses.replace(demo_facts(), files={})
    options = EngineOptions(served_name="m", args={"disaggregation_mode": mode})
    with pytest.raises(UsageError, match=f"sglang cannot be a {mode} worker .* only requests of token ids are split"):
        SglangEngine(facts, options, around())


async def test_memory_is_released_as_far_as_it_can_be_taken_again() -> None:
    async with serving(SglangEngine, enable_memory_saver="true") as engine:
        assert has_ability(engine, Sleeper)
        assert engine._make_card().sleep_levels == (), "its weights would stay"
        await engine.sleep(1)
        assert (await seen(engine))["released"] == ["kv_cache"]
        await engine.wake()
        assert (await seen(engine))["released"] == []
        with pytest.raises(NotImplementedHere, match="level 2"):
            await engine.sleep(2)


async def test_the_rank_that_routing_chose_is_asked_for_under_both_names() -> None:
    body = generate_body(make_request(rank=1), name="n", budget=4, rank=1)
    assert (body["routed_dp_rank"], body["data_parallel_rank"]) == (1, 1)
    assert "routed_dp_rank" not in generate_body(make_request(), name="n", budget=4)
