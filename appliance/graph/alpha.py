"""`DynamoGraphDeployment` v1alpha1 to v1beta1. What the newer version cannot say is kept in one annotation."""

import copy
import json
from typing import Any

from appliance.graph.kinds import ALPHA, BETA, DGD
from appliance.graph.problem import Problem, warning

KEPT = "nvidia.com/dgd-spec"
"""Annotation with the v1alpha1 members that have no v1beta1 counterpart, as sparse JSON."""
SAME_IN_BOTH = ("replicas", "multinode", "modelRef", "globalDynamoNamespace", "eppConfig", "topologyConstraint")
MODES = {"intraPod": "IntraPod", "interPod": "InterPod"}


def convert_alpha(document: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The v1beta1 document of a v1alpha1 one, and a warning per member that no v1beta1 field expresses.

    Members of a wrong type are carried over as they are, for the check of the result to name.
    """
    source = copy.deepcopy(document)
    spec = source.get("spec")
    problems = [warning("apiVersion", f"{ALPHA} {DGD} is deprecated; use {BETA} {DGD}")]
    beta = {**source, "apiVersion": BETA}
    if not isinstance(spec, dict):
        return beta, problems
    kept: dict[str, Any] = {}
    beta["spec"] = _spec(spec, kept)
    if kept:
        annotations = beta["metadata"].get("annotations") or {}
        beta["metadata"] = {**beta["metadata"], "annotations": {**annotations, KEPT: json.dumps(kept, sort_keys=True)}}
        problems += [warning(path, "has no counterpart in v1beta1; kept in an annotation") for path in _paths(kept)]
    return beta, problems


def _spec(spec: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    services = spec.pop("services", None)
    beta: dict[str, Any] = {}
    _move(spec, "envs", beta, "env")
    if spec.get("pvcs") is not None:
        kept["pvcs"] = spec.pop("pvcs")
    topology = spec.get("topologyConstraint")
    if isinstance(topology, dict):
        _move(topology, "topologyProfile", topology, "clusterTopologyName")
    components: Any = services
    if isinstance(services, dict):
        components = []
        for name in sorted(services):  # a map has no order; sorted names make the result stable
            service = services[name]
            leftover: dict[str, Any] = {}
            if isinstance(service, dict):
                components.append(_component(name, service, leftover))
            if leftover or service is None:
                kept.setdefault("services", {})[name] = leftover or None
    return {**spec, **beta, "components": components}


def _component(name: str, service: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    service = {key: value for key, value in service.items() if value is not None}
    component: dict[str, Any] = {"name": name}
    _convert_type(service, component, kept)
    for key in SAME_IN_BOTH:
        _move(service, key, component, key)
    template = _template(service)
    if template:
        component["podTemplate"] = template
    _convert_memory(service, component)
    _convert_switches(service, component, kept)
    service.pop("serviceName", None)
    kept.update(service)
    return component


def _convert_type(service: dict[str, Any], component: dict[str, Any], kept: dict[str, Any]) -> None:
    kind, sub = service.pop("componentType", None), service.pop("subComponentType", None)
    if kind == "worker" and sub in ("prefill", "decode"):
        kind, sub = sub, None
    if kind:
        component["type"] = kind
    if sub:
        kept["subComponentType"] = sub


def _template(service: dict[str, Any]) -> dict[str, Any]:
    """The pod template of a service's dedicated fields, with `extraPodSpec` merged over them."""
    pod = service.pop("extraPodSpec", None) or {}
    metadata = service.pop("extraPodMetadata", None) or {}
    for key in ("labels", "annotations"):
        if service.get(key):
            metadata[key] = {**(metadata.get(key) or {}), **service.pop(key)}
    main = {key: value for key, value in (pod.pop("mainContainer", None) or {}).items() if value is not None}
    container: dict[str, Any] = {"name": "main"}
    _move(service, "envs", container, "env")
    if secret := service.pop("envFromSecret", None):
        container["envFrom"] = [{"secretRef": {"name": secret}}]
    for probe in ("livenessProbe", "readinessProbe"):
        _move(service, probe, container, probe)
    if resources := service.pop("resources", None):
        container["resources"] = _resources(resources)
    if mounts := service.pop("volumeMounts", None):
        container["volumeMounts"] = [{"name": one.get("name"), "mountPath": one.get("mountPoint")} for one in mounts]
    container = _merge_containers(container, main)
    sidecars = pod.pop("containers", None) or []
    if len(container) == 1 and not (sidecars or pod or metadata):
        return {}
    spec = {**pod, "containers": [container, *sidecars]}
    return {"metadata": metadata, "spec": spec} if metadata else {"spec": spec}


def _merge_containers(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = {**base, **over, "name": "main"}
    if base.get("env") and over.get("env"):
        overridden = {one.get("name") for one in over["env"]}
        merged["env"] = [one for one in base["env"] if one.get("name") not in overridden] + over["env"]
    return merged


def _resources(resources: dict[str, Any]) -> dict[str, Any]:
    """`gpu`, `gpuType` and `custom` as plain resource names."""
    native: dict[str, Any] = {}
    for part in ("limits", "requests"):
        amounts = dict(resources.get(part) or {})
        gpus, resource = amounts.pop("gpu", None), amounts.pop("gpuType", None) or "nvidia.com/gpu"
        amounts |= amounts.pop("custom", None) or {}
        if gpus:
            amounts[resource] = gpus
        if amounts:
            native[part] = amounts
    if resources.get("claims"):
        native["claims"] = resources["claims"]
    return native


def _convert_memory(service: dict[str, Any], component: dict[str, Any]) -> None:
    memory = service.pop("sharedMemory", None)
    if isinstance(memory, dict):
        size = "0" if memory.get("disabled") else memory.get("size")
        if size is not None:
            component["sharedMemorySize"] = size


def _convert_switches(service: dict[str, Any], component: dict[str, Any], kept: dict[str, Any]) -> None:
    """Features with an `enabled` member: present in v1beta1 when they are on, kept aside when they are off."""
    experimental: dict[str, Any] = {}
    for key in ("scalingAdapter", "gpuMemoryService", "failover", "checkpoint"):
        feature = service.pop(key, None)
        if not isinstance(feature, dict):
            continue
        if not feature.pop("enabled", False):
            kept[key] = {"enabled": False, **feature}
        elif key == "scalingAdapter":
            component[key] = feature
        else:
            if "mode" in feature and key != "checkpoint":
                feature["mode"] = MODES.get(feature["mode"], feature["mode"])
            experimental[key] = feature
    if experimental:
        component["experimental"] = experimental


def _move(source: dict[str, Any], key: str, target: dict[str, Any], new_key: str) -> None:
    value = source.pop(key, None)
    if value is not None:
        target[new_key] = value


def _paths(kept: dict[str, Any]) -> list[str]:
    paths = [f"spec.{key}" for key in kept if key != "services"]
    for name, members in kept.get("services", {}).items():
        paths += [f"spec.services.{name}.{key}" for key in members or ()] or [f"spec.services.{name}"]
    return paths
