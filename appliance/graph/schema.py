"""Typed views of a `DynamoGraphDeployment` v1beta1, for reading. The document itself stays a plain dict.

A view holds what we act on; everything else of a document is kept because the document is kept.
"""

from typing import Any, TypeVar

import msgspec

from appliance.graph.problem import Problem

T = TypeVar("T")


class View(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the views: Python names in snake case, document names in camel case, unknown fields passed over."""


class EnvVar(View, frozen=True):
    """One environment variable; `value_from` refers to something outside the document."""

    name: str
    value: str = ""
    value_from: dict[str, Any] | None = None


class Resources(View, frozen=True):
    """Amounts by resource name, such as `nvidia.com/gpu`."""

    limits: dict[str, str | int | float] = {}
    requests: dict[str, str | int | float] = {}


class Container(View, frozen=True):
    """A container of a pod; the one called `main` is what runs on a box."""

    name: str = ""
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[EnvVar] = []
    resources: Resources = Resources()


class PodSpec(View, frozen=True):
    """The part of a pod template that is looked at."""

    containers: list[Container] = []


class PodMetadata(View, frozen=True):
    """The part of a pod's metadata that is looked at."""

    annotations: dict[str, str] = {}


class PodTemplate(View, frozen=True):
    """A pod template."""

    metadata: PodMetadata | None = None
    spec: PodSpec | None = None


class ModelRef(View, frozen=True):
    """The base model of a component."""

    name: str
    revision: str = ""


class Multinode(View, frozen=True):
    """Nodes per replica."""

    node_count: int = 2


class Component(View, frozen=True):
    """One service of a graph."""

    name: str
    type: str = ""
    """Empty: a generic component."""
    replicas: int = 1
    pod_template: PodTemplate | None = None
    scaling_adapter: dict[str, Any] | None = None
    """Present: replicas are owned by a scaling adapter."""
    model_ref: ModelRef | None = None
    multinode: Multinode | None = None
    frontend_sidecar: str = ""

    @property
    def containers(self) -> list[Container]:
        """All containers, none when there is no template."""
        if self.pod_template is None or self.pod_template.spec is None:
            return []
        return self.pod_template.spec.containers

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of its pods."""
        template = self.pod_template
        return template.metadata.annotations if template and template.metadata else {}

    @property
    def main(self) -> Container | None:
        """The container called `main`."""
        return next((one for one in self.containers if one.name == "main"), None)


class RestartStrategy(View, frozen=True):
    """How a restart goes through the components."""

    type: str = "Sequential"
    order: list[str] = []


class Restart(View, frozen=True):
    """A wish to restart: any new id is one."""

    id: str
    strategy: RestartStrategy = RestartStrategy()


class GraphSpec(View, frozen=True):
    """The spec of a graph."""

    components: list[Component] = []
    env: list[EnvVar] = []
    backend_framework: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    restart: Restart | None = None


class Graph(View, frozen=True):
    """A graph by name, defaults filled in."""

    name: str
    spec: GraphSpec


def read_graph(document: dict[str, Any]) -> tuple[Graph, list[Problem]]:
    """The view of a document, and one problem per part whose shape is wrong; such components are left out."""
    spec = without_nulls(document.get("spec"))
    problems: list[Problem] = []
    components: list[Component] = []
    rest: dict[str, Any] = {}
    if isinstance(spec, dict):
        rest = {key: value for key, value in spec.items() if key != "components"}
        components = _read_components(spec.get("components", []), problems)
    else:
        problems.append(Problem("spec", "must be an object"))
    plain = read_part(rest, GraphSpec, "spec", problems) or GraphSpec()
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    graph = Graph(
        name=name if isinstance(name, str) else "", spec=msgspec.structs.replace(plain, components=components)
    )
    return graph, problems


def _read_components(items: object, problems: list[Problem]) -> list[Component]:
    if not isinstance(items, list):
        problems.append(Problem("spec.components", "must be a list"))
        return []
    read = [read_part(item, Component, f"spec.components[{at}]", problems) for at, item in enumerate(items)]
    return [component for component in read if component is not None]


def read_part(value: object, view: type[T], path: str, problems: list[Problem]) -> T | None:
    """One part as its view; None and a problem when its shape is wrong."""
    try:
        return msgspec.convert(value, view)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        problems.append(Problem(path + where.rstrip("`"), message[0].lower() + message[1:]))
        return None


def without_nulls(value: Any) -> Any:
    """The value without its null members: the API server takes an explicit null for an absent field."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
