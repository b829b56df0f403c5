"""Rules of a graph: every problem is found, with its field path."""

from typing import Any

import pytest

from appliance.graph.check import check_graph
from appliance.graph.problem import errors_of
from tests.helpers.graphs import example, graph, worker


def errors(document: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in errors_of(check_graph(document))]


@pytest.mark.parametrize("name", ["mocker", "two-models", "alpha"])
def test_examples_are_valid(name: str) -> None:
    assert errors(example(name)) == []


def test_good_graph_has_no_problem_at_all() -> None:
    assert check_graph(graph({"name": "frontend", "type": "frontend"}, worker(replicas=0))) == []


def test_all_problems_are_collected() -> None:
    bad = graph(worker("A"), worker("a", replicas=-1), {"name": "x", "type": "frontnd"}, {"type": "worker"}, name="Up")
    assert errors(bad) == [
        "spec.components[3]: object missing required field `name`",
        "metadata.name: must be lower-case letters, digits, '-' and '.', start and end with a letter or digit, "
        "at most 253 long",
        "spec.components[1].name: 'a' is also the name of spec.components[0] (case does not count)",
        "spec.components[1].replicas: must be 0 or more, not -1",
        "spec.components[2].type: no type is called 'frontnd'; did you mean frontend?",
    ]


@pytest.mark.parametrize(
    ("component", "problem"),
    [
        (worker("-a"), "spec.components[0].name: '-a' must be 1 to 63"),
        (worker("a" * 64), "spec.components[0].name: 'aaa"),
        (worker(replicas="2"), "spec.components[0].replicas: expected `int`, got `str`"),
        (worker(type="main"), "spec.components[0].type: no type is called 'main'; known: frontend, worker"),
        (worker(multinode={"nodeCount": 1}), "spec.components[0].multinode.nodeCount: must be 2 or more"),
        (worker(modelRef={"name": ""}), "spec.components[0].modelRef.name: may not be empty"),
        (worker(modelRef={}), "spec.components[0].modelRef: object missing required field `name`"),
        (worker(compilationCache={}), "spec.components[0].compilationCache.pvcName: is required"),
        (worker(sharedMemorySize="8 GB"), "spec.components[0].sharedMemorySize: '8 GB' is no quantity"),
        (worker(frontendSidecar="side"), "spec.components[0].frontendSidecar: no container is called 'side'"),
        (worker(eppConfig={"config": {}}), "spec.components[0].eppConfig: only with type epp"),
        (worker(topologyConstraint={}), "spec.components[0].topologyConstraint.packDomain: is required"),
        (worker(podTemplate={"spec": {}}), "spec.components[0].podTemplate.spec.containers: needs at least one"),
        (
            worker(experimental={"failover": {}}),
            "spec.components[0].experimental.failover.mode: needs gpuMemoryService of the same mode",
        ),
        (
            worker(experimental={"gpuMemoryService": {"mode": "intraPod"}}),
            "spec.components[0].experimental.gpuMemoryService.mode: must be IntraPod or InterPod",
        ),
        (
            worker(experimental={"checkpoint": {"mode": "Manual"}}),
            "spec.components[0].experimental.checkpoint: mode Manual needs checkpointRef or identity",
        ),
        (
            worker(env=[{"name": "PORT", "value": 8000}]),
            "spec.components[0].podTemplate.spec.containers[0].env[0].value: expected `str`, got `int`",
        ),
        (
            worker(env=[{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            "spec.components[0].podTemplate.spec.containers[0].env[0].valueFrom: a box has no secretKeyRef; "
            "give TOKEN a plain value",
        ),
    ],
)
def test_component_problem_names_its_field(component: dict[str, Any], problem: str) -> None:
    found = errors(graph(component))
    assert len(found) == 1, found
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"backendFramework": "vlm"}, "spec.backendFramework: must be one of sglang, vllm, trtllm"),
        ({"backendFramework": 1}, "spec.backendFramework: expected `str`, got `int`"),
        ({"env": [{"value": "x"}]}, "spec.env[0]: object missing required field `name`"),
        ({"restart": {}}, "spec.restart: object missing required field `id`"),
        ({"restart": {"id": ""}}, "spec.restart.id: may not be empty"),
        ({"restart": {"id": "1", "strategy": {"order": ["a"]}}}, "spec.restart.strategy.order: must list every"),
        ({"topologyConstraint": {"packDomain": "rack"}}, "spec.topologyConstraint.clusterTopologyName: is required"),
    ],
)
def test_spec_problem_names_its_field(spec: dict[str, Any], problem: str) -> None:
    found = errors(graph(worker(), **spec))
    assert len(found) == 1, found
    assert found[0].startswith(problem)


@pytest.mark.parametrize("spec", [None, [], "x", {"components": {}}, {"components": [1]}, {}, {"components": None}])
def test_wrong_shapes_are_problems_not_crashes(spec: Any) -> None:
    assert errors({**graph(), "spec": spec})


def test_two_endpoint_pickers_are_one_too_many() -> None:
    epp = {"type": "epp", "eppConfig": {"config": {}}}
    assert errors(graph({"name": "a", **epp}, {"name": "b", **epp})) == [
        "spec.components: at most one component of type epp"
    ]


def test_more_than_25_components_are_refused() -> None:
    assert errors(graph(*(worker(f"w{n}") for n in range(26)))) == ["spec.components: at most 25 components"]


def test_engine_of_a_worker_must_be_the_graphs() -> None:
    document = graph(worker(command=["python3", "-m", "dynamo.sglang"], args=[]), backendFramework="vllm")
    assert errors(document) == ["spec.components[0].podTemplate: runs sglang, but spec.backendFramework is vllm"]


def test_explicit_nulls_are_absent_fields() -> None:
    assert check_graph(graph(worker(multinode=None, modelRef=None), backendFramework=None)) == []


def test_warnings_name_fields_without_effect_and_unknown_ones() -> None:
    pod = {
        "spec": {"volumes": [], "containers": [{"name": "main", "args": ["worker"], "envFrom": []}, {"name": "side"}]}
    }
    component = worker(podTemplate=pod, multinode={"nodeCount": 2}, replica=3)
    problems = check_graph(graph(component, priorityClassName="high", restart={"id": "1", "strategy": {}}))
    assert [problem.path for problem in problems] == [
        "spec.priorityClassName",
        "spec.restart.strategy",
        "spec.components[0].multinode",
        "spec.components[0].replica",
        "spec.components[0].podTemplate.spec.volumes",
        "spec.components[0].podTemplate.spec.containers[0].envFrom",
        "spec.components[0].podTemplate.spec.containers[1]",
    ]
    assert all(problem.level == "warning" for problem in problems)
    assert problems[3].message == "is no known field; did you mean replicas?"
