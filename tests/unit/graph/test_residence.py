"""Wishes of residence in the annotations of a component's pods."""

from typing import Any

import pytest

from appliance.core.errors import Unprocessable
from appliance.core.instances import ResidenceWish
from appliance.graph.documents import stored_object
from appliance.graph.instances import instances
from appliance.graph.serve import ServeModel, build_serve_graph
from tests.helpers.graphs import graph, worker


def annotated(**annotations: str) -> dict[str, Any]:
    part = worker()
    part["podTemplate"]["metadata"] = {
        "annotations": {f"dynamo-appliance/{name.replace('_', '-')}": text for name, text in annotations.items()}
    }
    return graph(part)


def wish(document: dict[str, Any]) -> ResidenceWish:
    return instances(stored_object(document))[0].residence


def test_wishes() -> None:
    assert wish(graph(worker())) == ResidenceWish()
    found = wish(annotated(pinned="true", idle_s="600", exclusive_group="big, gpu0"))
    assert found == ResidenceWish(pinned=True, idle_s=600, groups=frozenset({"big", "gpu0"}))


def test_a_wish_does_not_replace_processes() -> None:
    plain, pinned = (instances(stored_object(one))[0] for one in (graph(worker()), annotated(pinned="true")))
    assert plain.spec_hash == pinned.spec_hash


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"pinned": "yes"}, 'pinned]: must be "true" or "false", not \'yes\''),
        ({"idle_s": "soon"}, "idle-s]: must be a number of seconds, not 'soon'"),
        ({"idle_s": "-1"}, "idle-s]: must be a number of seconds, not '-1'"),
        ({"idle_s": "inf"}, "idle-s]: must be a number of seconds, not 'inf'"),
        ({"pined": "true"}, "did you mean dynamo-appliance/pinned?"),
    ],
)
def test_wrong_annotations_are_named(annotations: dict[str, str], message: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        wish(annotated(**annotations))
    assert message in caught.value.message
    assert "podTemplate.metadata.annotations" in caught.value.message


def test_serve_pins_a_model() -> None:
    models = [ServeModel(model="/m/a.gguf", served_name="a", pinned=True), ServeModel(model="/m/b.gguf")]
    found = instances(stored_object(build_serve_graph(models)))
    assert [one.residence.pinned for one in found if one.type == "worker"] == [True, False]
