"""Graph documents for tests: the examples under tests/data/graphs and small ones made on the spot."""

from pathlib import Path
from typing import Any

from appliance.graph.kinds import BETA, DGD
from appliance.graph.manifest import parse_manifests

EXAMPLES = Path(__file__).parent.parent / "data" / "graphs"


def example(name: str) -> dict[str, Any]:
    """The v1beta1 document of an example file."""
    return parse_manifests((EXAMPLES / f"{name}.yaml").read_text(), name)[0].document


def worker(name: str = "worker", args: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    """A worker component; `fields` are further members of it, `command` and `env` go to its main container."""
    main: dict[str, Any] = {"name": "main", "args": ["worker", "--engine", "mocker"] if args is None else args}
    for key in ("command", "env"):
        if key in fields:
            main[key] = fields.pop(key)
    return {"name": name, "type": "worker", "podTemplate": {"spec": {"containers": [main]}}, **fields}


def graph(*components: dict[str, Any], name: str = "g", **spec: Any) -> dict[str, Any]:
    """A graph of components."""
    members = {"components": list(components), **spec}
    return {"apiVersion": BETA, "kind": DGD, "metadata": {"name": name}, "spec": members}
