"""`logs`: the last lines of a component or of the appliance itself, and those to come."""

import click

from appliance.cli.admin_client import AdminClient
from appliance.cli.verb import Call, Verb

EVERYTHING = "*"
SUPERVISOR = "supervisor"


@click.command(cls=Verb)
@click.argument("component", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C, also of replicas to come.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="How many lines.")
@click.pass_obj
def logs(call: Call, component: str | None, follow: bool, lines: int) -> None:
    """Show the last lines of a COMPONENT: a component of a graph, a worker id (also of a dead worker), a model, or
    supervisor for the appliance itself.

    Without COMPONENT: those of every process, one after the other; with -f, all of them as they come.
    """
    admin = call.admin()
    for name in [component] if component else [EVERYTHING] if follow else _processes(admin):
        for line in admin.lines("logs", name, lines=lines, follow=int(follow)):
            click.echo(line)


def _processes(admin: AdminClient) -> list[str]:
    found = admin.get("status")
    return [SUPERVISOR, *(one["id"] for one in (*found["frontends"], *found["workers"]))]
