"""The rows of `models list`: what is served, hub models, and files that a user has put beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli.verb import Call
from appliance.core.errors import NotRunning

if TYPE_CHECKING:
    from appliance.models.store import ModelStore

Row = dict[str, Any]
SHORT_COMMIT = 12  # digits; enough to tell commits apart, and `rm` and `serve` take them


def served_rows(call: Call) -> list[Row]:
    """The models of the running appliance; none when none runs."""
    try:
        found = call.admin().get("status")["models"]
    except NotRunning:
        return []
    return [
        {"name": one["name"], "state": one["phase"], "context": one.get("context_length"), "place": "served"}
        for one in found
    ]


def stored_rows(store: "ModelStore", users: Mapping[str, Sequence[str]]) -> list[Row]:
    """Hub models, whole ones and unfinished downloads."""
    whole = [
        {
            "name": model.manifest.repo,
            "state": "incomplete" if model.missing() else "stored",
            "context": None,
            "place": str(model.folder),
            "size_bytes": model.size,
            "commit": model.manifest.commit,
            "models": sorted(filter(None, model.manifest.models)),
            "used_by": list(users.get(model.name, ())),
        }
        for model in store.models()
    ]
    return whole + [
        {
            "name": name.partition("@")[0],
            "state": "partial",
            "context": None,
            "place": str(store.partial(*name.split("@"))),
            "size_bytes": size,
            "commit": name.partition("@")[2],
        }
        for name, size in store.partials().items()
    ]


def users_of_models(call: Call, store: "ModelStore") -> dict[str, list[str]]:
    """Graphs of the running appliance by the stored model (`org/name@commit`) that they use."""
    from appliance.models.hub.reference import likely_reference
    from appliance.roles.model_names import worker_models

    try:
        graphs = call.admin().get("objects", "DynamoGraphDeployment")["items"]
    except NotRunning:
        return {}
    found: dict[str, list[str]] = {}
    for graph in graphs:
        for model in worker_models(graph):
            if (reference := likely_reference(model)) and (stored := store.find(reference)):
                found.setdefault(stored.name, []).append(f"dgd/{graph['metadata']['name']}")
    return found


def local_rows(folder: Path) -> list[Row]:
    """Files and folders that a user has put beside the hub models."""
    if not folder.is_dir():
        return []
    return [
        {"name": path.stem if path.suffix == ".gguf" else path.name, "state": None, "context": None, "place": str(path)}
        for path in sorted(folder.iterdir())
        if (path.is_dir() and "--" not in path.name and path.name[0] != ".") or path.suffix == ".gguf"
    ]


def model_cells(row: Row) -> tuple[Any, ...]:
    """The row as it stands in a table."""
    from appliance.models.hub.progress import amount

    size = amount(row["size_bytes"]) if "size_bytes" in row else None
    commit = f"@{row['commit'][:SHORT_COMMIT]}" if "commit" in row else ""
    used_by = ", ".join(row.get("used_by", []))
    return (f"{row['name']}{commit}", row["state"], row["context"], size, used_by, row["place"])
