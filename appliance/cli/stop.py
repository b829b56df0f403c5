"""`stop`: stop the running appliance and wait for its end."""

import time

import click

from appliance.cli.verb import Call, Verb
from appliance.core.errors import ApplianceError, NotRunning

LOOK_EVERY_S = 0.1


@click.command(cls=Verb)
@click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", help="Longest wait for the end.")
@click.pass_obj
def stop(call: Call, timeout: float) -> None:
    """Stop the running appliance: it finishes running requests, stops its workers and ends."""
    admin = call.admin()
    admin.post("stop")
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            admin.get("status")
        except NotRunning:
            click.echo("stopped")
            return
        time.sleep(LOOK_EVERY_S)
    raise ApplianceError(f"the appliance still runs after {timeout:g} s; it is finishing requests")
