"""`logs`: the last lines of a component, and those to come."""

import click

from appliance.cli.verb import Call, Verb


@click.command(cls=Verb)
@click.argument("component", required=False, default="appliance")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="How many lines.")
@click.pass_obj
def logs(call: Call, component: str, follow: bool, lines: int) -> None:
    """Show the last lines of a COMPONENT: a worker id, a component of a graph, or (without one) the appliance."""
    for line in call.admin().lines("logs", component, lines=lines, follow=int(follow)):
        click.echo(line)
