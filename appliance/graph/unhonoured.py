"""What a graph says that a box does not do: one warning per field, by its path. Such fields stay in the document."""

from typing import Any

from appliance.graph.gpu_resources import is_gpu
from appliance.graph.problem import Problem, nearest, warning

HONOURED_SPEC = ("components", "env", "backendFramework", "labels", "annotations", "restart")
CLUSTER_SPEC = {
    "priorityClassName": "a box has no scheduler",
    "topologyConstraint": "a box has one node",
    "experimental": "a box has one topology domain",
}
HONOURED_COMPONENT = ("name", "type", "replicas", "podTemplate", "modelRef", "scalingAdapter")
CLUSTER_COMPONENT = {
    "multinode": "a box has one node; each replica runs on it alone",
    "topologyConstraint": "a box has one node",
    "eppConfig": "a box runs no endpoint picker",
    "frontendSidecar": "a box runs no sidecars",
    "sharedMemorySize": "processes share the box's own /dev/shm",
    "compilationCache": "a box mounts no volumes",
    "experimental": "not done on a box",
    "globalDynamoNamespace": "a box has one namespace",
}
POD_SPEC = ("nodeSelector", "affinity", "tolerations", "volumes", "initContainers", "resourceClaims", "hostNetwork")
CONTAINER = ("envFrom", "volumeMounts", "lifecycle")


def find_unhonoured(spec: dict[str, Any]) -> list[Problem]:
    """Warnings for a spec without nulls: fields for clusters only, and fields that no version knows."""
    found = _members(spec, "spec", HONOURED_SPEC, CLUSTER_SPEC)
    if isinstance(spec.get("restart"), dict) and "strategy" in spec["restart"]:
        found.append(warning("spec.restart.strategy", "not followed on a box: replicas are replaced one by one"))
    for at, component in enumerate(spec.get("components", [])):
        if isinstance(component, dict):
            path = f"spec.components[{at}]"
            found += _members(component, path, HONOURED_COMPONENT, CLUSTER_COMPONENT)
            found += _pod(component.get("podTemplate"), f"{path}.podTemplate")
    return found


def _members(part: dict[str, Any], path: str, honoured: tuple[str, ...], cluster: dict[str, str]) -> list[Problem]:
    found: list[Problem] = []
    for key in part:
        if key in cluster:
            found.append(warning(f"{path}.{key}", f"has no effect here: {cluster[key]}"))
        elif key not in honoured:
            found.append(warning(f"{path}.{key}", f"is no known field; {nearest(key, (*honoured, *cluster))}"))
    return found


def _pod(template: object, path: str) -> list[Problem]:
    spec = template.get("spec") if isinstance(template, dict) else None
    if not isinstance(spec, dict):
        return []
    found = [warning(f"{path}.spec.{key}", "has no effect here") for key in POD_SPEC if key in spec]
    containers = spec.get("containers")
    for at, container in enumerate(containers if isinstance(containers, list) else []):
        where = f"{path}.spec.containers[{at}]"
        if not isinstance(container, dict):
            continue
        if container.get("name") != "main":
            found.append(warning(where, "is not run: a box runs only the container main"))
            continue
        found += [warning(f"{where}.{key}", "has no effect here") for key in CONTAINER if key in container]
        found += _resources(container.get("resources"), f"{where}.resources")
    return found


def _resources(resources: object, path: str) -> list[Problem]:
    """A box gives out GPUs only; other amounts limit nothing, which is one warning for all of them."""
    parts = resources.values() if isinstance(resources, dict) else ()
    names = {name for part in parts if isinstance(part, dict) for name in part}
    others = sorted(name for name in names if not is_gpu(name))
    return [warning(path, f"has no effect here but for GPUs: {', '.join(others)}")] if others else []
