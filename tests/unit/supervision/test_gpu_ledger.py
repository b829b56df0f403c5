"""The books of GPU memory over looks, promises and releases."""

from collections.abc import Mapping

import pytest

from appliance.core.gpus import GIB, GpuDemand, GpuFault, GpuGrant, GpuHealth, GpuScan
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_places import NoRoom
from tests.helpers.gpus import board, make_gpu, make_scan

A, B = WorkerId("a"), WorkerId("b")
PIDS = {100: A, 200: B}
THIRTY = GpuDemand(memory_bytes=30 * GIB, shared=True)
ALONE = GpuDemand()


def look(ledger: GpuLedger, scan: GpuScan, pids: Mapping[int, WorkerId] = PIDS) -> list[LedgerEvent]:
    return ledger.observe(scan, ledger.begin_look(), pids.get)


def make_ledger(scan: GpuScan) -> GpuLedger:
    ledger = GpuLedger()
    look(ledger, scan)
    return ledger


def promise(ledger: GpuLedger, worker: WorkerId, demand: GpuDemand) -> GpuGrant:
    grant = ledger.promise(worker, f"g/w/{worker}", demand)
    assert isinstance(grant, GpuGrant)
    return grant


def foreign_gib(ledger: GpuLedger) -> list[float]:
    return [place.foreign / GIB for place in ledger.places()]


def room_gib(ledger: GpuLedger) -> list[float]:
    return [place.room / GIB for place in ledger.places()]


def test_replicas_get_a_gpu_each() -> None:
    ledger = make_ledger(board(3))
    workers = [WorkerId(f"w{at}") for at in range(3)]
    assert [promise(ledger, worker, ALONE).uuids for worker in workers] == [("GPU-0",), ("GPU-1",), ("GPU-2",)]
    with pytest.raises(NoRoom, match=r"g/w/w0 promised 80\.0"):
        promise(ledger, A, ALONE)
    ledger.release(workers[1])
    assert promise(ledger, A, ALONE).uuids == ("GPU-1",)


def test_one_loads_at_a_time_on_a_gpu() -> None:
    ledger = make_ledger(board(1))
    promise(ledger, A, THIRTY)
    assert ledger.promise(B, "g/w/b", THIRTY) == "g/w/a is loading on its GPU"
    ledger.loaded(A)
    assert promise(ledger, B, THIRTY).promised == {"GPU-0": 30 * GIB}
    assert room_gib(ledger) == [20]


def test_what_others_use_is_told_apart_by_pid() -> None:
    ledger = make_ledger(board(1))
    promise(ledger, A, THIRTY)
    look(ledger, make_scan(make_gpu(0, used=35, processes=[(100, 25), (999, 10)])))
    assert (foreign_gib(ledger), room_gib(ledger)) == ([10], [40])
    (usage,) = ledger.usage("GPU-0")
    assert (usage.worker, usage.owner, usage.promised_bytes, usage.used_bytes) == (A, "g/w/a", 30 * GIB, 25 * GIB)


def test_a_worker_that_uses_more_than_promised_leaves_less_for_others() -> None:
    ledger = make_ledger(board(1))
    promise(ledger, A, THIRTY)
    look(ledger, make_scan(make_gpu(0, used=50, processes=[(100, 50)])))
    assert room_gib(ledger) == [30]


@pytest.mark.parametrize("processes", [(), None, [(100, None)]])
def test_where_the_driver_tells_no_processes_a_promise_hides_nobody(
    processes: list[tuple[int, float | None]] | None,
) -> None:
    """In a container pids are unknown: what was used before the worker came still is."""
    ledger = make_ledger(make_scan(make_gpu(0, used=20, processes=processes)))
    promise(ledger, A, THIRTY)
    assert room_gib(ledger) == [30]
    look(ledger, make_scan(make_gpu(0, used=20, processes=processes)))  # it has not loaded yet
    assert room_gib(ledger) == [30]
    look(ledger, make_scan(make_gpu(0, used=48, processes=processes)))
    assert room_gib(ledger) == [30]
    look(ledger, make_scan(make_gpu(0, used=60, processes=processes)))  # more than both
    assert room_gib(ledger) == [20]


