"""Placement in real time: modes, pins, thresholds, pools, replicas."""

from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from appliance.core.errors import InvalidRequest, ModelNotReady, Overloaded, UsageError
from appliance.core.identity import ModelName, WorkerId, instance_number
from appliance.core.kv_events import StoredBlocks
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.block_hash import local_hashes
from appliance.routing.replica_sync import ReplicaEvent
from appliance.routing.router import Router
from appliance.routing.slots import BusyThresholds
from tests.helpers.routers import CAPACITY, MODEL, make_kv_router, make_router, routing_request, worker_card


@pytest.mark.parametrize("mode", ["round-robin", "least-loaded"])
async def test_equal_workers_share_evenly(mode: str) -> None:
    router = make_router(mode, "a", "b", "c")
    counts: Counter[str] = Counter()
    for _ in range(30):
        with await router.place(routing_request()) as placement:
            counts[placement.worker] += 1
    assert set(counts.values()) == {10}


async def test_random_reaches_every_worker() -> None:
    router = make_router("random", "a", "b", "c")
    seen = set()
    for _ in range(200):
        with await router.place(routing_request()) as placement:
            seen.add(placement.worker)
    assert seen == {"a", "b", "c"}


async def test_least_loaded_weighs_by_slots() -> None:
    router = make_router("least-loaded")
    router.add(WorkerId("small"), worker_card(1))
    router.add(WorkerId("big"), worker_card(8))
    held = [await router.place(routing_request()) for _ in range(9)]
    taken = Counter(block.worker for block in held)
    assert taken == {"big": 8, "small": 1}
    for block in held:
        block.__exit__(None, None, None)
    assert set(router.load().values()) == {0}


async def test_load_is_freed_when_the_block_is_left_by_an_error() -> None:
    router = make_router("least-loaded", "a")
    with pytest.raises(RuntimeError), await router.place(routing_request()):
        raise RuntimeError
    assert router.load() == {"a": 0}


async def test_avoided_workers_are_taken_only_when_alone() -> None:
    router = make_router("least-loaded", "a", "b")
    for _ in range(5):
        with await router.place(routing_request(avoid={WorkerId("a")})) as placement:
            assert placement.worker == "b"
    router.withdraw(WorkerId("b"))
    with await router.place(routing_request(avoid={WorkerId("a")})) as placement:
        assert placement.worker == "a"


async def test_no_worker_is_an_error_that_may_be_retried() -> None:
    with pytest.raises(ModelNotReady) as caught:
        await make_router("random").place(routing_request())
    assert caught.value.retryable
    assert caught.value.retry_after_s


async def test_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="least-loaded"):
        make_router("best", "a")


async def test_a_pinned_worker_is_the_only_choice() -> None:
    router = make_router("least-loaded", "a", "b", "c")
    pin = instance_number(WorkerId("b"))
    with (
        await router.place(routing_request(pin)) as first,
        await router.place(routing_request(pin, avoid={WorkerId("b")})) as second,
    ):
        assert (first.worker, second.worker) == ("b", "b")
        assert router.load() == {"a": 0, "b": 2, "c": 0}
    assert set(router.load().values()) == {0}
    router.check_instance(MODEL, pin)


async def test_a_pin_on_nobody_is_the_clients_mistake() -> None:
    router = make_router("least-loaded", "a")
    router.add(WorkerId("other"), ModelCard(name=ModelName("other"), context_length=100, engine="mocker"))
    for number in (instance_number(WorkerId("other")), 0, 2**64 - 1):
        with pytest.raises(InvalidRequest, match=str(instance_number(WorkerId("a")))):
            await router.place(routing_request(number))
        with pytest.raises(InvalidRequest):
            router.check_instance(MODEL, number)
    router.withdraw(WorkerId("a"))
    with pytest.raises(ModelNotReady):
        router.check_instance(MODEL, instance_number(WorkerId("a")))


async def test_thresholds_change_at_run_time() -> None:
    router = make_kv_router("a", queue_threshold=None)
    with await router.place(routing_request(tokens=100)):
        (await router.place(routing_request())).__exit__(None, None, None)
        router.set_busy_thresholds({MODEL: BusyThresholds(prefill_tokens=99)})
        assert router.busy_thresholds() == {MODEL: BusyThresholds(prefill_tokens=99)}
        with pytest.raises(Overloaded) as caught:
            await router.place(routing_request())
        assert (caught.value.status, caught.value.retry_after_s) == (503, 1)
        with pytest.raises(Overloaded, match=str(instance_number(WorkerId("a")))):
            await router.place(routing_request(instance_number(WorkerId("a"))))
        assert router.why("r")[-1]["worker"] is None
    (await router.place(routing_request())).__exit__(None, None, None)
    assert router.measures.requests == {"aggregated": 3}


