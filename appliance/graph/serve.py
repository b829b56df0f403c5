"""The graph that `serve MODEL ...` writes: one front end and one worker component per model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.graph.kinds import BETA, DGD
from appliance.graph.residence import PINNED

FRONTEND = "frontend"
WORKER = "worker"
PREFILL, DECODE = "prefill", "decode"
NAME_LIMIT = 50  # of a component; leaves room for graph and replica around it


@dataclass(frozen=True, kw_only=True)
class ServeModel:
    """One model as the command line asks for it."""

    model: str
    """Absolute path or hub id."""
    engine: str = "auto"
    replicas: int = 1
    prefill: int = 0
    """Workers that only compute prompts. With `decode` they take the place of `replicas`."""
    decode: int = 0
    """Workers that generate from what those hand over."""
    served_name: str | None = None
    """None: the worker takes the model's own name."""
    context_length: int | None = None
    task: str | None = None
    engine_args: dict[str, str] = field(default_factory=dict)
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    pinned: bool = False
    """Never unloaded for another model."""


def build_serve_graph(
    models: Sequence[ServeModel], *, name: str = "serve", frontends: int = 1, frontend_args: Sequence[str] = ()
) -> dict[str, Any]:
    """The `DynamoGraphDeployment` document. A single model's component is `worker`; several are named after theirs.

    A split model has two components, `prefill` and `decode`, with the name in front when there are several models.
    """
    components = [_component(FRONTEND, FRONTEND, frontends, [FRONTEND, *frontend_args])]
    taken = {FRONTEND}
    for model in models:
        component = WORKER if len(models) == 1 else _free_name(model, taken)
        taken.add(component)
        if not model.prefill:
            components.append(_component(component, WORKER, model.replicas, worker_args(model), pinned=model.pinned))
            continue
        prefix = "" if len(models) == 1 else f"{component}-"
        for half, count in ((PREFILL, model.prefill), (DECODE, model.decode)):
            args = [*worker_args(model), "--disaggregation-mode", half]
            components.append(_component(prefix + half, half, count, args, pinned=model.pinned))
    return {"apiVersion": BETA, "kind": DGD, "metadata": {"name": name}, "spec": {"components": components}}


def worker_args(model: ServeModel) -> list[str]:
    """Arguments of a worker process of ours for a model."""
    options = {
        "--engine": model.engine,
        "--model": model.model,
        "--served-model-name": model.served_name,
        "--context-length": model.context_length,
        "--task": model.task,
    }
    parsers = {"--tool-call-parser": model.tool_call_parser, "--reasoning-parser": model.reasoning_parser}
    args = [WORKER, *_flags(options)]
    for key, value in model.engine_args.items():
        args += ["--engine-arg", f"{key}={value}"]
    return args + _flags(parsers)


def _flags(options: dict[str, Any]) -> list[str]:
    return [word for flag, value in options.items() if value is not None for word in (flag, str(value))]


def _component(name: str, kind: str, replicas: int, args: list[str], *, pinned: bool = False) -> dict[str, Any]:
    escaped = [word.replace("$", "$$") for word in args]  # a manifest would read $(X) as a variable
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "main", "args": escaped}]}}
    if pinned:
        pod["metadata"] = {"annotations": {PINNED: "true"}}
    return {"name": name, "type": kind, "replicas": replicas, "podTemplate": pod}


def _free_name(model: ServeModel, taken: set[str]) -> str:
    """A DNS label after the served name (else the file), with a number when it is taken."""
    text = model.served_name or model.model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_LIMIT].strip("-") or WORKER
    name, number = label, 2
    while name in taken:
        name, number = f"{label}-{number}", number + 1
    return name
