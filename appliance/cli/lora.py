"""`lora`: load, list and unload LoRA adapters of running models."""

from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from appliance.cli.output import note, print_json, print_table
from appliance.cli.verb import Call, VerbGroup, json_flag


@click.group(cls=VerbGroup)
def lora() -> None:
    """Load, list and unload LoRA adapters of running models, each a model name of its own."""


@lora.command()
@click.argument("model")
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_obj
def load(call: Call, model: str, name: str, path: Path) -> None:
    """Load the adapter in folder PATH on all workers of MODEL.

    Clients ask for it as NAME. Workers that start later load it, too, before they serve. Loading the same again has
    workers try that could not load it before.
    """
    body = {"model": model, "name": name, "path": str(path.resolve())}
    told = call.admin().post("loras", body=body)
    click.echo(
        f"{name} {'was loaded already' if told['already'] else 'is loaded'} on {told['workers']} workers of {model}"
    )


@lora.command("list")
@json_flag
@click.pass_obj
def list_adapters(call: Call, as_json: bool) -> None:
    """List the adapters: their state, and on how many workers they are."""
    found = call.admin().get("loras")["items"]
    if as_json:
        print_json(found)
    elif found:
        columns = ("NAME", "MODEL", "STATE", "WORKERS", "FOLDER", "REASON")
        print_table(columns, [_row(one) for one in sorted(found, key=itemgetter("name"))], detail=True)
    else:
        note("no adapter is loaded")


@lora.command()
@click.argument("name")
@click.pass_obj
def unload(call: Call, name: str) -> None:
    """Unload the adapter NAME from all workers, for good."""
    call.admin().delete("loras", name)
    click.echo(f"{name} is unloaded")


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["name"], one["model"], one["phase"], len(one["workers"]), one["path"], one["reason"]