def test_thresholds_of_a_model_outlive_settings_and_wait_for_workers() -> None:
    router, own = make_kv_router("a"), BusyThresholds(prefill_tokens=99)
    other = ModelName("other")
    router.set_busy_thresholds({MODEL: own, other: own})
    router.configure(replace(router.settings, temperature=0.5))
    router.add(WorkerId("b"), msgspec.structs.replace(worker_card(**CAPACITY), name=other))
    assert router.busy_thresholds() == {MODEL: own, other: own}
    router.set_busy_thresholds({})
    assert router.busy_thresholds() == dict.fromkeys((MODEL, other), BusyThresholds())


async def test_a_worker_may_say_itself_that_it_is_busy() -> None:
    router = make_router("round-robin", "b")
    router.add(WorkerId("a"), worker_card(**CAPACITY))
    router.report_load(WorkerId("a"), 0, decode_blocks=1001, prefill_tokens=0)
    assert {(await router.place(routing_request())).worker for _ in range(4)} == {"b"}
    router.report_load(WorkerId("a"), 0, decode_blocks=1000, prefill_tokens=0)
    assert {(await router.place(routing_request())).worker for _ in range(4)} == {"a", "b"}


async def test_events_that_come_before_the_worker_count() -> None:
    router = make_kv_router("a")
    local = local_hashes(range(64), 16)
    router.apply_kv_events(WorkerId("b"), 0, [StoredBlocks([1, 2, 3, 4], list(local))])
    router.add(WorkerId("b"), worker_card(kv_events=True))
    with await router.place(routing_request(tokens=70)) as placement:
        assert (placement.worker, placement.overlap_blocks, placement.isl_blocks) == ("b", 4, 4)
        assert placement.cached_tokens == 64
    router.clear_worker(WorkerId("b"))
    with await router.place(routing_request(tokens=70)) as placement:
        assert placement.overlap_blocks in (0, 4)  # 4 where it is guessed from the placement before
        assert placement.worker == "b" or placement.overlap_blocks == 0


async def test_a_mode_changes_while_requests_run() -> None:
    router = make_kv_router("a", "b")
    before = await router.place(routing_request(tokens=64))
    router.configure(RouterSettings(mode="round-robin"))
    router.configure(RouterSettings(mode="round-robin"))
    seen = [(await router.place(routing_request(tokens=64))).worker for _ in range(4)]
    assert Counter(seen) == {"a": 2, "b": 2}
    before.__exit__(None, None, None)
    assert sum(router.load().values()) == 4
    assert all(row.decode_blocks == 0 for row in router.loads())


async def test_prefill_workers_are_a_pool_of_their_own() -> None:
    router = make_router("round-robin", enforce_disagg=True)
    router.add(WorkerId("d"), worker_card(role="decode"))
    assert router.ready_workers(MODEL) == 0  # there is nobody to compute prompts
    router.add(WorkerId("p"), worker_card(role="prefill"))
    assert (router.ready_workers(MODEL), router.prefill_workers(MODEL)) == (1, 1)
    prefill = routing_request()
    prefill.role = "prefill"
    assert {(await router.place(prefill)).worker for _ in range(3)} == {"p"}
    assert {(await router.place(routing_request())).worker for _ in range(3)} == {"d"}
    router.check_instance(MODEL, instance_number(WorkerId("p")))


async def test_routers_hear_of_each_others_load() -> None:
    said: list[ReplicaEvent] = []
    settings = RouterSettings(mode="kv", replica_sync=True, kv_events=False)
    one = Router(settings, router_id="one", report=said.append)
    two = Router(settings, router_id="two")
    for router in (one, two):
        router.add(WorkerId("a"), worker_card(**CAPACITY))

    def tell() -> None:
        for event in said:
            one.apply_replica(event)  # its own changes nothing
            two.apply_replica(event)
        said.clear()

    with await one.place(routing_request(tokens=32)) as placement:
        tell()
        (row,) = two.loads()
        assert (row.streams, row.prefill_tokens, row.decode_blocks) == (1, 32, 2)
        assert [replace(row) for row in one.loads()] == [row]
        placement.prefill_complete()
        placement.prefill_complete()
        assert len(said) == 1
        tell()
        assert two.loads()[0].prefill_tokens == 0
    tell()
    assert two.loads()[0].streams == two.loads()[0].decode_blocks == 0
    await one.place(routing_request(tokens=32))
    tell()
    two.drop_replica("one")
    assert two.loads()[0].streams == two.loads()[0].decode_blocks == two.loads()[0].prefill_tokens == 0


async def test_why_shows_what_was_weighed() -> None:
    router = make_kv_router("a", "b")
    with await router.place(routing_request(tokens=64, avoid={WorkerId("b")})):
        pass
    (found,) = router.why("r")
    assert (found["worker"], found["mode"], found["reason"]) == ("a", "kv", "lowest cost")
    chosen, left_out = found["candidates"]
    assert (chosen["cost"], chosen["overlap_blocks"], chosen["decode_blocks"], chosen["chosen"]) == (36.0, 0, 4, True)
    assert (left_out["worker"], left_out["excluded"]) == ("b", "failed this request")
    assert router.why("other") == []
