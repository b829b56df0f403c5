"""From a graph to the component instances that a box runs for it."""

import hashlib
from dataclasses import asdict
from typing import Any

import msgspec

from appliance.core.instances import ComponentInstance
from appliance.core.records import StoredObject
from appliance.graph.documents import document_of
from appliance.graph.launch import Launch, plan_launch
from appliance.graph.problem import Problem, raise_errors
from appliance.graph.schema import Component, Graph, read_graph

HASH_DIGITS = 16


def instances(source: StoredObject | Graph) -> list[ComponentInstance]:
    """One instance per wanted replica, components in graph order. Components that no box runs (epp) give none.

    Raises `Unprocessable` naming every field that keeps a component from being run.
    """
    if isinstance(source, Graph):
        graph, problems = source, list[Problem]()
    else:
        graph, problems = read_graph(document_of(source))
    made: list[ComponentInstance] = []
    for at, component in enumerate(graph.spec.components):
        launch, found = plan_launch(component, graph.spec.env, f"spec.components[{at}]")
        problems += found
        if launch is not None:
            made += _replicas(graph, component, launch)
    raise_errors(problems, f"graph {graph.name}")
    return made


def spec_hash(component_type: str, launch: Launch, restart_id: str = "") -> str:
    """Equal exactly when a running process need not be replaced: same type, argv, environment and restart id."""
    facts: dict[str, Any] = {"type": component_type, "argv": launch.argv, "env": launch.env, "restart": restart_id}
    if launch.gpus:
        facts["gpus"] = asdict(launch.gpus)
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()[:HASH_DIGITS]


def _replicas(graph: Graph, component: Component, launch: Launch) -> list[ComponentInstance]:
    restart_id = graph.spec.restart.id if graph.spec.restart else ""
    digest = spec_hash(component.type, launch, restart_id)
    return [
        ComponentInstance(
            graph=graph.name,
            component=component.name,
            index=index,
            type=component.type,
            argv=launch.argv,
            env=dict(launch.env),
            gpus=launch.gpus,
            residence=launch.residence,
            spec_hash=digest,
        )
        for index in range(component.replicas)
    ]
