"""The name that a model is served under when nobody gave one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.core.errors import ApplianceError
from appliance.graph.arguments import flag_value
from appliance.graph.launch import plan_launch
from appliance.graph.schema import read_graph
from appliance.models.hub.reference import likely_reference


def default_served_name(model: str) -> str:
    """A path's own name, `org/name` of a hub id whatever its commit and file; a made-up mocker name stays as it is."""
    path = Path(model)
    if not path.is_absolute() and (reference := likely_reference(model)):
        return reference.repo
    if path.suffix == ".gguf":
        return path.stem
    return path.name if path.is_absolute() else model


def served_name(argv: tuple[str, ...]) -> str | None:
    """The name under which a worker started with this argv will serve; None when it does not say."""
    given = flag_value(argv, "--served-model-name")
    if given:
        return given
    model = flag_value(argv, "--model")
    return default_served_name(model) if model else None


def worker_models(document: dict[str, Any]) -> list[str]:
    """The `--model` of every worker component of a graph document, also of those without a replica."""
    return [model for argv in worker_launches(document) if (model := flag_value(argv, "--model"))]


def worker_launches(document: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The argv of every worker component of a graph document that can run on a box."""
    for _, argv in named_worker_launches(document):
        yield argv


def named_worker_launches(document: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and argv of every worker component of a graph document that can run on a box."""
    parsed, _ = read_graph(document)
    for at, component in enumerate(parsed.spec.components):
        try:
            launch, _ = plan_launch(component, parsed.spec.env, f"spec.components[{at}]")
        except ApplianceError:
            continue
        if launch is not None and launch.argv[0] == "worker":
            yield component.name, launch.argv
