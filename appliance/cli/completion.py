"""`completion`: the completion script of a shell."""

import click
from click.shell_completion import get_completion_class

from appliance.cli.verb import Verb


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL, to be sourced: source <(dynamo-appliance completion bash)."""
    from appliance.cli.program import NAME, program

    made = get_completion_class(shell)
    if made is None:  # the choices above are the ones that click knows
        raise click.UsageError(f"no completion for {shell}")
    variable = f"_{NAME.replace('-', '_').upper()}_COMPLETE"
    click.echo(made(program, {}, NAME, variable).source())
