"""Placement in real time, requests held for a model that is not ready, the queue, thresholds, replicas."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from appliance.core.errors import InvalidRequest, ModelNotReady, Overloaded, UsageError
from appliance.core.generation import NO_HINTS, NO_PINS, Pins, RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId, instance_number
from appliance.core.kv_events import StoredBlocks
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.block_hash import local_hashes
from appliance.routing.replica_sync import ReplicaEvent
from appliance.routing.router import Placement, Router, RoutingRequest
from appliance.routing.slots import BusyThresholds

MODEL = ModelName("m")


def card(slots: int = 4, **members: Any) -> ModelCard:
    return ModelCard(name=MODEL, context_length=100, engine="mocker", max_num_seqs=slots, **members)


def router(mode: str, *workers: str, **settings: Any) -> Router:
    made = Router(RouterSettings(mode=mode, **settings), source=Random(1))
    for worker in workers:
        made.add(WorkerId(worker), card())
    return made


def ask(
    pin: int | None = None, avoid: Collection[WorkerId] = (), tokens: int = 0, hints: RoutingHints = NO_HINTS
) -> RoutingRequest:
    return RoutingRequest(
        id=RequestId("r"),
        model=MODEL,
        token_ids=list(range(tokens)),
        pins=NO_PINS if pin is None else Pins(worker=pin),
        avoid=avoid,
        hints=hints,
    )


@pytest.mark.parametrize("mode", ["round-robin", "least-loaded"])
async def test_equal_workers_share_evenly(mode: str) -> None:
    r = router(mode, "a", "b", "c")
    counts: Counter[str] = Counter()
    for _ in range(30):
        with await r.place(ask()) as placement:
            counts[placement.worker] += 1
    assert set(counts.values()) == {10}


async def test_random_reaches_every_worker() -> None:
    r = router("random", "a", "b", "c")
    seen = set()
    for _ in range(200):
        with await r.place(ask()) as placement:
            seen.add(placement.worker)
    assert seen == {"a", "b", "c"}


async def test_least_loaded_weighs_by_slots() -> None:
    r = router("least-loaded")
    r.add(WorkerId("small"), card(1))
    r.add(WorkerId("big"), card(8))
    held = [await r.place(ask()) for _ in range(9)]
    taken = Counter(block.worker for block in held)
    assert taken == {"big": 8, "small": 1}
    for block in held:
        block.__exit__(None, None, None)
    assert set(r.load().values()) == {0}


async def test_load_is_freed_when_the_block_is_left_by_an_error() -> None:
    r = router("least-loaded", "a")
    with pytest.raises(RuntimeError), await r.place(ask()):
        raise RuntimeError
    assert r.load() == {"a": 0}


async def test_avoided_workers_are_taken_only_when_alone() -> None:
    r = router("least-loaded", "a", "b")
    for _ in range(5):
        with await r.place(ask(avoid={WorkerId("a")})) as placement:
            assert placement.worker == "b"
    r.withdraw(WorkerId("b"))
    with await r.place(ask(avoid={WorkerId("a")})) as placement:
        assert placement.worker == "a"


async def test_no_worker_is_an_error_that_may_be_retried() -> None:
    with pytest.raises(ModelNotReady) as caught:
        await router("random").place(ask())
    assert caught.value.retryable
    assert caught.value.retry_after_s


async def test_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="least-loaded"):
        router("best", "a")


async def test_held_requests_go_on_when_a_worker_arrives(autojump_clock: trio.testing.MockClock) -> None:
    r = router("random")
    done = []

    async def wait() -> None:
        await r.wait_ready(MODEL, 60)
        done.append(trio.current_time())

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await trio.sleep(5)
        r.add(WorkerId("a"), card())
    assert done == [start + 5] * 3


async def test_hold_time_ends_in_not_ready(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ModelNotReady, match="60 s"):
        await router("random").wait_ready(MODEL, 60)


async def test_a_pinned_worker_is_the_only_choice() -> None:
    r = router("least-loaded", "a", "b", "c")
    pin = instance_number(WorkerId("b"))
    with await r.place(ask(pin)) as first, await r.place(ask(pin, avoid={WorkerId("b")})) as second:
        assert (first.worker, second.worker) == ("b", "b")
        assert r.load() == {"a": 0, "b": 2, "c": 0}
    assert set(r.load().values()) == {0}
    r.check_instance(MODEL, pin)


async def test_a_pin_on_nobody_is_the_clients_mistake() -> None:
    r = router("least-loaded", "a")
    r.add(WorkerId("other"), ModelCard(name=ModelName("other"), context_length=100, engine="mocker"))
    for number in (instance_number(WorkerId("other")), 0, 2**64 - 1):
        with pytest.raises(InvalidRequest, match=str(instance_number(WorkerId("a")))):
            await r.place(ask(number))
        with pytest.raises(InvalidRequest):
            r.check_instance(MODEL, number)
    r.withdraw(WorkerId("a"))
    with pytest.raises(ModelNotReady):
        r.check_instance(MODEL, instance_number(WorkerId("a")))


async def test_held_requests_end_when_waiting_is_in_vain(autojump_clock: trio.testing.MockClock) -> None:
    given_up = False

    def check_hope(model: ModelName) -> None:
        if given_up:
            raise ModelNotReady("it failed")

    r = Router(RouterSettings(mode="random"), check_hope)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            nonlocal given_up
            await trio.sleep(5)
            r.look_again()  # still hopeful: it goes on waiting
            await trio.sleep(5)
            given_up = True
            r.look_again()

        nursery.start_soon(give_up)
        with pytest.raises(ModelNotReady, match="it failed"):
            await r.wait_ready(MODEL, 60)
    assert trio.current_time() == start + 10


async def test_a_hopeless_model_with_a_worker_is_served() -> None:
    def check_hope(model: ModelName) -> None:
        raise ModelNotReady("it failed")

    r = Router(RouterSettings(mode="random"), check_hope)
    r.add(WorkerId("a"), card())
    await r.wait_ready(MODEL, 60)


KV: dict[str, Any] = {"max_num_batched_tokens": 10, "total_kv_blocks": 1000}


def kv_router(*workers: str, **settings: Any) -> Router:
    made = Router(RouterSettings(mode="kv", **settings), source=Random(1))
    for worker in workers:
        made.add(WorkerId(worker), card(**KV))
    return made


async def test_a_free_place_takes_no_checkpoint() -> None:
    r = kv_router("a")
    with trio.testing.assert_no_checkpoints(), await r.place(ask(tokens=20)) as placement:
        placement.prefill_complete()


async def test_requests_wait_in_order_until_prompts_are_computed(autojump_clock: trio.testing.MockClock) -> None:
    r = kv_router("a", overlap_score_credit=0.0)
    order: list[str] = []
    placed: dict[str, Placement] = {}

    async def wait(name: str, jump: float) -> None:
        placed[name] = await r.place(ask(tokens=50, hints=RoutingHints(priority_jump_s=jump)))
        order.append(name)

    first = await r.place(ask(tokens=41))  # 41 > 4 * 10
    async with trio.open_nursery() as nursery:
        for name, jump in (("calm", 0.0), ("later", 0.0), ("urgent", 100.0)):
            nursery.start_soon(wait, name, jump)
            await trio.testing.wait_all_tasks_blocked()
        assert r.queued()["decode"] == (3, 150)
        first.prefill_complete()
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["urgent"]
        placed["urgent"].__exit__(None, None, None)  # an end before the first token counts too
        await trio.testing.wait_all_tasks_blocked()
        placed["calm"].prefill_complete()
    assert order == ["urgent", "calm", "later"]
    assert r.queued()["decode"] == (0, 0)


async def test_leaving_the_queue_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    r = kv_router("a")
    with await r.place(ask(tokens=41)):
        with trio.move_on_after(5):
            await r.place(ask(tokens=50))
        assert r.queued()["decode"] == (0, 0)
    assert r.load() == {"a": 0}


@pytest.mark.parametrize("granted_first", [True, False])
async def test_a_grant_in_the_step_of_the_cancellation_is_freed(granted_first: bool) -> None:
    r = kv_router("a")
    first = await r.place(ask(tokens=41))
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope, await r.place(ask(tokens=50)):
                await trio.sleep_forever()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        if granted_first:
            first.__exit__(None, None, None)
            scope.cancel()
        else:
            scope.cancel()
            first.__exit__(None, None, None)
    assert r.load() == {"a": 0}
    assert r.loads()[0].prefill_tokens == 0


async def test_what_waits_fails_when_the_last_worker_goes(autojump_clock: trio.testing.MockClock) -> None:
    r = kv_router("a")
    await r.place(ask(tokens=41))
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ModelNotReady):
                await r.place(ask(tokens=50))

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        r.withdraw(WorkerId("a"))


async def test_a_new_worker_takes_what_waits(autojump_clock: trio.testing.MockClock) -> None:
    r = kv_router("a")
    await r.place(ask(tokens=41))
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with await r.place(ask(tokens=50)) as placement:
                assert placement.worker == "b"

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        r.add(WorkerId("b"), card(**KV))


async def test_thresholds_change_at_run_time() -> None:
    r = kv_router("a", queue_threshold=None)
    with await r.place(ask(tokens=100)):
        (await r.place(ask())).__exit__(None, None, None)
        r.set_busy_thresholds({MODEL: BusyThresholds(prefill_tokens=99)})
        assert r.busy_thresholds() == {MODEL: BusyThresholds(prefill_tokens=99)}
        with pytest.raises(Overloaded) as caught:
            await r.place(ask())
        assert (caught.value.status, caught.value.retry_after_s) == (503, 1)
        with pytest.raises(Overloaded, match=str(instance_number(WorkerId("a")))):
            await r.place(ask(instance_number(WorkerId("a"))))
        assert r.why("r")[-1]["worker"] is None
    (await r.place(ask())).__exit__(None, None, None)
    assert r.measures.requests == {"aggregated": 3}


def test_thresholds_of_a_model_outlive_settings_and_wait_for_workers() -> None:
    r, own = kv_router("a"), BusyThresholds(prefill_tokens=99)
    other = ModelName("other")
    r.set_busy_thresholds({MODEL: own, other: own})
    r.configure(replace(r.settings, temperature=0.5))
    r.add(WorkerId("b"), msgspec.structs.replace(card(**KV), name=other))
    assert r.busy_thresholds() == {MODEL: own, other: own}
    r.set_busy_thresholds({})
    assert r.busy_thresholds() == dict.fromkeys((MODEL, other), BusyThresholds())


async def test_a_worker_may_say_itself_that_it_is_busy() -> None:
    r = router("round-robin", "b")
    r.add(WorkerId("a"), card(**KV))
    r.report_load(WorkerId("a"), 0, decode_blocks=1001, prefill_tokens=0)
    assert {(await r.place(ask())).worker for _ in range(4)} == {"b"}
    r.report_load(WorkerId("a"), 0, decode_blocks=1000, prefill_tokens=0)
    assert {(await r.place(ask())).worker for _ in range(4)} == {"a", "b"}


async def test_events_that_come_before_the_worker_count() -> None:
    r = kv_router("a")
    local = local_hashes(range(64), 16)
    r.apply_kv_events(WorkerId("b"), 0, [StoredBlocks([1, 2, 3, 4], list(local))])
    r.add(WorkerId("b"), card(kv_events=True))
    with await r.place(ask(tokens=70)) as placement:
        assert (placement.worker, placement.overlap_blocks, placement.isl_blocks) == ("b", 4, 4)
        assert placement.cached_tokens == 64
    r.clear_worker(WorkerId("b"))
    with await r.place(ask(tokens=70)) as placement:
        assert placement.overlap_blocks in (0, 4)  # 4 where it is guessed from the placement before
        assert placement.worker == "b" or placement.overlap_blocks == 0


async def test_a_mode_changes_while_requests_run() -> None:
    r = kv_router("a", "b")
    before = await r.place(ask(tokens=64))
    r.configure(RouterSettings(mode="round-robin"))
    r.configure(RouterSettings(mode="round-robin"))
    seen = [(await r.place(ask(tokens=64))).worker for _ in range(4)]
    assert Counter(seen) == {"a": 2, "b": 2}
    before.__exit__(None, None, None)
    assert sum(r.load().values()) == 4
    assert all(row.decode_blocks == 0 for row in r.loads())


async def test_enough_workers_must_come_first(autojump_clock: trio.testing.MockClock) -> None:
    r = router("random", "a", min_initial_workers=2)
    assert r.ready_workers(MODEL) == 0
    with pytest.raises(ModelNotReady):
        await r.wait_ready(MODEL, 1)
    r.add(WorkerId("b"), card())
    r.withdraw(WorkerId("b"))
    assert r.ready_workers(MODEL) == 1


async def test_prefill_workers_are_a_pool_of_their_own() -> None:
    r = router("round-robin", enforce_disagg=True)
    r.add(WorkerId("d"), card(role="decode"))
    assert r.ready_workers(MODEL) == 0  # there is nobody to compute prompts
    r.add(WorkerId("p"), card(role="prefill"))
    assert (r.ready_workers(MODEL), r.prefill_workers(MODEL)) == (1, 1)
    prefill = ask()
    prefill.role = "prefill"
    assert {(await r.place(prefill)).worker for _ in range(3)} == {"p"}
    assert {(await r.place(ask())).worker for _ in range(3)} == {"d"}
    r.check_instance(MODEL, instance_number(WorkerId("p")))


async def test_routers_hear_of_each_others_load() -> None:
    said: list[ReplicaEvent] = []
    settings = RouterSettings(mode="kv", replica_sync=True, kv_events=False)
    one = Router(settings, router_id="one", report=said.append)
    two = Router(settings, router_id="two")
    for r in (one, two):
        r.add(WorkerId("a"), card(**KV))

    def tell() -> None:
        for event in said:
            one.apply_replica(event)  # its own changes nothing
            two.apply_replica(event)
        said.clear()

    with await one.place(ask(tokens=32)) as placement:
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
    await one.place(ask(tokens=32))
    tell()
    two.drop_replica("one")
    assert two.loads()[0].streams == two.loads()[0].decode_blocks == two.loads()[0].prefill_tokens == 0


async def test_why_shows_what_was_weighed() -> None:
    r = kv_router("a", "b")
    with await r.place(ask(tokens=64, avoid={WorkerId("b")})):
        pass
    (found,) = r.why("r")
    assert (found["worker"], found["mode"], found["reason"]) == ("a", "kv", "lowest cost")
    chosen, left_out = found["candidates"]
    assert (chosen["cost"], chosen["overlap_blocks"], chosen["decode_blocks"], chosen["chosen"]) == (36.0, 0, 4, True)
    assert (left_out["worker"], left_out["excluded"]) == ("b", "failed this request")
    assert r.why("other") == []
