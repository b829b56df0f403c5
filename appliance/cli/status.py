"""`status`: what runs, how it is, and where clients find it."""

import time
from typing import Any

import click

from appliance.cli.output import print_heading, print_json, print_table
from appliance.cli.verb import Call, Verb, json_flag
from appliance.graph.printer import format_age

GIB = 1 << 30


@click.command(cls=Verb)
@json_flag
@click.pass_obj
def status(call: Call, as_json: bool) -> None:
    """Show models, workers, GPUs and front ends of the running appliance."""
    found = call.admin().get("status")
    if as_json:
        print_json(found)
        return
    click.echo(_headline(found))
    _section("Models", ("NAME", "STATE", "CONTEXT", "REASON"), [_model(one) for one in found["models"]])
    columns = ("ID", "STATE", "AGE", "STARTS", "PID", "REASON")
    _section("Workers", columns, [_process(one) for one in found["workers"]])
    _gpus(found)
    _section("Front ends", columns, [_process(one) for one in found["frontends"]])


def _headline(found: dict[str, Any]) -> str:
    state = "draining" if found["draining"] else "ready" if found["ready"] else "starting"
    running = found["active_requests"]
    requests = f"{running} running request{'' if running == 1 else 's'}"
    return f"{found['url']}  {state}  up {format_age(time.time() - found['started_at'])}  {requests}"


def _section(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    click.echo()
    print_heading(f"{title} ({len(rows)})")
    if rows:
        print_table(header, rows, detail=True)


def _model(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["name"], one["phase"], one["context_length"], one["reason"]


def _gpus(found: dict[str, Any]) -> None:
    """Nothing at all on a machine without GPU."""
    if found["gpus"]:
        columns = ("GPU", "NAME", "HEALTH", "MEMORY GIB", "LOAD", "WORKERS", "REASON")
        _section("GPUs", columns, [_gpu(one) for one in found["gpus"]])
    if found["hardware"]["gpu_defect"]:
        click.echo()
        click.echo(f"GPUs cannot be used: {found['hardware']['gpu_message']}")


def _gpu(one: dict[str, Any]) -> tuple[Any, ...]:
    memory = f"{one['memory_used'] / GIB:.1f} of {one['memory_total'] / GIB:.1f}"
    load = "" if one["utilisation"] is None else f"{one['utilisation']}%"
    owners = ", ".join(f"{use['instance']} ({use['promised'] / GIB:.1f} promised)" for use in one["workers"])
    return one["index"], one["sku"] or one["name"], one["health"], memory, load, owners, one["reason"]


def _process(one: dict[str, Any]) -> tuple[Any, ...]:
    reason = "" if one["phase"] == "ready" else _progress(one) or one["reason"]
    return one["id"], one.get("state", one["phase"]), _age(one), one["restarts"] + 1, one["pid"], reason


def _progress(one: dict[str, Any]) -> str:
    """How far a starting worker is, such as `loading 40%`."""
    progress = one.get("progress")
    if not isinstance(progress, dict) or one.get("phase") != "starting":
        return ""
    fraction = progress.get("fraction", -1)
    return f"{progress.get('text', '')} {fraction:.0%}" if fraction >= 0 else str(progress.get("text", ""))


def _age(one: dict[str, Any]) -> str:
    since = one.get("state_since") or one.get("since")
    return format_age(time.time() - since) if since else ""
