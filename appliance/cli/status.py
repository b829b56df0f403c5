"""`status`: what runs, how it is, and where clients find it."""

from typing import Any

import click

from appliance.cli.output import print_heading, print_json, print_table
from appliance.cli.verb import Call, Verb, json_flag


@click.command(cls=Verb)
@json_flag
@click.pass_obj
def status(call: Call, as_json: bool) -> None:
    """Show models, workers and front ends of the running appliance."""
    found = call.admin().get("status")
    if as_json:
        print_json(found)
        return
    click.echo(_headline(found))
    _section("Models", ("NAME", "STATE", "CONTEXT", "REASON"), [_model(one) for one in found.get("models", [])])
    _section("Workers", ("ID", "STATE", "MODEL", "PID", "REASON"), [_worker(one) for one in found.get("workers", [])])
    _section("Front ends", ("ID", "STATE", "PID"), [_frontend(one) for one in found.get("frontends", [])])


def _headline(found: dict[str, Any]) -> str:
    parts = [found.get("url") and f"{found['url']}/v1", _count(found.get("active_requests", 0), "running request")]
    if found.get("uptime_s") is not None:
        parts.append(f"up {_duration(found['uptime_s'])}")
    if found.get("draining"):
        parts.append("draining")
    return "  ".join(part for part in parts if part)


def _section(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    click.echo()
    print_heading(f"{title} ({len(rows)})")
    if rows:
        print_table(header, rows)


def _model(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["name"], one.get("phase"), one.get("context_length"), one.get("reason")


def _worker(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["id"], one.get("phase"), one.get("model"), one.get("pid"), one.get("reason") or _progress(one)


def _frontend(one: dict[str, Any]) -> tuple[Any, ...]:
    return one.get("id"), one.get("phase"), one.get("pid")


def _progress(one: dict[str, Any]) -> str:
    """How far a starting worker is, such as `loading 40%`."""
    progress = one.get("progress")
    if not isinstance(progress, dict) or one.get("phase") != "starting":
        return ""
    fraction = progress.get("fraction", -1)
    return f"{progress.get('text', '')} {fraction:.0%}" if fraction >= 0 else str(progress.get("text", ""))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"
