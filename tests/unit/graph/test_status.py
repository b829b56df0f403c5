"""Status of a graph and its row in the table."""

from typing import Any

import pytest

from appliance.core.records import StoredObject, WorkerPhase
from appliance.graph.admission import admit_graph
from appliance.graph.instances import instances
from appliance.graph.printer import format_age, printer_header, printer_row
from appliance.graph.status import InstanceState, graph_status
from tests.helpers.graphs import graph, worker

OBJECT, _ = admit_graph(graph({"name": "frontend", "type": "frontend"}, worker(replicas=2)), None)
WANTED = instances(OBJECT)
HASHES = {one.component: one.spec_hash for one in WANTED}


def state(component: str, phase: WorkerPhase, spec_hash: str | None = None, reason: str = "") -> InstanceState:
    return InstanceState(
        component=component, phase=phase, spec_hash=spec_hash or HASHES.get(component, ""), reason=reason
    )


def status(*states: InstanceState, of: StoredObject = OBJECT, now: float = 0.0) -> dict[str, Any]:
    return graph_status(of, WANTED, states, now)


ALL_READY = [state("frontend", "ready"), state("worker", "ready"), state("worker", "ready")]


def verdict(found: dict[str, Any]) -> tuple[str, str, str]:
    (ready,) = found["conditions"]
    return found["state"], ready["status"], ready["reason"]


def test_nothing_there_yet_is_initializing() -> None:
    assert verdict(status()) == ("initializing", "False", "some_resources_are_not_ready")


def test_all_ready_is_successful() -> None:
    found = status(*ALL_READY)
    assert verdict(found) == ("successful", "True", "all_resources_are_ready")
    assert found["components"]["worker"] == {
        "componentKind": "Deployment",
        "componentNames": ["worker"],
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
    }


@pytest.mark.parametrize("phase", ["starting", "backoff", "draining"])
def test_one_behind_is_pending_and_says_which(phase: WorkerPhase) -> None:
    found = status(*ALL_READY[:2], state("worker", phase))
    assert verdict(found) == ("pending", "False", "some_resources_are_not_ready")
    assert found["conditions"][0]["message"] == "worker: 1 of 2 ready"


def test_old_processes_beside_new_ones_are_a_rolling_update() -> None:
    found = status(*ALL_READY[:2], state("worker", "ready", "old"))
    assert verdict(found) == ("pending", "False", "rolling_update_in_progress")
    assert found["components"]["worker"]["updatedReplicas"] == 1


def test_failed_instance_fails_the_graph_with_its_reason() -> None:
    found = status(*ALL_READY[:2], state("worker", "failed", reason="no such file"))
    assert verdict(found) == ("failed", "False", "failed_to_reconcile_the_resources")
    assert found["conditions"][0]["message"] == "worker: no such file"
    assert found["components"]["worker"]["replicas"] == 1


def test_surplus_instance_is_not_yet_the_wanted_state() -> None:
    assert verdict(status(*ALL_READY, state("worker", "ready")))[0] == "pending"


def test_same_facts_give_the_same_status_and_a_change_gives_a_new_time() -> None:
    first = status(*ALL_READY, now=100.0)
    stored = StoredObject(kind=OBJECT.kind, name="g", spec=OBJECT.spec, api_version=OBJECT.api_version, status=first)
    assert status(*ALL_READY, of=stored, now=200.0) == first
    fallen = status(*ALL_READY[:2], of=stored, now=200.0)
    assert fallen["conditions"][0]["lastTransitionTime"] == "1970-01-01T00:03:20Z"


def test_restart_is_observed() -> None:
    obj, _ = admit_graph(graph(worker(), restart={"id": "r1"}), None)
    found = graph_status(obj, instances(obj), [], 0.0)
    assert found["restart"] == {"observedID": "r1", "phase": "Restarting"}


def test_rows_fit_their_header() -> None:
    fresh = StoredObject(kind=OBJECT.kind, name="g", spec=OBJECT.spec, created_at=1000.0)
    assert printer_row(fresh, 1042.0) == ["g", "<none>", "<none>", "42s"]
    settled = StoredObject(
        kind=OBJECT.kind, name="g", spec={**OBJECT.spec, "backendFramework": "vllm"}, status=status(*ALL_READY)
    )
    assert dict(zip(printer_header(wide=True), printer_row(settled, 0.0, wide=True), strict=True)) == {
        "NAME": "g",
        "READY": "True",
        "BACKEND": "vllm",
        "AGE": "0s",
        "STATE": "successful",
        "COMPONENTS": "frontend=1/1,worker=2/2",
    }
    assert len(printer_header()) == len(printer_row(fresh, 0.0))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59, "59s"), (60, "1m"), (310, "5m10s"), (3600 * 11, "11h"), (86400 * 2 + 3600 * 4, "2d4h")],
)
def test_age_has_at_most_two_units(seconds: float, text: str) -> None:
    assert format_age(seconds) == text
