"""Choosing GPUs: by room, kind, island and nearness, and saying why not."""

from dataclasses import replace

import pytest

from appliance.core.gpus import GIB, GpuDemand, GpuHealth, GpuScan
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_places import NoRoom, Place, choose
from tests.helpers.gpus import board, make_gpu, make_scan


def places(scan: GpuScan, *, visible: str | None = None) -> list[Place]:
    ledger = GpuLedger(visible=visible)
    ledger.observe(scan, ledger.begin_look(), lambda _: None)
    return ledger.places()


def chosen(scan: GpuScan, demand: GpuDemand, *, visible: str | None = None) -> list[str]:
    return [place.uuid for place in choose(places(scan, visible=visible), demand).places]


def refused(scan: GpuScan, demand: GpuDemand) -> str:
    with pytest.raises(NoRoom) as caught:
        choose(places(scan), demand)
    assert "\n" not in caught.value.message
    return caught.value.message


ONE = GpuDemand()


def test_one_gpu_is_the_smallest_that_will_do() -> None:
    scan = make_scan(make_gpu(0, total=80), make_gpu(1, total=24), make_gpu(2, total=40))
    assert chosen(scan, ONE) == ["GPU-1"]
    assert chosen(scan, GpuDemand(memory_bytes=30 * GIB)) == ["GPU-2"]
    assert chosen(scan, GpuDemand(memory_bytes=30 * GIB, shared=True)) == ["GPU-2"]
    assert chosen(scan, GpuDemand(memory_bytes=60 * GIB)) == ["GPU-0"]


def test_a_gpu_that_others_use_is_not_free_for_one_alone() -> None:
    scan = make_scan(make_gpu(0, used=20), make_gpu(1, used=2))
    assert chosen(scan, ONE) == ["GPU-1"]
    assert chosen(scan, GpuDemand(memory_bytes=50 * GIB, shared=True)) == ["GPU-0"]


def test_capability() -> None:
    scan = make_scan(make_gpu(0, capability=(7, 0)), make_gpu(1, capability=(8, 0)))
    assert chosen(scan, GpuDemand(at_least=(7, 5))) == ["GPU-1"]
    assert refused(scan, GpuDemand(at_least=(9, 0))) == (
        "needs one GPU that nobody else uses of compute capability 9.0 or newer; "
        "free: GPU 0 80.0 of 80.0 (compute capability 7.0), GPU 1 80.0 of 80.0 (compute capability 8.0)"
    )


def test_the_refusal_shows_the_arithmetic() -> None:
    demand = GpuDemand(memory_bytes=int(38.2 * GIB), shared=True)
    full = replace(
        places(make_scan(make_gpu(0, used=7.9)))[0], promised=(("serve/worker/0", 60 * GIB),), foreign=int(7.9 * GIB)
    )
    lost = places(make_scan(make_gpu(1, health=GpuHealth.LOST)))[0]
    with pytest.raises(NoRoom) as caught:
        choose([full, lost], demand)
    assert caught.value.message == (
        "needs 38.2 GiB on one GPU; "
        "free: GPU 0 12.1 of 80.0 (serve/worker/0 promised 60.0, others use 7.9), GPU 1 is lost"
    )


def test_without_any_gpu() -> None:
    assert refused(make_scan(), ONE) == "needs one GPU that nobody else uses; there is none"


def test_several_come_from_the_smallest_island_that_will_do() -> None:
    big, small = range(4), range(4, 6)
    scan = make_scan(*(make_gpu(at, island=big) for at in big), *(make_gpu(at, island=small) for at in small))
    assert chosen(scan, GpuDemand(count=2)) == ["GPU-4", "GPU-5"]
    assert chosen(scan, GpuDemand(count=4)) == [f"GPU-{at}" for at in big]
    assert choose(places(scan), GpuDemand(count=4)).note == ""


def test_without_nvlink_near_ones_are_taken() -> None:
    def near(index: int) -> dict[int, int]:
        return {peer: 10 if peer // 2 == index // 2 else 50 for peer in range(4)}

    scan = make_scan(make_gpu(0, used=40), *(make_gpu(at, near=near(at)) for at in range(1, 4)))
    found = choose(places(scan), GpuDemand(count=2))
    assert [place.uuid for place in found.places] == ["GPU-2", "GPU-3"]
    assert "NVLink" in found.note


def test_several_are_of_one_kind_where_they_can_be() -> None:
    scan = make_scan(make_gpu(0, name="L4", total=24), make_gpu(1), make_gpu(2, name="L4", total=24), make_gpu(3))
    assert chosen(scan, GpuDemand(count=2, memory_bytes=100 * GIB)) == ["GPU-1", "GPU-3"]
    assert chosen(scan, GpuDemand(count=2)) == ["GPU-0", "GPU-2"]
    mixed = choose(places(scan), GpuDemand(count=3))
    assert ([place.index for place in mixed.places], "kinds" in mixed.note) == ([0, 1, 2], True)


@pytest.mark.parametrize(("need", "count"), [(60, 1), (79, 1), (120, 2), (300, 4), (600, 8)])
def test_as_few_as_the_memory_takes(need: int, count: int) -> None:
    assert len(chosen(board(), GpuDemand(count=None, memory_bytes=need * GIB))) == count


def test_more_than_the_machine_has() -> None:
    text = refused(board(2), GpuDemand(count=None, memory_bytes=300 * GIB))
    assert text.startswith("needs 300.0 GiB on one or more GPUs that nobody else uses; free: GPU 0 80.0 of 80.0")


def test_parts_are_used_one_at_a_time_and_their_gpu_not_at_all() -> None:
    scan = make_scan(make_gpu(0, parts=2), make_gpu(1))
    assert chosen(scan, ONE) == ["MIG-0-0"]
    assert chosen(scan, GpuDemand(memory_bytes=20 * GIB)) == ["GPU-1"]
    assert "GPU 0 part 1 10.0 of 10.0" in refused(scan, GpuDemand(count=2))


def test_replicas_keep_apart_where_they_can() -> None:
    ledger = GpuLedger()
    ledger.observe(board(2), ledger.begin_look(), lambda _: None)
    demand = GpuDemand(shared=True, share=0.3)
    one = choose(ledger.places(), demand, component="g/w/").places[0]
    beside = replace(one, promised=(("g/w/0", 24 * GIB),))
    assert choose([beside, ledger.places()[1]], demand, component="g/w/").places[0].index == 1
    assert choose([beside, ledger.places()[1]], demand, component="g/other/").places[0].index == 0


@pytest.mark.parametrize(("visible", "uuids"), [("1", ["GPU-1"]), ("GPU-2,GPU-3", ["GPU-2"]), (None, ["GPU-0"])])
def test_gpus_that_we_were_not_given(visible: str | None, uuids: list[str]) -> None:
    assert chosen(board(4), ONE, visible=visible) == uuids


def test_all_hidden() -> None:
    with pytest.raises(NoRoom, match="GPU 0 is hidden by CUDA_VISIBLE_DEVICES"):
        chosen(board(1), ONE, visible="")
