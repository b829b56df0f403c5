"""`why`: the recorded decisions about one thing."""

from typing import Any

import click

from appliance.cli.admin_client import AdminClient
from appliance.cli.events import print_events
from appliance.cli.output import print_json
from appliance.cli.verb import Call, Verb, json_flag
from appliance.core.errors import NotFound

SUBJECTS = ("worker", "model", "dgd", "key", "request")


@click.command(cls=Verb)
@click.argument("subject")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@json_flag
@click.pass_obj
def why(call: Call, subject: str, limit: int, as_json: bool) -> None:
    """Show the decisions about a SUBJECT: a worker, model, graph, key or request, or a subject such as dgd/serve."""
    found = _events(call.admin(), subject, limit)
    if as_json:
        print_json(found)
    elif found:
        print_events(found)
    else:
        raise NotFound(f"no decision about {subject!r} is recorded")


def _events(admin: AdminClient, subject: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for candidate in (subject, *(f"{kind}/{subject}" for kind in SUBJECTS)):
        found += admin.get("events", subject=candidate, limit=limit)["items"]
    return sorted(found, key=lambda event: (event["at"], event.get("id", 0)))[-limit:]
