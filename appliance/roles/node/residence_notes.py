"""What is said of models that are not loaded: in words, with an estimate of when they will be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from appliance.core.instances import ComponentInstance
from appliance.core.records import ModelPhase, ModelRecord
from appliance.roles.node.model_units import Unit
from appliance.supervision.residency.forecast import left_s, load_time_s
from appliance.supervision.residency.model_state import Residence


@dataclass(frozen=True, kw_only=True)
class ResidenceNote:
    """What there is to say about one model that is not ready."""

    phase: ModelPhase
    reason: str
    ready_at: float | None = None
    """Unix time."""
    context_length: int | None = None


def describe_residence(
    unit: Unit, size_of: Callable[[ComponentInstance], int], *, now: float, wall: float
) -> ResidenceNote:
    """What to say of a unit that is not resident.

    `size_of`: bytes of an instance's weights, asked for only while it loads; `now` in trio time, `wall` in Unix time.
    """
    phase, reason = _phase(unit)
    ready_at = None
    if unit.residence is Residence.LOADING and not (unit.waking or unit.preload or unit.hopeless):
        fraction, since = unit.fraction
        whole_s = load_time_s(unit.load_s, max(map(size_of, unit.instances)))
        ready_at = wall + left_s(now - unit.since, whole_s, fraction, now - since)
    return ResidenceNote(phase=phase, reason=reason, ready_at=ready_at, context_length=unit.context_length)


def _phase(unit: Unit) -> tuple[ModelPhase, str]:
    if unit.preload:
        return "starting", "the GPUs are being looked at"
    if unit.hopeless:
        return "failed", unit.hopeless
    if unit.residence is Residence.ASLEEP:
        return "asleep", unit.wait or "it sleeps; the next request for it wakes it"
    if unit.residence is Residence.LOADING:
        return "starting", f"{'waking' if unit.waking else 'loading'} {unit.name}"
    if unit.residence is Residence.LEAVING:
        return "cold", unit.wait or ("it is falling asleep" if unit.sleep_level else "it is being unloaded")
    return "cold", unit.wait or "it is not loaded; the next request for it loads it"


def with_residence(records: list[ModelRecord], notes: Mapping[str, ResidenceNote]) -> list[ModelRecord]:
    """Records of models with what residency has to say about those that are not ready."""
    return [_with_note(record, notes.get(record.name)) for record in records]


def _with_note(record: ModelRecord, note: ResidenceNote | None) -> ModelRecord:
    if note is None or record.phase in ("ready", "failed"):  # as its processes are now; notes may be a step behind
        return record
    own = record.phase == note.phase == "starting" and record.reason
    return msgspec.structs.replace(
        record,
        phase=note.phase,
        reason=record.reason if own else note.reason,
        ready_at=note.ready_at,
        context_length=record.context_length or note.context_length,
    )
