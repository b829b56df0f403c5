"""`apply`, `get`, `describe`, `delete`, `scale`: work on the stored objects, with the same manifests as a cluster."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from appliance.cli.output import note, print_heading, print_json, print_table
from appliance.cli.verb import Call, Verb, json_flag
from appliance.core.records import StoredObject
from appliance.graph.kinds import resolve_kind


@click.command(cls=Verb)
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE", help="Manifest; - reads stdin.")
@json_flag
@click.pass_obj
def apply(call: Call, files: tuple[str, ...], as_json: bool) -> None:
    """Create or change objects from manifests: all of them, or none if one is wrong."""
    from appliance.graph.manifest import parse_manifests

    manifests = [one for file in files for one in parse_manifests(_read(file), source=file)]
    stored = call.admin().put("objects", body=[one.document for one in manifests])["items"]
    for manifest, document in zip(manifests, stored, strict=True):
        for problem in (*manifest.problems, *document.get("warnings", [])):
            note(f"warning: {manifest.name}: {problem}")
        if not as_json:
            click.echo(f"{manifest.kind}/{manifest.name} applied")
    if as_json:
        print_json(stored)


@click.command(cls=Verb)
@click.argument("kind")
@click.argument("name", required=False)
@click.option("-o", "--output", type=click.Choice(("table", "wide", "yaml", "json")), default="table", help="Form.")
@json_flag
@click.pass_obj
def get(call: Call, kind: str, name: str | None, output: str, as_json: bool) -> None:
    """List the objects of a KIND (such as dgd), or show one."""
    wanted = resolve_kind(kind).kind
    found = call.admin().get("objects", wanted, *([name] if name else []))
    documents = [found] if name else found["items"]
    if as_json or output == "json":
        print_json(found)
    elif output == "yaml":
        _print_yaml(documents)
    else:
        _print_rows(documents, wide=output == "wide")


@click.command(cls=Verb)
@click.argument("kind")
@click.argument("name")
@click.pass_obj
def describe(call: Call, kind: str, name: str) -> None:
    """Show an object with its state and the last decisions about it."""
    from appliance.cli.events import print_events

    resolved = resolve_kind(kind)
    admin = call.admin()
    _print_yaml([admin.get("objects", resolved.kind, name)])
    click.echo()
    print_heading("Decisions")
    print_events(admin.get("events", subject=f"{resolved.short}/{name}", limit=20)["items"])


@click.command(cls=Verb)
@click.argument("kind")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def delete(call: Call, kind: str, names: tuple[str, ...]) -> None:
    """Delete objects; what runs for them is drained and stopped."""
    wanted = resolve_kind(kind).kind
    admin = call.admin()
    for name in names:
        admin.delete("objects", wanted, name)
        click.echo(f"{wanted}/{name} deleted")


@click.command(cls=Verb)
@click.argument("component")
@click.option("--replicas", type=click.IntRange(min=0), required=True, help="How many shall run.")
@click.option("--graph", metavar="NAME", help="Graph of the component, where its name alone is not enough.")
@click.pass_obj
def scale(call: Call, component: str, replicas: int, graph: str | None) -> None:
    """Change the replicas of a COMPONENT (or of the worker that serves the model of that name)."""
    call.admin().post("scale", body={"graph": graph, "component": component, "replicas": replicas})
    click.echo(f"{component} scaled to {replicas}")


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except UnicodeDecodeError:
        raise click.UsageError(f"{file} is no text") from None


def _print_yaml(documents: list[dict[str, Any]]) -> None:
    from appliance.graph.yaml_text import render_yaml

    click.echo("---\n".join(render_yaml(item) for item in documents), nl=False)


def _print_rows(documents: list[dict[str, Any]], *, wide: bool) -> None:
    from appliance.graph.printer import printer_header, printer_row

    if not documents:
        note("no objects")
        return
    print_table(printer_header(wide), [printer_row(_stored(one), time.time(), wide) for one in documents])


def _stored(document: dict[str, Any]) -> StoredObject:
    """The stored form of a document, with what the store owns, for the table."""
    from datetime import datetime

    metadata = document.get("metadata", {})
    created = metadata.get("creationTimestamp")
    return StoredObject(
        kind=document.get("kind", ""),
        name=metadata.get("name", ""),
        spec=document.get("spec", {}),
        status=document.get("status", {}),
        created_at=datetime.fromisoformat(created).timestamp() if created else time.time(),
    )
