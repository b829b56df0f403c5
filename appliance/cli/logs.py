"""`logs`: the last lines of a component, and those to come."""

import click

from appliance.cli.admin_client import AdminClient
from appliance.cli.verb import Call, Verb
from appliance.core.errors import NotFound


@click.command(cls=Verb)
@click.argument("component", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="How many lines.")
@click.pass_obj
def logs(call: Call, component: str | None, follow: bool, lines: int) -> None:
    """Show the last lines of a COMPONENT: a component of a graph, a worker id (also of a dead worker), or a model.

    Without COMPONENT: those of every process, one after the other.
    """
    admin = call.admin()
    if component:
        _print(admin, component, lines, follow)
        return
    names = _processes(admin)
    if follow and len(names) > 1:
        raise click.UsageError(f"-f follows one process; name one of {', '.join(names)}")
    for name in names:
        _print(admin, name, lines, follow)


def _processes(admin: AdminClient) -> list[str]:
    found = admin.get("status")
    names = [one["id"] for one in (*found["frontends"], *found["workers"])]
    if not names:
        raise NotFound("no process runs now; name a component to see the lines of its dead ones")
    return names


def _print(admin: AdminClient, component: str, lines: int, follow: bool) -> None:
    for line in admin.lines("logs", component, lines=lines, follow=int(follow)):
        click.echo(line)
