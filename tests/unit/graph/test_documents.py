"""Edits of documents and names of kinds."""

import pytest

from appliance.core.errors import NotFound, Unprocessable
from appliance.core.records import StoredObject
from appliance.graph.documents import document_of, scale_component
from appliance.graph.kinds import DGD, KINDS, resolve_kind
from tests.helpers.graphs import graph, worker


def test_scale_changes_one_component_of_a_copy() -> None:
    document = graph(worker("Decode"), worker("prefill"))
    scaled = scale_component(document, "decode", 0)
    assert [item.get("replicas") for item in scaled["spec"]["components"]] == [0, None]
    assert "replicas" not in document["spec"]["components"][0]


def test_scale_of_an_unknown_component_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="graph g has no component workr; did you mean worker"):
        scale_component(graph(worker()), "workr", 1)


def test_scale_below_zero_is_refused() -> None:
    with pytest.raises(Unprocessable, match="replicas: must be 0 or more, not -1"):
        scale_component(graph(worker()), "worker", -1)


def test_stored_object_shows_what_the_store_knows() -> None:
    obj = StoredObject(
        kind=DGD, name="g", spec={}, status={"state": "pending"}, generation=2, resource_version=9, created_at=0.9
    )
    document = document_of(obj)
    assert document["status"] == {"state": "pending"}
    assert document["metadata"] == {
        "name": "g",
        "creationTimestamp": "1970-01-01T00:00:00Z",
        "generation": 2,
        "resourceVersion": "9",
    }


@pytest.mark.parametrize("name", ["dgd", "DGD", "DynamoGraphDeployment", "dynamographdeployments", "dgd".title()])
def test_kind_has_many_names(name: str) -> None:
    assert resolve_kind(name).kind == DGD


def test_no_two_kinds_share_a_name() -> None:
    names = [name for kind in KINDS for name in (kind.singular, kind.plural, kind.short)]
    assert len(names) == len(set(names))


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="no kind is called 'dgdd'; did you mean dgd"):
        resolve_kind("dgdd")
