"""A GPU whose worker has ended is loaded again once its memory is free, or after a while."""

import pytest

from appliance.core.gpus import GIB, GpuDemand, GpuGrant, GpuScan
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_releases import UNSEEN
from tests.helpers.gpus import board, make_gpu, make_scan

A, B = WorkerId("a"), WorkerId("b")
PIDS = {100: A, 200: B}
ALONE = GpuDemand()


def look(ledger: GpuLedger, scan: GpuScan, now: float = 0.0) -> list[LedgerEvent]:
    return ledger.observe(scan, ledger.begin_look(), PIDS.get, now)


@pytest.fixture
def ledger() -> GpuLedger:
    """One GPU of 80 GiB, of which somebody else uses 5; the worker that had the rest has just ended."""
    one = GpuLedger(release_s=10)
    look(one, make_scan(make_gpu(0, used=5, processes=[(999, 5)])))
    one.promise(A, "g/w/0", ALONE)
    look(one, make_scan(make_gpu(0, used=75, processes=[(100, 70), (999, 5)])))
    one.release(A)
    return one


def ask(ledger: GpuLedger) -> GpuGrant | str:
    return ledger.promise(B, "g/w/1", ALONE)


def test_a_load_waits_for_a_look(ledger: GpuLedger) -> None:
    assert ask(ledger) == UNSEEN
    assert ledger.has_open_releases
    assert look(ledger, make_scan(make_gpu(0, used=5, processes=[(999, 5)]))) == []
    assert not ledger.has_open_releases
    grant = ask(ledger)
    assert isinstance(grant, GpuGrant)
    assert grant.promised == {"GPU-0": 75 * GIB}


def test_a_process_that_stays_is_named_and_waited_for_no_longer_than_said(ledger: GpuLedger) -> None:
    stuck = make_scan(make_gpu(0, used=12, processes=[(100, 7), (999, 5)]))
    assert look(ledger, stuck, now=100) == []
    assert ask(ledger) == "memory of g/w/0 on GPU-0 is still held by pid 100"
    assert look(ledger, stuck, now=109) == []
    (event,) = look(ledger, stuck, now=110)
    assert (event.action, event.reason) == ("leak", "a has ended and 7.0 GiB of GPU-0 are still held by pid 100")
    assert event.inputs == {"worker": A, "bytes": 7 * GIB, "pids": [100]}
    assert look(ledger, stuck, now=111) == []  # said once
    assert [place.foreign for place in ledger.places()] == [12 * GIB]


@pytest.mark.parametrize("processes", [None, (), [(999, 5)]])
def test_memory_without_a_process_counts_too(
    ledger: GpuLedger, processes: list[tuple[int, float | None]] | None
) -> None:
    """The driver takes its time after the last process of a worker has gone, and in a container it names none."""
    assert look(ledger, make_scan(make_gpu(0, used=60, processes=processes)), now=1) == []
    assert ask(ledger) == "memory of g/w/0 on GPU-0 is still held"
    look(ledger, make_scan(make_gpu(0, used=5.25, processes=processes)), now=2)
    assert isinstance(ask(ledger), GpuGrant)


def test_a_gpu_that_is_free_is_taken_first() -> None:
    ledger = GpuLedger(release_s=10)
    look(ledger, board(2))
    ledger.promise(A, "g/w/0", ALONE)
    ledger.release(A)
    look(ledger, make_scan(make_gpu(0, used=60), make_gpu(1)))
    grant = ask(ledger)
    assert isinstance(grant, GpuGrant)
    assert grant.uuids == ("GPU-1",)
    assert ledger.promise(A, "g/w/0", ALONE) == "memory of g/w/0 on GPU-0 is still held"