def test_a_restart_need_not_wait_for_the_next_look() -> None:
    ledger = make_ledger(board(1))
    promise(ledger, A, ALONE)
    look(ledger, make_scan(make_gpu(0, used=75, processes=[(100, 70), (999, 5)])))
    ledger.release(A)
    assert (foreign_gib(ledger), room_gib(ledger)) == ([5], [75])
    assert promise(ledger, B, ALONE).promised == {"GPU-0": 75 * GIB}


def test_a_look_that_began_before_a_release_does_not_count_against_the_next() -> None:
    ledger = make_ledger(board(1))
    promise(ledger, A, ALONE)
    look(ledger, make_scan(make_gpu(0, used=70, processes=[(100, 70)])))
    number = ledger.begin_look()
    ledger.release(A)
    ledger.observe(make_scan(make_gpu(0, used=70, processes=[(100, 70)])), number, PIDS.get)
    assert room_gib(ledger) == [80]
    assert look(ledger, board(1)) == []  # a later one shows that it is free
    assert room_gib(ledger) == [80]


def test_memory_that_is_not_given_back_is_said_and_counted() -> None:
    ledger = make_ledger(board(1))
    promise(ledger, A, ALONE)
    ledger.release(A)
    (event,) = look(ledger, make_scan(make_gpu(0, used=12, processes=[(100, 12)])))
    assert (event.subject, event.action, event.inputs["bytes"]) == ("gpu/GPU-0", "leak", 12 * GIB)
    assert foreign_gib(ledger) == [12]
    assert look(ledger, make_scan(make_gpu(0, used=12, processes=[(100, 12)]))) == []


@pytest.mark.parametrize("health", [GpuHealth.LOST, GpuHealth.GONE])
def test_a_lost_gpu_takes_its_workers_with_it_and_no_others(health: GpuHealth) -> None:
    ledger = make_ledger(board(2))
    promise(ledger, A, ALONE)
    promise(ledger, B, ALONE)
    (event,) = look(ledger, make_scan(make_gpu(0, health=health), make_gpu(1)))
    assert (event.subject, event.action) == ("gpu/GPU-0", "lose")
    assert list(ledger.lost()) == [A]
    assert ledger.lost()[A].startswith(f"its GPU 0 (GPU-0) is {health.value}")
    assert look(ledger, make_scan(make_gpu(0, health=health), make_gpu(1))) == []  # said once
    ledger.release(A)
    with pytest.raises(NoRoom, match=f"GPU 0 is {health.value}"):
        promise(ledger, A, ALONE)
    assert [one.action for one in look(ledger, board(2))] == ["recover"]
    assert promise(ledger, A, ALONE).uuids == ("GPU-0",)


def test_a_gpu_that_is_not_listed_any_more() -> None:
    ledger = make_ledger(board(2))
    promise(ledger, A, ALONE)
    look(ledger, make_scan(make_gpu(1)))
    assert "no longer there" in ledger.lost()[A]


def test_a_part_goes_with_its_gpu() -> None:
    ledger = make_ledger(make_scan(make_gpu(0, parts=2)))
    assert promise(ledger, A, ALONE).uuids == ("MIG-0-0",)
    assert promise(ledger, B, ALONE).uuids == ("MIG-0-1",)
    assert ledger.lost() == {}
    look(ledger, make_scan(make_gpu(0, parts=2, health=GpuHealth.LOST)))
    assert set(ledger.lost()) == {A, B}


def test_while_the_driver_hangs_nothing_is_promised_and_nobody_is_blamed() -> None:
    ledger = make_ledger(board(2))
    promise(ledger, A, ALONE)
    slow = GpuScan(fault=GpuFault.SLOW, message="the driver has not answered")
    assert [one.action for one in look(ledger, slow)] == ["fault"]
    assert look(ledger, slow) == []
    assert ledger.lost() == {}
    with pytest.raises(NoRoom, match="has not answered"):
        promise(ledger, B, ALONE)
    assert [one.action for one in look(ledger, board(2))] == ["recover"]
    assert promise(ledger, B, ALONE).uuids == ("GPU-1",)


def test_a_machine_without_gpu_is_no_news() -> None:
    ledger = GpuLedger()
    assert look(ledger, GpuScan(fault=GpuFault.NO_GPU, message="this machine has no NVIDIA GPU")) == []
    with pytest.raises(NoRoom, match="needs a GPU: this machine has no NVIDIA GPU"):
        promise(ledger, A, ALONE)
