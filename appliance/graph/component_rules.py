"""The rules of one component, each problem with its field path. Works on the plain document: shapes were checked."""

import re
from collections.abc import Sequence
from typing import Any

from appliance.graph.problem import Problem, nearest

TYPES = ("frontend", "worker", "prefill", "decode", "planner", "epp")
WORKER_TYPES = ("worker", "prefill", "decode")
REPLICAS_LIMIT = 2**31 - 1
COMPONENT_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
FAILOVER_MODES = ("IntraPod", "InterPod")
CHECKPOINT_CHOICES = {
    "mode": ("Auto", "Manual"),
    "startupPolicy": ("Immediate", "WaitForCheckpoint"),
    "deletionPolicy": ("Delete", "Retain"),
}
"""Enums of a checkpoint; the first is the default."""


def check_component(item: dict[str, Any], path: str) -> list[Problem]:
    """All problems of a component that lies at `path`."""
    problems = _check_basics(item, path)
    problems += _check_containers(item, path)
    problems += _check_epp(item, path)
    if "topologyConstraint" in item:
        problems += check_topology(item["topologyConstraint"], f"{path}.topologyConstraint", cluster_wide=False)
    experimental = item.get("experimental")
    if isinstance(experimental, dict):
        problems += _check_experimental(item, experimental, f"{path}.experimental")
    return problems


def check_topology(value: object, path: str, *, cluster_wide: bool) -> list[Problem]:
    """A topology constraint: of the whole graph it names the cluster's topology, of a component its domain."""
    if not isinstance(value, dict):
        return [Problem(path, "must be an object")]
    problems: list[Problem] = []
    if cluster_wide and not value.get("clusterTopologyName"):
        problems.append(Problem(f"{path}.clusterTopologyName", "is required"))
    domain = value.get("packDomain")
    if domain is None and not cluster_wide:
        problems.append(Problem(f"{path}.packDomain", "is required"))
    elif domain is not None and not _matches(DNS_LABEL, domain, len(str(domain))):
        problems.append(Problem(f"{path}.packDomain", "must be lower-case letters, digits and '-'"))
    return problems


def _check_basics(item: dict[str, Any], path: str) -> list[Problem]:
    problems: list[Problem] = []
    name, kind, replicas = item.get("name"), item.get("type"), item.get("replicas", 1)
    if isinstance(name, str) and not _matches(COMPONENT_NAME, name, 63):
        text = f"{name!r} must be 1 to 63 letters, digits and '-', and start and end with a letter or digit"
        problems.append(Problem(f"{path}.name", text))
    if isinstance(kind, str) and kind not in TYPES:
        problems.append(Problem(f"{path}.type", f"no type is called {kind!r}; {nearest(kind, TYPES)}"))
    if isinstance(replicas, int) and not 0 <= replicas <= REPLICAS_LIMIT:
        problems.append(Problem(f"{path}.replicas", f"must be 0 or more, not {replicas}"))
    nodes = _member(item, "multinode", "nodeCount", 2)
    if isinstance(nodes, int) and nodes < 2:
        problems.append(Problem(f"{path}.multinode.nodeCount", "must be 2 or more"))
    if _member(item, "modelRef", "name", "-") == "":
        problems.append(Problem(f"{path}.modelRef.name", "may not be empty"))
    if "compilationCache" in item and not _member(item, "compilationCache", "pvcName", ""):
        problems.append(Problem(f"{path}.compilationCache.pvcName", "is required"))
    memory = item.get("sharedMemorySize")
    if memory is not None and not QUANTITY.fullmatch(str(memory)):
        problems.append(Problem(f"{path}.sharedMemorySize", f"{memory!r} is no quantity, such as 8Gi"))
    return problems


