"""`models`: list what is served and what lies here, show what a model's files hold."""

from pathlib import Path
from typing import Any

import click

from appliance.cli.output import note, print_json, print_table
from appliance.cli.verb import Call, VerbGroup, json_flag
from appliance.core.errors import NotRunning
from appliance.core.model_facts import ModelFacts

MIB = 1 << 20


@click.group(cls=VerbGroup)
def models() -> None:
    """List models and show what a model file holds."""


@models.command("list")
@json_flag
@click.pass_obj
def list_models(call: Call, as_json: bool) -> None:
    """List the models that are served, and those in the state dir."""
    rows = _served(call) + _local(call.paths.models)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(("NAME", "STATE", "CONTEXT", "PLACE"), [tuple(row.values()) for row in rows])
    else:
        note(f"no models are served, and none lie in {call.paths.models}")


@models.command()
@click.argument("model")
@json_flag
@click.pass_obj
def show(call: Call, model: str, as_json: bool) -> None:
    """Show what the files of a MODEL say: a path, a name in the state dir, or `demo`."""
    from appliance.models.demo import DEMO_NAME, demo_model_path
    from appliance.models.facts import describe_model

    stored = call.paths.models / model
    path = demo_model_path() if model in ("demo", DEMO_NAME) else stored if stored.exists() else Path(model)
    facts = describe_model(path.expanduser())
    if as_json:
        print_json(_plain(facts))
        return
    cache = facts.kv_bytes_per_token * facts.context_length
    for name, value in _plain(facts).items():
        click.echo(f"{name.replace('_', ' '):<20}{', '.join(value) if isinstance(value, list) else value}")
    click.echo(f"{'weights':<20}{facts.size_bytes / MIB:.1f} MiB")
    click.echo(f"{'KV cache':<20}{cache / MIB:.1f} MiB for one stream of full length")


def _plain(facts: ModelFacts) -> dict[str, Any]:
    """The facts that are single values, and the names of the files."""
    names = ("name", "architecture", "task", "size_bytes", "context_length", "vocab_size", "layers", "embedding_size")
    plain = {name: getattr(facts, name) for name in (*names, "kv_bytes_per_token")}
    return {**plain, "path": str(facts.path), "files": sorted(facts.files)}


def _served(call: Call) -> list[dict[str, Any]]:
    try:
        found = call.admin().get("status")["models"]
    except NotRunning:
        return []
    return [
        {"name": one["name"], "state": one["phase"], "context": one.get("context_length"), "place": "served"}
        for one in found
    ]


def _local(folder: Path) -> list[dict[str, Any]]:
    if not folder.is_dir():
        return []
    return [
        {"name": path.stem if path.suffix == ".gguf" else path.name, "state": None, "context": None, "place": str(path)}
        for path in sorted(folder.iterdir())
        if path.is_dir() or path.suffix == ".gguf"
    ]
