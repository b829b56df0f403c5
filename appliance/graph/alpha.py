"""`DynamoGraphDeployment` v1alpha1 to v1beta1. What the newer version cannot say is kept in one annotation."""

import json
from typing import Any

from appliance.graph.alpha_schema import check_alpha_shape
from appliance.graph.kinds import ALPHA, BETA, DGD
from appliance.graph.problem import Problem, raise_errors, warning
from appliance.graph.schema import without_nulls

KEPT = "nvidia.com/dgd-spec"
"""Annotation with the v1alpha1 members that have no v1beta1 counterpart, as sparse JSON."""
SAME_IN_BOTH = ("replicas", "multinode", "modelRef", "globalDynamoNamespace", "eppConfig", "topologyConstraint")
MODES = {"intraPod": "IntraPod", "interPod": "InterPod"}


def convert_alpha(document: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The v1beta1 document of a v1alpha1 one, and a warning per member that no v1beta1 field expresses.

    Explicit nulls count as absent. Raises `Unprocessable` naming every service whose shape is wrong.
    """
    source = without_nulls(document)
    metadata, spec = source.get("metadata"), source.get("spec")
    problems = [warning("apiVersion", f"{ALPHA} {DGD} is deprecated; use {BETA} {DGD}")]
    beta = {**source, "apiVersion": BETA}
    if not isinstance(spec, dict) or not isinstance(metadata, dict):
        return beta, problems
    raise_errors(check_alpha_shape(spec), f"graph {metadata.get('name')}")
    kept: dict[str, Any] = {}
    beta["spec"] = _spec(spec, kept)
    if kept:
        annotations = {**metadata.get("annotations", {}), KEPT: json.dumps(kept, sort_keys=True)}
        beta["metadata"] = {**metadata, "annotations": annotations}
        problems += [warning(path, "has no counterpart in v1beta1; kept in an annotation") for path in _paths(kept)]
    return beta, problems


def _spec(spec: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    services = spec.pop("services", {})
    beta: dict[str, Any] = {}
    _move(spec, "envs", beta, "env")
    _move(spec, "pvcs", kept, "pvcs")
    topology = spec.get("topologyConstraint")
    if isinstance(topology, dict):
        _move(topology, "topologyProfile", topology, "clusterTopologyName")
    components = []
    for name in sorted(services):  # a map has no order; sorted names make the result stable
        leftover: dict[str, Any] = {}
        components.append(_component(name, services[name], leftover))
        if leftover:
            kept.setdefault("services", {})[name] = leftover
    return {**spec, **beta, "components": components}


def _component(name: str, service: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
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
    """The pod template of a service's dedicated fields, with `extraPodSpec` merged over them; empty without any."""
    pod = service.pop("extraPodSpec", {})
    sidecars = pod.pop("containers", [])
    container = _merge_containers(_dedicated_container(service), pod.pop("mainContainer", {}))
    metadata = service.pop("extraPodMetadata", {})
    for key in ("labels", "annotations"):
        if key in service:
            metadata[key] = {**metadata.get(key, {}), **service.pop(key)}
    if len(container) == 1 and not (sidecars or pod or metadata):
        return {}
    spec = {**pod, "containers": [container, *sidecars]}
    return {"metadata": metadata, "spec": spec} if metadata else {"spec": spec}


def _dedicated_container(service: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main"}
    _move(service, "envs", container, "env")
    if "envFromSecret" in service:
        container["envFrom"] = [{"secretRef": {"name": service.pop("envFromSecret")}}]
    for probe in ("livenessProbe", "readinessProbe"):
        _move(service, probe, container, probe)
    if "resources" in service:
        container["resources"] = _resources(service.pop("resources"))
    if "volumeMounts" in service:
        mounts = service.pop("volumeMounts")
        container["volumeMounts"] = [{"name": one["name"], "mountPath": one.get("mountPoint", "")} for one in mounts]
    return container


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
        amounts = dict(resources.get(part, {}))
        gpus, resource = amounts.pop("gpu", None), amounts.pop("gpuType", None) or "nvidia.com/gpu"
        amounts |= amounts.pop("custom", {})
        if gpus:
            amounts[resource] = gpus
        if amounts:
            native[part] = amounts
    if resources.get("claims"):
        native["claims"] = resources["claims"]
    return native


def _convert_memory(service: dict[str, Any], component: dict[str, Any]) -> None:
    memory = service.pop("sharedMemory", {})
    size = "0" if memory.get("disabled") else memory.get("size")
    if size is not None:
        component["sharedMemorySize"] = size


def _convert_switches(service: dict[str, Any], component: dict[str, Any], kept: dict[str, Any]) -> None:
    """Features with an `enabled` member: present in v1beta1 when they are on, kept aside when they are off."""
    experimental: dict[str, Any] = {}
    for key in ("scalingAdapter", "gpuMemoryService", "failover", "checkpoint"):
        feature = service.pop(key, None)
        if feature is None:
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
    if key in source:
        target[new_key] = source.pop(key)


def _paths(kept: dict[str, Any]) -> list[str]:
    paths = [f"spec.{key}" for key in kept if key != "services"]
    for name, members in kept.get("services", {}).items():
        paths += [f"spec.services.{name}.{key}" for key in members]
    return paths
