"""Adapters that are wanted, and what each worker has to do to hold them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.identity import ModelName, WorkerId
from appliance.core.records import ModelPhase, ModelRecord
from appliance.roles.node.adapter_books import COMING, Adapter, AdapterBooks

ONE, TWO = WorkerId("w-1"), WorkerId("w-2")
BASE, OTHER = ModelName("base"), ModelName("other")
NAMES = ("poet", "critic", "clerk")


def adapter(name: str = "poet", model: ModelName = BASE, path: str = "/a") -> Adapter:
    return Adapter(name, model, path, 7)


def books(*wanted: Adapter) -> AdapterBooks:
    return AdapterBooks(wanted={one.name: one for one in wanted})


def model(name: str, phase: ModelPhase = "ready") -> ModelRecord:
    return ModelRecord(name=ModelName(name), phase=phase, created=1, reason="" if phase == "ready" else "it starts")


def obey(found: AdapterBooks, worker: WorkerId, of: ModelName = BASE, *, refuses: frozenset[str] = frozenset()) -> int:
    """Do all that a worker has to do; how many orders that took."""
    count = 0
    while (order := found.next_order(worker, of)) is not None:
        count += 1
        held = dict(found.held.get(worker, {}))
        if order.name in refuses:
            found.refused[worker, order.name] = "no"
        elif order.act == "load":
            assert order.name not in held, "an engine refuses a second folder under one name"
            held[order.name] = order.path
        else:
            del held[order.name]
        found.held[worker] = held
    return count


WANTED = st.dictionaries(st.sampled_from(NAMES), st.tuples(st.sampled_from([BASE, OTHER]), st.sampled_from("ab")))
HELD = st.dictionaries(st.sampled_from(NAMES), st.sampled_from("ab"))
SOME = st.frozensets(st.sampled_from(NAMES))


@given(WANTED, HELD, SOME, SOME)
def test_orders_end_with_what_is_wanted_and_nothing_else(
    wanted: dict[str, tuple[ModelName, str]], held: dict[str, str], refused: frozenset[str], in_hand: frozenset[str]
) -> None:
    found = books(*(adapter(name, base, path) for name, (base, path) in wanted.items()))
    found.held[ONE], found.in_hand = held, {*in_hand}
    assert obey(found, ONE, refuses=refused) <= 2 * len(NAMES)
    for name in set(NAMES) - refused - in_hand:
        base, path = wanted.get(name, (OTHER, ""))
        there = found.held.get(ONE, {}).get(name)
        # What other models want here is left alone where it lies at the right place: one worker serves one model.
        assert there == path if base == BASE else there in (None, path)
    assert found.lacks(ONE, BASE) == any(
        wanted.get(name, (OTHER, ""))[0] == BASE
        and found.held.get(ONE, {}).get(name) != wanted[name][1]
        and (ONE, name) not in found.refused
        for name in in_hand
    )


def test_a_worker_lacks_what_it_has_neither_loaded_nor_refused() -> None:
    found = books(adapter())
    assert found.lacks(ONE, BASE)
    assert not found.lacks(ONE, OTHER)
    obey(found, ONE)
    assert not found.lacks(ONE, BASE)
    obey(found, TWO, refuses=frozenset({"poet"}))
    assert not found.lacks(TWO, BASE)
    assert found.holders("poet", [ONE, TWO]) == [ONE]
    assert found.why_refused("poet") == "no"


def test_a_process_that_comes_later_is_asked_anew() -> None:
    found = books(adapter())
    obey(found, ONE, refuses=frozenset({"poet"}))
    found.forget_gone([TWO])
    assert (found.refused, found.held) == ({}, {})
    assert found.lacks(TWO, BASE)


@pytest.mark.parametrize(
    ("base", "loaded", "refusing", "phase", "reason"),
    [
        ("starting", [], [], "starting", None),
        ("cold", [], [], "cold", None),
        ("ready", [], [], "starting", COMING),
        ("ready", [ONE], [], "ready", None),
        ("ready", [ONE], [TWO], "ready", None),
        ("ready", [], [ONE], "starting", COMING),
        ("ready", [], [ONE, TWO], "failed", "no worker could load the adapter; see `dynamo-appliance why poet`"),
    ],
)
def test_an_adapter_is_as_ready_as_its_base_and_its_loads(
    base: ModelPhase, loaded: list[WorkerId], refusing: list[WorkerId], phase: ModelPhase, reason: str | None
) -> None:
    found = books(adapter())
    for worker in loaded:
        obey(found, worker)
    for worker in refusing:
        obey(found, worker, refuses=frozenset({"poet"}))
    assert found.phase("poet", base, [ONE, TWO]) == (phase, reason)


def test_records_of_adapters_stand_behind_those_of_the_models() -> None:
    found = books(adapter(), adapter("orphan", ModelName("gone")), adapter("other"))
    obey(found, ONE)
    models = [model("base"), model("other", "cold")]
    assert found.records(models, {BASE: [ONE]})[:2] == models
    (poet,) = found.records(models, {BASE: [ONE]})[2:]
    assert (poet.name, poet.base, poet.phase, poet.created, poet.reason) == ("poet", "base", "ready", 7, "")
