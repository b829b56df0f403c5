"""Whether GPUs have places for several models, and when a load will be over."""

import pytest

from appliance.core.gpus import GIB, GpuDemand
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.residency.forecast import left_s, load_time_s, smoothed
from appliance.supervision.residency.gpu_room import GpuRoom
from appliance.supervision.residency.model_state import ModelState, Residence
from appliance.supervision.residency.policy import Rules, decide
from appliance.supervision.residency.room import Room
from tests.helpers.gpus import board
from tests.helpers.instances import make_instance

NEEDS = {"a": 50, "b": 30, "c": 60}


def demand_of(instance: ComponentInstance) -> GpuDemand | None:
    amount = NEEDS.get(instance.component)
    return None if amount is None else GpuDemand(memory_bytes=amount * GIB, shared=True)


def instances_of(name: str) -> list[ComponentInstance]:
    return [make_instance(component=name)]


@pytest.fixture
def ledger() -> GpuLedger:
    """One GPU of 80 GiB."""
    made = GpuLedger()
    made.observe(board(1), made.begin_look(), lambda _: None)
    return made


def models(*names: str) -> list[ModelState]:
    return [ModelState(name=name) for name in names]


def test_what_fits_beside_each_other(ledger: GpuLedger) -> None:
    fits = GpuRoom(ledger, demand_of, instances_of)
    assert fits(models("a", "b"))
    assert not fits(models("a", "c"))
    assert fits(models("c", "on the CPU"))


def test_promises_of_models_that_would_go_do_not_count(ledger: GpuLedger) -> None:
    fits = GpuRoom(ledger, demand_of, instances_of)
    demand = demand_of(make_instance(component="a"))
    assert demand is not None
    ledger.promise(WorkerId("w"), make_instance(component="a").key, demand)
    assert fits(models("b", "c")) is False
    assert fits(models("c"))
    assert not fits(models("a", "c"))
    asleep = ModelState(name="a", residence=Residence.ASLEEP)
    assert fits([asleep, *models("c")])


def test_before_the_first_look_and_without_gpus_there_is_no_limit() -> None:
    assert GpuRoom(GpuLedger(), demand_of, instances_of)(models("a", "b", "c"))


def test_a_model_on_a_gpu_makes_room_for_another(ledger: GpuLedger) -> None:
    demand = demand_of(make_instance(component="a"))
    assert demand is not None
    ledger.promise(WorkerId("w"), make_instance(component="a").key, demand)
    resident = ModelState(name="a", residence=Residence.RESIDENT, since=0, last_use=10)
    wish = ModelState(name="c", waiting=1, oldest=90)
    room = Room(devices=GpuRoom(ledger, demand_of, instances_of))
    assert [effect.model for effect in decide([resident, wish], room, Rules(), 100).effects] == ["a"]


def test_forecast() -> None:
    assert load_time_s(None, 3_000_000_000) == 12
    assert load_time_s(4.0, 3_000_000_000) == 4
    assert smoothed(None, 6) == 6
    assert smoothed(4, 6) == 5
    assert left_s(3, 12, -1, 0) == 9
    assert left_s(20, 12, -1, 0) == 0
    assert left_s(20, 12, 0.5, 1) == 20
    assert left_s(6, 12, 0.75, 4) == 2
    assert left_s(6, 12, 0.75, 1) == 6


def test_who_sleeps_leaves_its_gpu_to_others_and_wakes_where_it_was(ledger: GpuLedger) -> None:
    fits = GpuRoom(ledger, demand_of, instances_of)
    for name in ("a", "c"):
        demand = demand_of(make_instance(component=name))
        assert demand is not None
        ledger.promise(WorkerId(name), make_instance(component=name).key, demand)
        ledger.loaded(WorkerId(name))
        if name == "a":
            assert ledger.places()[0].room == 30 * GIB
            ledger.rest(WorkerId("a"))
            assert ledger.places()[0].room == 78 * GIB, "its process stays"
    assert not fits(models("a", "c"))
    assert fits(models("a", "b")), "c would be gone"
    ledger.rest(WorkerId("c"))
    assert fits(models("c", "on the CPU"))
    assert not fits(models("a", "c"))
    ledger.wake(WorkerId("a"))
    assert ledger.places()[0].room == 28 * GIB


def test_who_had_a_gpu_for_itself_wakes_alone() -> None:
    made = GpuLedger()
    made.observe(board(1), made.begin_look(), lambda _: None)
    alone = GpuDemand(memory_bytes=10 * GIB, shared=False)
    fits = GpuRoom(made, lambda one: alone, instances_of)
    for name in ("a", "b"):
        made.promise(WorkerId(name), make_instance(component=name).key, alone)
        made.loaded(WorkerId(name))
        made.rest(WorkerId(name))
    assert not fits(models("a", "b"))
    assert fits([*models("a"), ModelState(name="b", residence=Residence.ASLEEP)])
    made.wake(WorkerId("a"))
    assert made.places()[0].taken
    assert not fits(models("a", "b"))
