"""`why`: the recorded decisions about one thing."""

from typing import Any

import click

from appliance.cli.admin_client import AdminClient
from appliance.cli.decisions import print_decisions
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
    """Show the decisions about a SUBJECT: a worker, model, graph, key or request, or a subject such as dgd/serve.

    A request is named by the id in its answer, or by its x-request-id. Front ends remember the last thousand or so.
    """
    admin = call.admin()
    found = _events(admin, subject, limit)
    routed = None if found else _decisions(admin, subject)
    if as_json and (found or routed):
        print_json(found or routed)
    elif routed:
        print_decisions(routed)
    elif found:
        print_events(found)
    else:
        raise NotFound(f"no decision about {subject!r} is recorded")


def _decisions(admin: AdminClient, request: str) -> dict[str, Any] | None:
    """What front ends remember of a request of that name."""
    try:
        found: dict[str, Any] = admin.get("decisions", request)
    except NotFound:
        return None
    return found


def _events(admin: AdminClient, subject: str, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for candidate in (subject, *(f"{kind}/{subject}" for kind in SUBJECTS)):
        found += admin.get("events", subject=candidate, limit=limit)["items"]
    return sorted(found, key=lambda event: (event["at"], event.get("id", 0)))[-limit:]
