"""Selection and replica sync without ports: counts, expiry, silence, hostile peers."""

from random import Random

import msgspec
import pytest
import trio
from trio.testing import MockClock

from appliance.core.errors import Conflict, InvalidRequest, NotFound
from appliance.core.settings import RouterSettings
from appliance.roles.router.bodies import Selection, Worker
from appliance.roles.router.replica_sync import HEARTBEAT_S, SILENT_S, Heartbeat, ReplicaSync
from appliance.roles.router.selection import EXPIRY_S, Selector
from appliance.roles.router.subscriptions import sources_of

WISH = Selection(selection_id="a", model_name="m", token_ids=list(range(9)))


def selector_of(*workers: int, block_size: int = 4) -> Selector:
    selector = Selector(RouterSettings(mode="kv"), Random(1))
    for number in workers:
        selector.add_worker(Worker(worker_id=number, model_name="m", block_size=block_size))
    return selector


def prefill_tokens(selector: Selector) -> int:
    return sum(slot.load.prefill_tokens for group in selector.groups.values() for slot in group.pool.slots)


def test_load_spreads_over_workers() -> None:
    selector = selector_of(1, 2)
    chosen = [
        selector.select_and_reserve(msgspec.structs.replace(WISH, selection_id=name, token_ids=[at] * 8), 0.0)
        for at, name in enumerate("abcd")
    ]
    assert sorted(one.worker.worker_id for one in chosen) == [1, 1, 2, 2]


def test_a_reservation_that_nobody_frees_expires() -> None:
    selector = selector_of(1)
    selector.select_and_reserve(WISH, 10.0)
    assert selector.expire(10.0 + EXPIRY_S) == []
    assert selector.expire(10.1 + EXPIRY_S) == ["a"]
    assert prefill_tokens(selector) == 0
    with pytest.raises(NotFound):
        selector.free("a", 0.0)


def test_a_worker_takes_its_reservations_along() -> None:
    selector = selector_of(1)
    selector.select_and_reserve(WISH, 0.0)
    assert selector.remove_worker(1) == ["a"]
    assert selector.reserved == {}
    assert selector.groups == {}


def test_a_group_has_one_block_size() -> None:
    selector = selector_of(1)
    with pytest.raises(
        Conflict, match="block_size mismatch for model=m routing_group=default: existing=4, requested=8"
    ):
        selector.add_worker(Worker(worker_id=2, model_name="m", block_size=8))


def test_following_ranks_have_following_replay_ports() -> None:
    worker = Worker(
        worker_id=1,
        block_size=4,
        data_parallel_start_rank=2,
        data_parallel_size=2,
        kv_events_endpoints={"2": "tcp://h:5557", "3": "tcp://h:5558"},
        replay_endpoint="tcp://h:6000",
    )
    assert [(rank, one.replay_endpoint) for rank, one in sources_of(worker)] == [
        (2, "tcp://h:6000"),
        (3, "tcp://h:6001"),
    ]
    with pytest.raises(InvalidRequest, match="names rank 4"):
        list(sources_of(msgspec.structs.replace(worker, kv_events_endpoints={"4": "ipc://x"})))


class Wire:
    """In place of a broadcast: what one says the other takes."""

    def __init__(self, other: ReplicaSync) -> None:
        self.other, self.up = other, True

    def publish(self, payload: bytes) -> None:
        if self.up:
            self.other.take(payload)


def pair() -> tuple[Selector, ReplicaSync, Selector, ReplicaSync, Wire]:
    """Two routers of one worker; the first tells the second."""
    first, second = selector_of(1), selector_of(1)
    teller, hearer = (ReplicaSync(one, name, trio.current_time) for one, name in ((first, "x"), (second, "y")))
    wire = Wire(hearer)
    teller.broadcast = wire  # type: ignore[assignment]  # all that is used of it
    return first, teller, second, hearer, wire


async def test_a_silent_router_is_dropped(autojump_clock: MockClock) -> None:
    first, teller, second, hearer, wire = pair()
    teller.added("a", first.select_and_reserve(WISH, 0.0))
    assert prefill_tokens(second) == 9
    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller.keep_alive)
        nursery.start_soon(hearer.keep_alive)
        await trio.sleep(SILENT_S * 3)
        assert prefill_tokens(second) == 9
        wire.up = False
        await trio.sleep(SILENT_S + 2 * HEARTBEAT_S)
        assert prefill_tokens(second) == 0
        nursery.cancel_scope.cancel()


async def test_what_is_told_twice_or_out_of_order_changes_nothing() -> None:
    first, teller, second, _, _ = pair()
    teller.freed("nobody")
    teller.prefill_completed("nobody")
    teller.added("a", first.select_and_reserve(WISH, 0.0))
    for _ in range(2):
        teller.prefill_completed("a")
        assert prefill_tokens(second) == 0
    for _ in range(2):
        teller.freed("a")
    assert [slot.streams for slot in second.groups[WISH.key].pool.slots] == [0]


async def test_what_peers_send_cannot_hurt() -> None:
    _, _, second, hearer, _ = pair()
    for payload in (b"", b"\xc1", b"\x91\xa5alive", msgspec.msgpack.encode(["add", "x"]), b"\x91" * 99_999):
        hearer.take(payload)
    hearer.take(msgspec.msgpack.encode(Heartbeat("y")))  # our own id
    hearer.take(msgspec.msgpack.encode(["free", "x", 1, "no-colon", False]))
    assert hearer.counts == {"bad": 5, "taken": 1}
    assert prefill_tokens(second) == 0
