"""The rules of a graph as a whole: all problems of a document, each with its field path."""

import re
from typing import Any

from appliance.graph.component_rules import check_component, check_topology
from appliance.graph.kinds import BETA, DGD
from appliance.graph.launch import plan_launch
from appliance.graph.problem import Problem
from appliance.graph.schema import Component, Graph, read_graph, without_nulls
from appliance.graph.unhonoured import find_unhonoured

FRAMEWORKS = ("sglang", "vllm", "trtllm")
COMPONENT_LIMIT = 25
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def check_graph(document: dict[str, Any]) -> list[Problem]:
    """Every problem of a v1beta1 graph: errors keep it from being stored, warnings name what a box does not do."""
    if document.get("kind") != DGD or document.get("apiVersion") != BETA:
        return [Problem("apiVersion", f"must be {BETA}, and kind {DGD}")]
    graph, problems = read_graph(document)
    problems += _check_name(graph.name)
    spec = without_nulls(document.get("spec"))
    if not isinstance(spec, dict) or not isinstance(spec.get("components", []), list):
        return problems
    whole = len(graph.spec.components) == len(spec.get("components", []))
    problems += _check_spec(graph, spec)
    for at, item in enumerate(spec.get("components", [])):
        path = f"spec.components[{at}]"
        own = check_component(item, path) if isinstance(item, dict) else []
        problems += own
        if whole and not any(problem.path.startswith(f"{path}.podTemplate") for problem in own):
            problems += _check_launch(graph, graph.spec.components[at], path)
    return problems + find_unhonoured(spec)


def _check_name(name: str) -> list[Problem]:
    if OBJECT_NAME.fullmatch(name) and len(name) <= 253:
        return []
    text = "must be lower-case letters, digits, '-' and '.', start and end with a letter or digit, at most 253 long"
    return [Problem("metadata.name", text)]


def _check_spec(graph: Graph, spec: dict[str, Any]) -> list[Problem]:
    items = [item if isinstance(item, dict) else {} for item in spec.get("components", [])]
    problems: list[Problem] = []
    if not items:
        problems.append(Problem("spec.components", "needs at least one component"))
    if len(items) > COMPONENT_LIMIT:
        problems.append(Problem("spec.components", f"at most {COMPONENT_LIMIT} components"))
    if sum(item.get("type") == "epp" for item in items) > 1:
        problems.append(Problem("spec.components", "at most one component of type epp"))
    framework = graph.spec.backend_framework
    if framework and framework not in FRAMEWORKS:
        problems.append(Problem("spec.backendFramework", f"must be one of {', '.join(FRAMEWORKS)}"))
    if "topologyConstraint" in spec:
        problems += check_topology(spec["topologyConstraint"], "spec.topologyConstraint", cluster_wide=True)
    names = [str(item.get("name", "")) for item in items]
    return problems + _check_unique(names) + _check_restart(graph, names)


def _check_unique(names: list[str]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for at, name in enumerate(names):
        first = seen.setdefault(name.lower(), at)
        if name and first != at:
            text = f"{name!r} is also the name of spec.components[{first}] (case does not count)"
            problems.append(Problem(f"spec.components[{at}].name", text))
    return problems


def _check_restart(graph: Graph, names: list[str]) -> list[Problem]:
    restart = graph.spec.restart
    if restart is None:
        return []
    problems: list[Problem] = []
    if not restart.id:
        problems.append(Problem("spec.restart.id", "may not be empty"))
    kind, order = restart.strategy.type, restart.strategy.order
    if kind not in ("Sequential", "Parallel"):
        problems.append(Problem("spec.restart.strategy.type", "must be Sequential or Parallel"))
    if order and kind != "Sequential":
        problems.append(Problem("spec.restart.strategy.order", "only with type Sequential"))
    elif order and sorted(order) != sorted(names):
        problems.append(Problem("spec.restart.strategy.order", "must list every component exactly once"))
    return problems


def _check_launch(graph: Graph, component: Component, path: str) -> list[Problem]:
    launch, problems = plan_launch(component, graph.spec.env, path)
    framework = graph.spec.backend_framework
    if launch and launch.engine in FRAMEWORKS and framework in FRAMEWORKS and launch.engine != framework:
        text = f"runs {launch.engine}, but spec.backendFramework is {framework}"
        problems.append(Problem(f"{path}.podTemplate", text))
    return problems
