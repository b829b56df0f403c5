"""The vLLM engine over its stand-in: what goes wrong at a start, its abilities, split requests."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from appliance.core.errors import EngineFailed, InvalidRequest, NotImplementedHere, UsageError
from appliance.core.model_facts import EngineOptions
from appliance.core.ports import MetricsSource, Sleeper
from appliance.core.requests import Guided, KvTransfer
from appliance.engines.vllm import VllmEngine
from tests.helpers.engines import CollectingSink, answer, demo_facts, make_request, running
from tests.helpers.foreign_engines import around, has_ability, seen, server_pid, serving, stand_in

pytestmark = pytest.mark.usefixtures("deadline")


async def start_error(**args: str) -> Exception:
    engine = stand_in(VllmEngine, args=args)
    with pytest.raises((EngineFailed, UsageError)) as caught:
        await engine.start(lambda fraction, text: None)
    await engine.close()
    assert "/secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_start_without_memory_may_be_tried_again() -> None:
    error = await start_error(fake_crash="oom")
    assert type(error) is EngineFailed
    assert "not enough free memory" in str(error)


async def test_a_context_that_never_fits_is_final() -> None:
    assert isinstance(await start_error(fake_crash="cache"), UsageError)


async def test_an_unknown_end_names_the_exit_code() -> None:
    assert "exit code 1 while it loaded" in str(await start_error(fake_crash="odd"))


async def test_an_unknown_flag_is_final_and_named() -> None:
    error = await start_error(no_such_flag="7")
    assert isinstance(error, UsageError)
    assert "--no-such-flag 7" in str(error)


async def test_a_port_that_was_taken_is_replaced_by_another(tmp_path: Path) -> None:
    async with serving(VllmEngine, fake_crash="port", fake_once=str(tmp_path / "crashed")) as engine:
        assert (tmp_path / "crashed").exists()
        assert (await answer(engine, make_request(max_tokens=2, ignore_eos=True))).finish == "length"


async def test_ports_that_are_always_taken_are_an_error() -> None:
    assert "port" in str(await start_error(fake_crash="port"))


async def test_no_engine_at_all_says_how_to_get_one() -> None:
    engine = VllmEngine(demo_facts(), EngineOptions(served_name="m"), around())
    with pytest.raises(UsageError, match="engine install vllm"):
        await engine.start(lambda fraction, text: None)
    await engine.close()


async def test_cancelling_a_start_leaves_no_process() -> None:
    engine = stand_in(VllmEngine, args={"fake_startup_s": "60"})
    pids = set()
    with trio.move_on_after(5) as scope:

        def note(fraction: float, text: str) -> None:
            pids.add(server_pid(engine))
            scope.cancel()

        await engine.start(note)
    assert scope.cancelled_caught
    await engine.close()
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


async def test_the_flags_and_the_environment_are_as_meant() -> None:
    async with serving(VllmEngine, tensor_parallel_size="1", kv_events="off") as engine:
        found = await seen(engine)
    words = " ".join(found["argv"])
    assert "--host 127.0.0.1" in words
    assert "--served-model-name demo --max-model-len 512 --max-num-seqs 256" in words
    assert "--tensor-parallel-size 1" in words
    assert "kv-events" not in words
    assert set(found["environ"]) - {"LC_CTYPE"} == {"PATH", "PYTHONPATH"}


async def test_closing_ends_the_whole_group_of_a_stubborn_server(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("appliance.engines.foreign.server.TERM_S", 0.2)
    async with serving(VllmEngine, fake_ignore_term="true", fake_child=str(tmp_path / "pid")) as engine:
        pids = [server_pid(engine), int((tmp_path / "pid").read_text())]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"] == []


async def test_a_server_that_hangs_ends_the_engine(monkeypatch: Any) -> None:
    monkeypatch.setattr("appliance.engines.foreign.server.HEALTH_S", 0.1)
    engine = stand_in(VllmEngine, args={"health_every_s": "0.05"})
    await engine.start(lambda fraction, text: None)
    psutil.Process(server_pid(engine)).suspend()
    monkeypatch.setattr("appliance.engines.foreign.server.TERM_S", 0.1)
    with pytest.raises(ExceptionGroup) as caught:
        await engine.run()
    assert caught.group_contains(EngineFailed, match="does not answer")
    await engine.close()


async def test_a_server_that_dies_fails_its_streams_and_the_engine() -> None:
    engine = stand_in(VllmEngine, args={"fake_step_s": "0.01"})
    await engine.start(lambda fraction, text: None)
    sink, errors = CollectingSink(), []

    async def stream() -> None:
        try:
            await engine.generate(make_request(max_tokens=400, ignore_eos=True), sink)
        except Exception as error:
            errors.append(error)

    async def serve_and_die() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream)
            await nursery.start(engine.run)
            await sink.first.wait()
            psutil.Process(server_pid(engine)).kill()

    with pytest.raises(ExceptionGroup) as caught:
        await serve_and_die()
    assert caught.group_contains(EngineFailed, match="killed by signal 9 while it served", depth=None)
    await engine.close()


@pytest.mark.parametrize("old", ["true", "false"])
async def test_the_request_says_what_was_asked(old: str) -> None:
    async with serving(VllmEngine, fake_old=old) as engine:
        request = make_request(
            max_tokens=3, ignore_eos=True, priority=2, guided=Guided(json_schema='{"type":"object"}')
        )
        await answer(engine, request)
        body = (await seen(engine))["bodies"][0]
    sampling = body if old == "true" else body["sampling_params"]
    assert (sampling["max_tokens"], sampling["ignore_eos"]) == (3, True)
    assert sampling["structured_outputs"] == {"json": {"type": "object"}}
    assert (body["priority"], body["stream"], body["model"]) == (2, True, "demo")
    assert body["prompt" if old == "true" else "token_ids"] == request.token_ids


@pytest.mark.parametrize("old", ["true", "false"])
async def test_log_probabilities_name_their_tokens(old: str) -> None:
    async with serving(VllmEngine, fake_old=old) as engine:
        sink = await answer(engine, make_request(max_tokens=2, ignore_eos=True, logprobs=2))
    assert [entry.top for entry in sink.logprobs] == [[(token, -0.5), (3, -2.0)] for token in sink.token_ids]


async def test_both_halves_of_a_split_request() -> None:
    async with serving(VllmEngine) as engine:
        prefill = await answer(engine, make_request(max_tokens=50, kv_transfer=KvTransfer(phase="prefill")))
        assert (prefill.token_ids, prefill.finish) == ([], "length")
        assert prefill.handover is not None
        assert prefill.handover["odd"] == {"a": 1}
        halves = KvTransfer(phase="decode", params=prefill.handover)
        decode = await answer(engine, make_request(max_tokens=5, ignore_eos=True, kv_transfer=halves))
        assert len(decode.token_ids) == 5
        first, second = (await seen(engine))["bodies"]
    assert (first["stream"], first["sampling_params"]["max_tokens"]) == (False, 1)
    assert first["kv_transfer_params"]["do_remote_decode"] is True
    assert second["kv_transfer_params"] == prefill.handover


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_halves_are_started_with_a_connector_and_a_port_of_their_own(role: str) -> None:
    async with serving(VllmEngine, disaggregation_mode=role) as engine:
        facts = await seen(engine)
    at = facts["argv"].index("--kv-transfer-config")
    assert json.loads(facts["argv"][at + 1]) == {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
    assert int(facts["environ"]["VLLM_NIXL_SIDE_CHANNEL_PORT"]) > 1024


async def test_connector_of_the_user_is_left_alone() -> None:
    own = '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}'
    async with serving(VllmEngine, disaggregation_mode="prefill", kv_transfer_config=own) as engine:
        facts = await seen(engine)
    assert facts["argv"].count("--kv-transfer-config") == 1
    assert own in facts["argv"]
    assert "VLLM_NIXL_SIDE_CHANNEL_PORT" not in facts["environ"]


async def test_sleeping_and_waking() -> None:
    async with serving(VllmEngine, enable_sleep_mode="true") as engine:
        assert has_ability(engine, Sleeper)
        assert engine._make_card().sleep_levels == (1, 2)
        await engine.sleep(1)
        assert (await engine._control("GET", "/is_sleeping")).json() == {"is_sleeping": True}
        await engine.wake()
        assert (await engine._control("GET", "/is_sleeping")).json() == {"is_sleeping": False}
        await engine.sleep(2)
        await engine.wake()
        calls = (await seen(engine))["calls"]
    reload = 'collective_rpc {"method": "reload_weights"}'
    assert calls == ["sleep 1", "wake", "sleep 2", "wake weights", reload, "wake kv_cache"]


async def test_abilities_that_were_not_switched_on_are_refused() -> None:
    async with serving(VllmEngine) as engine:
        assert engine._make_card().sleep_levels == ()
        with pytest.raises(NotImplementedHere, match="enable_sleep_mode"):
            await engine.sleep(1)
        with pytest.raises(NotImplementedHere, match="enable_lora"):
            await engine.load_adapter("x", "/")


async def test_metrics_are_handed_on_unchanged() -> None:
    async with serving(VllmEngine) as engine:
        assert has_ability(engine, MetricsSource)
        assert b'vllm:num_requests_running{engine="0",model_name="demo"} 0.0' in await engine.read_metrics()


async def test_a_server_that_runs_already_is_used_and_left_alone() -> None:
    async with serving(VllmEngine) as owner:
        url = owner._client.address.url
        async with running(stand_in(VllmEngine, args={"url": url}, options={"served_name": "mine"})) as card:
            assert (card.name, card.io) == ("mine", "tokens")
        guest = stand_in(VllmEngine, args={"url": url}, options={"served_name": "mine"})
        async with running(guest):
            await answer(guest, make_request(max_tokens=2, ignore_eos=True))
        assert psutil.pid_exists(server_pid(owner))
        assert (await seen(owner))["bodies"][-1]["model"] == "demo"


async def test_embeddings_take_token_ids() -> None:
    engine = stand_in(VllmEngine, options={"task": "embed"})
    async with running(engine) as card:
        assert card.task == "embed"
        vector = await engine.embed(make_request([1, 2, 3], task="embed"))
        assert sum(value * value for value in vector) == pytest.approx(1.0)
        with pytest.raises(InvalidRequest):
            await answer(engine, make_request())


async def test_the_rank_that_routing_chose_is_asked_for() -> None:
    async with serving(VllmEngine, data_parallel_size="2", kv_events="off") as engine:
        for rank in (1, None):
            await answer(engine, make_request(max_tokens=1, ignore_eos=True, rank=rank))
        found = [headers.get("x-data-parallel-rank") for headers in (await seen(engine))["headers"]]
        assert found == ["1", None]
    async with serving(VllmEngine) as engine:  # a server of one rank is not asked for any
        await answer(engine, make_request(max_tokens=1, ignore_eos=True, rank=0))
        assert "x-data-parallel-rank" not in (await seen(engine))["headers"][0]
