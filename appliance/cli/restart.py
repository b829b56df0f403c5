"""`restart`: replace the processes of a component, one after the other."""

import time
from typing import Any

import click

from appliance.cli.admin_client import AdminClient
from appliance.cli.verb import Call, Verb
from appliance.core.errors import ApplianceError

LOOK_EVERY_S = 0.2


@click.command(cls=Verb)
@click.argument("component")
@click.option("--graph", metavar="NAME", help="Graph of the component, where its name alone is not enough.")
@click.option("--wait", is_flag=True, help="Return when all of its processes are replaced.")
@click.option("--timeout", default=600.0, show_default=True, metavar="SECONDS", help="Longest wait, with --wait.")
@click.pass_obj
def restart(call: Call, component: str, graph: str | None, wait: bool, timeout: float) -> None:
    """Replace the processes of a COMPONENT (or `frontend`) one after the other.

    Each new one is ready before the old one finishes its requests and ends, where there is room for both.
    """
    admin = call.admin()
    begun = admin.post("restart", body={"component": component, "graph": graph})
    if not wait:
        click.echo(f"{begun['component']} restarts: {begun['replicas']} to replace")
        return
    _wait_replaced(admin, begun, time.monotonic() + timeout)
    click.echo(f"{begun['component']} restarted: {begun['replicas']} replaced")


def _wait_replaced(admin: AdminClient, begun: dict[str, Any], deadline: float) -> None:
    """Look until no old process is left. Raises `ApplianceError` when a new one fails, or after the deadline."""
    old = set(begun["processes"])
    while time.monotonic() < deadline:
        status = admin.get("status")
        rows = [one for one in (*status["frontends"], *status["workers"]) if _is_of(one, begun)]
        new = [one for one in rows if one["id"] not in old]
        failed = next((one for one in new if one["phase"] == "failed"), None)
        if failed is not None:
            raise ApplianceError(f"{failed['id']} does not start: {failed['reason']}; the others stay as they are")
        if len(new) == len(rows) and sum(one["phase"] == "ready" for one in new) >= begun["replicas"]:
            return
        time.sleep(LOOK_EVERY_S)
    raise ApplianceError(f"{begun['component']} is not restarted yet; `dynamo-appliance status` shows how far it is")


def _is_of(row: dict[str, Any], begun: dict[str, Any]) -> bool:
    return (row["graph"], row["component"]) == (begun["graph"], begun["component"])