def _check_containers(item: dict[str, Any], path: str) -> list[Problem]:
    template = item.get("podTemplate")
    if not isinstance(template, dict):
        return []
    at = f"{path}.podTemplate.spec.containers"
    containers = _member(template, "spec", "containers", None)
    if not isinstance(containers, list) or not containers:
        return [Problem(at, "needs at least one container")]
    problems: list[Problem] = []
    names = [one.get("name", "") for one in containers if isinstance(one, dict)]
    for index, name in enumerate(names):
        if not _matches(DNS_LABEL, name, 63):
            problems.append(Problem(f"{at}[{index}].name", f"{name!r} must be lower-case letters, digits and '-'"))
        elif name in names[:index]:
            problems.append(Problem(f"{at}[{index}].name", f"{name!r} is used twice"))
    sidecar = item.get("frontendSidecar")
    if sidecar and sidecar not in names:
        problems.append(Problem(f"{path}.frontendSidecar", f"no container is called {sidecar!r}"))
    return problems


def _check_epp(item: dict[str, Any], path: str) -> list[Problem]:
    config, is_epp = item.get("eppConfig"), item.get("type") == "epp"
    if config is not None and not is_epp:
        return [Problem(f"{path}.eppConfig", "only with type epp")]
    if not is_epp:
        return []
    problems: list[Problem] = []
    if not isinstance(config, dict) or ("configMapRef" in config) == ("config" in config):
        problems.append(Problem(f"{path}.eppConfig", "needs exactly one of configMapRef and config"))
    if item.get("replicas", 1) != 1:
        problems.append(Problem(f"{path}.replicas", "must be 1 for type epp"))
    if "multinode" in item:
        problems.append(Problem(f"{path}.multinode", "not with type epp"))
    return problems


def _check_experimental(item: dict[str, Any], part: dict[str, Any], path: str) -> list[Problem]:
    problems: list[Problem] = []
    memory, failover = part.get("gpuMemoryService"), part.get("failover")
    for feature in ("gpuMemoryService", "failover"):
        mode = _member(part, feature, "mode", "IntraPod")
        problems += _one_of(mode, FAILOVER_MODES, f"{path}.{feature}.mode")
    if memory is not None and item.get("type") not in WORKER_TYPES:
        problems.append(Problem(f"{path}.gpuMemoryService", "only with type worker, prefill or decode"))
    if isinstance(memory, dict) and memory.get("extraClientPods"):
        problems.append(Problem(f"{path}.gpuMemoryService.extraClientPods", "is reserved and must be empty"))
    if failover is not None:
        same = isinstance(memory, dict) and memory.get("mode", "IntraPod") == _member(
            part, "failover", "mode", "IntraPod"
        )
        if not same:
            problems.append(Problem(f"{path}.failover.mode", "needs gpuMemoryService of the same mode"))
        if _member(part, "failover", "numShadows", 1) != 1:
            problems.append(Problem(f"{path}.failover.numShadows", "must be 1"))
    checkpoint = part.get("checkpoint")
    if isinstance(checkpoint, dict):
        problems += _check_checkpoint(checkpoint, f"{path}.checkpoint")
    return problems


def _check_checkpoint(part: dict[str, Any], path: str) -> list[Problem]:
    mode = part.get("mode", "Auto")
    problems = _one_of(mode, ("Auto", "Manual"), f"{path}.mode")
    problems += _one_of(
        part.get("startupPolicy", "Immediate"), ("Immediate", "WaitForCheckpoint"), f"{path}.startupPolicy"
    )
    problems += _one_of(part.get("deletionPolicy", "Delete"), ("Delete", "Retain"), f"{path}.deletionPolicy")
    if mode == "Manual" and not (part.get("checkpointRef") or part.get("identity")):
        problems.append(Problem(path, "mode Manual needs checkpointRef or identity"))
    if part.get("job") is not None and (mode != "Auto" or part.get("checkpointRef")):
        problems.append(Problem(f"{path}.job", "only with mode Auto and without checkpointRef"))
    return problems


def _one_of(value: object, allowed: Sequence[str], path: str) -> list[Problem]:
    return [] if value in allowed else [Problem(path, f"must be {' or '.join(allowed)}")]


def _member(item: dict[str, Any], outer: str, inner: str, default: object) -> Any:
    part = item.get(outer)
    return part.get(inner, default) if isinstance(part, dict) else default


def _matches(pattern: re.Pattern[str], text: object, limit: int) -> bool:
    return isinstance(text, str) and len(text) <= limit and pattern.fullmatch(text) is not None
