"""GPUs in manifests."""

from typing import Any

import pytest

from appliance.core.errors import Unprocessable
from appliance.core.gpus import GpuRequest
from appliance.core.instances import ComponentInstance
from appliance.graph.instances import instances
from appliance.graph.schema import read_graph
from appliance.graph.unhonoured import find_unhonoured

MIB = 1 << 20


def document(resources: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "main", "args": ["worker", "--engine", "mocker", "--model", "m"], "resources": resources}
    component = {"name": "W", "type": "worker", "podTemplate": {"spec": {"containers": [container]}}}
    return {"metadata": {"name": "g"}, "spec": {"components": [component]}}


def instance(resources: dict[str, Any]) -> ComponentInstance:
    graph, problems = read_graph(document(resources))
    assert problems == []
    return instances(graph)[0]


@pytest.mark.parametrize(
    ("resources", "request_"),
    [
        ({}, GpuRequest()),
        ({"limits": {"cpu": "4"}}, GpuRequest()),
        ({"limits": {"nvidia.com/gpu": "2"}}, GpuRequest(count=2)),
        ({"requests": {"nvidia.com/gpu": 1}}, GpuRequest(count=1)),
        ({"limits": {"nvidia.com/gpu": 4}, "requests": {"nvidia.com/gpu": 1}}, GpuRequest(count=4)),
        ({"limits": {"nvidia.com/gpu": "0"}}, GpuRequest()),
        ({"limits": {"nvidia.com/mig-1g.10gb": 1}}, GpuRequest(count=1)),
        ({"limits": {"nvidia.com/gpumem": 20000}}, GpuRequest(count=1, memory_bytes=20000 * MIB)),
        (
            {"limits": {"nvidia.com/gpu": 2, "nvidia.com/gpumem-percentage": "30"}},
            GpuRequest(count=2, memory_share=0.3),
        ),
    ],
)
def test_what_a_container_asks_for(resources: dict[str, Any], request_: GpuRequest) -> None:
    assert instance(resources).gpus == request_


@pytest.mark.parametrize("amount", ["two", "-1", 1.5, "1.5", "", "9" * 5000])
def test_an_amount_that_is_none(amount: Any) -> None:
    with pytest.raises(Unprocessable, match=r"containers\[0\]\.resources\.limits\[nvidia\.com/gpu\].*whole number"):
        instance({"limits": {"nvidia.com/gpu": amount}})


def test_a_changed_wish_replaces_the_worker_and_none_leaves_it_alone() -> None:
    plain = instance({}).spec_hash
    assert instance({"limits": {"cpu": "4"}}).spec_hash == plain
    one = instance({"limits": {"nvidia.com/gpu": 1}}).spec_hash
    assert len({plain, one, instance({"limits": {"nvidia.com/gpu": 2}}).spec_hash}) == 3


def test_only_other_resources_are_passed_over() -> None:
    assert find_unhonoured(document({"limits": {"nvidia.com/gpu": 1}})["spec"]) == []
    (found,) = find_unhonoured(document({"limits": {"nvidia.com/gpu": 1, "cpu": 2, "amd.com/gpu": 1}})["spec"])
    assert found.path.endswith("containers[0].resources")
    assert "amd.com/gpu, cpu" in found.message
