"""Conversion from v1alpha1: what moves where, and what is kept aside."""

import json
from typing import Any

import pytest

from appliance.core.errors import Unprocessable
from appliance.graph.admission import admit_graph
from appliance.graph.alpha import KEPT, convert_alpha
from appliance.graph.manifest import parse_manifests
from tests.helpers.graphs import EXAMPLES, example

HEAD: dict[str, Any] = {"apiVersion": "nvidia.com/v1alpha1", "kind": "DynamoGraphDeployment", "metadata": {"name": "a"}}


def convert(**service: Any) -> dict[str, Any]:
    document, _ = convert_alpha({**HEAD, "spec": {"services": {"W": service}}})
    component: dict[str, Any] = document["spec"]["components"][0]
    return component


def test_example_is_converted() -> None:
    spec = example("alpha")["spec"]
    frontend, decode = spec["components"]
    assert spec["env"] == [{"name": "SHARED", "value": "graph"}]
    assert (frontend["name"], frontend["type"]) == ("Frontend", "frontend")
    assert (decode["type"], decode["replicas"]) == ("decode", 2)
    main = decode["podTemplate"]["spec"]["containers"][0]
    assert main["name"] == "main"
    assert main["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert main["envFrom"] == [{"secretRef": {"name": "hf-token"}}]
    assert main["env"] == [{"name": "SHARED", "value": "service"}, {"name": "ONLY", "value": "main"}]


def test_what_cannot_be_said_is_kept_and_warned_of() -> None:
    manifest = parse_manifests((EXAMPLES / "alpha.yaml").read_text())[0]
    kept = json.loads(manifest.document["metadata"]["annotations"][KEPT])
    assert kept == {
        "pvcs": [{"name": "cache"}],
        "services": {
            "Frontend": {"scalingAdapter": {"enabled": False}},
            "VllmDecodeWorker": {"dynamoNamespace": "old"},
        },
    }
    assert [problem.path for problem in manifest.problems] == [
        "apiVersion",
        "spec.pvcs",
        "spec.services.Frontend.scalingAdapter",
        "spec.services.VllmDecodeWorker.dynamoNamespace",
    ]


def test_features_that_are_on_move() -> None:
    component = convert(
        scalingAdapter={"enabled": True},
        gpuMemoryService={"enabled": True, "mode": "intraPod"},
        checkpoint={"enabled": True, "checkpointRef": "c"},
        sharedMemory={"disabled": True},
    )
    assert component == {
        "name": "W",
        "scalingAdapter": {},
        "experimental": {"gpuMemoryService": {"mode": "IntraPod"}, "checkpoint": {"checkpointRef": "c"}},
        "sharedMemorySize": "0",
    }


def test_other_gpu_types_and_custom_resources_get_their_names() -> None:
    component = convert(
        resources={"requests": {"gpu": "2", "gpuType": "amd.com/gpu", "cpu": "1", "custom": {"x/y": "3"}}}
    )
    resources = component["podTemplate"]["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "1", "x/y": "3", "amd.com/gpu": "2"}}


def test_placeholder_is_refused_by_its_path() -> None:
    with pytest.raises(Unprocessable, match=r"^graph a is not valid: spec\.services\.W\.resources: expected `object`"):
        convert(resources="${RESOURCES}")


def test_source_is_left_alone() -> None:
    source = {**HEAD, "spec": {"services": {"W": {"componentType": "worker"}}}}
    before = json.dumps(source)
    convert_alpha(source)
    assert json.dumps(source) == before


@pytest.mark.parametrize(
    "spec",
    [
        {"services": {"W": 1}},
        {"services": ["x"]},
        {"services": None},
        None,
        {"services": {"W": {"extraPodSpec": "text"}}},
        {"services": {"W": {"extraPodSpec": {"mainContainer": [1]}}}},
        {"services": {"W": {"envs": "${LIST}", "extraPodSpec": {"mainContainer": {"env": [{"name": "A"}]}}}}},
        {"services": {"W": {"resources": "${MAP}"}}},
        {"services": {"W": {"resources": {"limits": [1]}}}},
        {"services": {"W": {"volumeMounts": [1]}}},
        {"services": {"W": {"labels": "x", "extraPodMetadata": {"labels": 1}}}},
        {"services": {"W": None}},
        {"services": {"W": "text"}},
    ],
)
def test_wrong_shapes_are_refused_with_a_path(spec: Any) -> None:
    with pytest.raises(Unprocessable, match=r"spec"):
        admit_graph(convert_alpha({**HEAD, "spec": spec})[0], None)
