"""The status of a graph from the state of its processes, in the shape that a cluster's operator writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.core.instances import ComponentInstance
from appliance.core.records import StoredObject, WorkerPhase
from appliance.graph.documents import document_of, timestamp
from appliance.graph.schema import read_graph

ENDED = ("stopped", "failed")
BOX_KIND = "Deployment"
"""`componentKind` is an enum without a word for processes; this is the one whose replicas are counted alike."""


@dataclass(frozen=True, kw_only=True)
class InstanceState:
    """What supervision sees of one instance."""

    component: str
    phase: WorkerPhase
    spec_hash: str = ""
    """Hash that the running process was started with."""
    reason: str = ""
    """Why it is not ready, one line."""
    is_asleep: bool = False
    """It is ready, and serves once a request has woken it."""


def graph_status(
    obj: StoredObject, wanted: Sequence[ComponentInstance], states: Sequence[InstanceState], now: float
) -> dict[str, Any]:
    """The status to store. `wanted` is what `instances(obj)` gives, `now` unix seconds.

    The same facts give the same status at any time: a condition keeps the time of its last change.
    """
    graph, _ = read_graph(document_of(obj))
    components = {one.name: _component(one.name, wanted, states) for one in graph.spec.components if one.type != "epp"}
    state, reason, message = _verdict(components, wanted, states)
    ready = _condition("True" if state == "successful" else "False", reason, message, obj.status, now)
    status: dict[str, Any] = {
        "state": state,
        "observedGeneration": obj.generation,
        "conditions": [ready],
        "components": components,
    }
    if graph.spec.restart is not None:
        phase = "Completed" if state == "successful" else "Restarting"
        status["restart"] = {"observedID": graph.spec.restart.id, "phase": phase}
    return status


def _component(name: str, wanted: Sequence[ComponentInstance], states: Sequence[InstanceState]) -> dict[str, Any]:
    live = [one for one in states if one.component == name and one.phase not in ENDED]
    ready = [one for one in live if one.phase == "ready"]
    hashes = {one.spec_hash for one in wanted if one.component == name}
    asleep = sum(1 for one in ready if one.is_asleep)
    # No member of upstream's status, and so only there when it says something.
    return ({"sleepingReplicas": asleep} if asleep else {}) | {
        "componentKind": BOX_KIND,
        "componentNames": [name],
        "replicas": len(live),
        "updatedReplicas": sum(1 for one in live if one.spec_hash in hashes),
        "readyReplicas": len(ready),
        "availableReplicas": len(ready),
    }


def _verdict(
    components: dict[str, dict[str, Any]], wanted: Sequence[ComponentInstance], states: Sequence[InstanceState]
) -> tuple[str, str, str]:
    failed = [one for one in states if one.phase == "failed"]
    if failed:
        text = "; ".join(f"{one.component}: {one.reason or 'failed'}" for one in failed)
        return "failed", "failed_to_reconcile_the_resources", text
    behind: list[str] = []
    rolling = False
    for name, counts in components.items():
        desired = sum(1 for one in wanted if one.component == name)
        if counts["readyReplicas"] < desired or counts["replicas"] != desired or counts["updatedReplicas"] < desired:
            behind.append(f"{name}: {counts['readyReplicas']} of {desired} ready")
        rolling = rolling or counts["updatedReplicas"] < counts["replicas"]
    if not behind:
        return "successful", "all_resources_are_ready", "all components are ready"
    reason = "rolling_update_in_progress" if rolling else "some_resources_are_not_ready"
    return ("pending" if states else "initializing"), reason, "; ".join(behind)


def _condition(status: str, reason: str, message: str, previous: dict[str, Any], now: float) -> dict[str, Any]:
    since = timestamp(now)
    for old in previous.get("conditions", []):
        if old.get("type") == "Ready" and old.get("status") == status:
            since = old.get("lastTransitionTime", since)
    return {"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": since}
