"""Admission: defaults are filled in, errors are one line, updates keep what may not change."""

from typing import Any

import msgspec
import pytest

from appliance.core.errors import Unprocessable
from appliance.core.records import StoredObject
from appliance.graph.admission import admit_graph, check_update
from tests.helpers.graphs import graph, worker


def admit(document: dict[str, Any], stored: StoredObject | None = None) -> StoredObject:
    return admit_graph(document, stored)[0]


def test_replicas_default_to_one_and_the_given_document_is_left_alone() -> None:
    document = graph(worker(), worker("idle", replicas=0), worker("null", replicas=None))
    admitted = admit(document)
    assert [item["replicas"] for item in admitted.spec["components"]] == [1, 0, 1]
    assert "replicas" not in document["spec"]["components"][0]


def test_refusal_is_one_line_with_every_error() -> None:
    with pytest.raises(Unprocessable) as caught:
        admit(graph(worker(type="x"), worker(replicas=-1)))
    assert str(caught.value).startswith("graph g is not valid: spec.components[1].name: ")
    assert "; spec.components[0].type: " in str(caught.value)
    assert caught.value.param == "spec.components[1].name"


@pytest.mark.parametrize(
    "document", [{}, {"metadata": 1}, graph() | {"metadata": {"name": 5}}, graph() | {"kind": "X"}]
)
def test_broken_documents_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(Unprocessable, match="is not valid"):
        admit(document)


def test_resource_version_of_a_document_makes_the_put_conditional() -> None:
    document = graph(worker())
    document["metadata"] |= {"resourceVersion": "7", "generation": 3, "labels": {"a": "b"}}
    admitted = admit(document)
    assert (admitted.resource_version, admitted.metadata) == (7, {"labels": {"a": "b"}})
    document["metadata"]["resourceVersion"] = "x"
    with pytest.raises(Unprocessable, match=r"metadata\.resourceVersion"):
        admit(document)


def test_update_may_change_replicas_and_args() -> None:
    stored = admit(graph(worker()))
    assert admit(graph(worker(args=["worker", "--engine", "mocker", "--x"], replicas=3)), stored).spec["components"]


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (graph(worker("a")), graph(worker("b")), "spec.components"),
        (graph(worker("a")), graph(worker("a"), worker("b")), "spec.components"),
        (graph(worker()), graph(worker(), backendFramework="vllm"), "spec.backendFramework"),
        (graph(worker()), graph(worker(multinode={"nodeCount": 2})), "spec.components[0].multinode"),
        (
            graph(worker()),
            graph(worker(topologyConstraint={"packDomain": "rack"})),
            "spec.components[0].topologyConstraint",
        ),
        (
            graph(worker(experimental={"gpuMemoryService": {"mode": "InterPod"}})),
            graph(worker()),
            "spec.components[0].experimental.gpuMemoryService.mode",
        ),
    ],
)
def test_update_may_not_change(old: dict[str, Any], new: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in check_update(old, new)] == [path]
    with pytest.raises(Unprocessable, match="may not"):
        admit(new, msgspec.structs.replace(admit(old), resource_version=1))


def test_update_names_what_came_and_went() -> None:
    problem = check_update(graph(worker("a")), graph(worker("b")))[0]
    assert "b is new, a is missing" in problem.message
