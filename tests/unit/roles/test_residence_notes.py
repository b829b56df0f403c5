"""What is said of models that are not loaded."""

from typing import Any

import pytest

from appliance.core.errors import ModelNotReady
from appliance.core.identity import ModelName
from appliance.core.instances import ComponentInstance
from appliance.core.records import ModelPhase, ModelRecord
from appliance.frontend.catalog import Catalog
from appliance.roles.node.model_units import Unit
from appliance.roles.node.residence_notes import ResidenceNote, describe_residence, with_residence
from appliance.supervision.residency.model_state import Residence
from tests.helpers.resident_node import instance


def test_a_held_request_hears_what_keeps_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ModelRecord(name=ModelName("b"), phase="cold", created=0, reason="no replica is wanted")
    note = ResidenceNote(phase="starting", reason="loading b", ready_at=1012.4, context_length=64)
    catalog = Catalog()
    catalog.set_records(with_residence([record], {"b": note}))
    assert catalog.record("b").context_length == 64
    monkeypatch.setattr("appliance.frontend.catalog.time.time", lambda: 1000.0)
    with (
        pytest.raises(ModelNotReady, match=r"too late \(loading b, about 12 s left\)") as caught,
        catalog.reasons(ModelName("b")),
    ):
        raise ModelNotReady("too late", retry_after_s=5)
    assert caught.value.retry_after_s == 13


@pytest.mark.parametrize("phase", ["ready", "failed"])
def test_a_model_that_is_ready_or_failed_needs_no_note(phase: ModelPhase) -> None:
    record = ModelRecord(name=ModelName("b"), phase=phase, created=0, reason="as its workers say")
    note = ResidenceNote(phase="starting", reason="loading b")
    assert with_residence([record], {"b": note}) == [record]


def loading(**facts: Any) -> Unit:
    return Unit("b", (instance("b"),), residence=Residence.LOADING, preload=False, **facts)


@pytest.mark.parametrize(
    ("unit", "phase", "reason"),
    [
        (Unit("b"), "starting", "the GPUs are being looked at"),
        (Unit("b", preload=False), "cold", "it is not loaded; the next request for it loads it"),
        (Unit("b", preload=False, wait="waiting for a"), "cold", "waiting for a"),
        (Unit("b", preload=False, hopeless="too large"), "failed", "too large"),
        (Unit("b", preload=False, residence=Residence.ASLEEP), "asleep", "it sleeps; the next request for it wakes it"),
        (Unit("b", preload=False, residence=Residence.LEAVING), "cold", "it is being unloaded"),
        (Unit("b", preload=False, residence=Residence.LEAVING, sleep_level=1), "cold", "it is falling asleep"),
        (loading(waking=True), "starting", "waking b"),
        (loading(), "starting", "loading b"),
    ],
)
def test_each_state_has_its_words(unit: Unit, phase: str, reason: str) -> None:
    note = describe_residence(unit, lambda _: 0, now=0.0, wall=0.0)
    assert (note.phase, note.reason) == (phase, reason)


def test_only_a_load_has_an_end_in_sight() -> None:
    unit = loading(load_s=20.0, since=100.0)
    assert describe_residence(unit, lambda _: 0, now=105.0, wall=1000.0).ready_at == pytest.approx(1015.0)
    unit.waking = True
    assert describe_residence(unit, lambda _: 0, now=105.0, wall=1000.0).ready_at is None


def test_the_size_of_a_model_is_looked_up_only_while_it_loads() -> None:
    def refuse(_: ComponentInstance) -> int:
        raise AssertionError("nobody needs it")

    describe_residence(Unit("b", (instance("b"),), preload=False), refuse, now=0.0, wall=0.0)
