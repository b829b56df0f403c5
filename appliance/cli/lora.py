"""`lora`: load, list and unload LoRA adapters of running models."""

from pathlib import Path

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
    """Load the adapter in folder PATH on all workers of MODEL; clients ask for it as NAME."""
    body = {"model": model, "name": name, "path": str(path.resolve())}
    told = call.admin().post("loras", body=body)
    click.echo(
        f"{name} {'was loaded already' if told['already'] else 'is loaded'} on {told['workers']} workers of {model}"
    )


@lora.command("list")
@json_flag
@click.pass_obj
def list_adapters(call: Call, as_json: bool) -> None:
    """List the adapters that are loaded."""
    found = call.admin().get("loras")["items"]
    if as_json:
        print_json(found)
    elif found:
        print_table(("NAME", "MODEL", "FOLDER"), [(one["name"], one["model"], one["path"]) for one in found])
    else:
        note("no adapter is loaded")


@lora.command()
@click.argument("name")
@click.pass_obj
def unload(call: Call, name: str) -> None:
    """Unload the adapter NAME from all workers."""
    call.admin().delete("loras", name)
    click.echo(f"{name} is unloaded")
