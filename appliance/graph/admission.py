"""Admission of a graph: defaults, rules, and what an update of a stored graph may not change."""

from typing import Any

from appliance.core.records import StoredObject
from appliance.graph.check import check_graph
from appliance.graph.documents import document_of, stored_object, with_defaults
from appliance.graph.problem import Problem, errors_of, raise_errors
from appliance.graph.schema import without_nulls


def admit_graph(document: dict[str, Any], stored: StoredObject | None) -> tuple[StoredObject, list[Problem]]:
    """What admission does: defaults, rules, update rules. Returns the object to put, and warnings.

    Raises `Unprocessable`, one line that names every error.
    """
    filled = with_defaults(document)
    problems = check_graph(filled)
    if stored is not None and not errors_of(problems):
        problems += check_update(document_of(stored), filled)
    name = filled.get("metadata", {}).get("name") if isinstance(filled.get("metadata"), dict) else None
    raise_errors(problems, f"graph {name}" if name else "graph")
    return stored_object(filled), problems


def check_update(old: dict[str, Any], new: dict[str, Any]) -> list[Problem]:
    """What an update of `old` to `new`, both without shape errors, changes that may not change."""
    was, now = without_nulls(old["spec"]), without_nulls(new["spec"])
    problems = [
        Problem(f"spec.{field}", "may not change; delete the graph and apply it anew")
        for field in ("backendFramework", "topologyConstraint")
        if was.get(field) != now.get(field)
    ]
    had = {item["name"]: item for item in was.get("components", [])}
    has = {item["name"]: (at, item) for at, item in enumerate(now.get("components", []))}
    if had.keys() != has.keys():
        changes = [f"{name} is new" for name in has if name not in had] + [
            f"{name} is missing" for name in had if name not in has
        ]
        text = f"the set of components may not change ({', '.join(changes)}); delete the graph and apply it anew"
        problems.append(Problem("spec.components", text))
    for name in had.keys() & has.keys():
        at, item = has[name]
        problems += _check_component_update(had[name], item, f"spec.components[{at}]")
    return sorted(problems, key=lambda problem: problem.path)


def _check_component_update(was: dict[str, Any], now: dict[str, Any], path: str) -> list[Problem]:
    problems: list[Problem] = []
    if was.get("topologyConstraint") != now.get("topologyConstraint"):
        problems.append(Problem(f"{path}.topologyConstraint", "may not change"))
    if ("multinode" in was) != ("multinode" in now):
        problems.append(Problem(f"{path}.multinode", "may not be switched on or off"))
    toggled = [one for one in ("gpuMemoryService", "failover") if _is_inter_pod(was, one) != _is_inter_pod(now, one)]
    text = "InterPod may not be switched on or off"
    return problems + [Problem(f"{path}.experimental.{feature}.mode", text) for feature in toggled]


def _is_inter_pod(component: dict[str, Any], feature: str) -> bool:
    part = (component.get("experimental") or {}).get(feature)
    return isinstance(part, dict) and part.get("mode") == "InterPod"
