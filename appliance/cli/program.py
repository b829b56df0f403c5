"""The program: finds the verb, runs it, and turns every outcome into an exit code and at most one line of error."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

from appliance import __version__
from appliance.cli.catalogue import SECTIONS, VERBS
from appliance.cli.verb import Call, VerbGroup
from appliance.core.errors import ApplianceError

NAME = "dynamo-appliance"
SIGNALLED = 128  # plus the signal, as shells count
INTERRUPTED = SIGNALLED + 2


class Program(VerbGroup):
    """The top-level command; a verb's module is imported when the verb is called or completed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = VERBS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"appliance.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in SECTIONS:
            with formatter.section(section):
                formatter.write_dl([(name, entry.help) for name, entry in VERBS.items() if entry.section == section])


@click.group(NAME, cls=Program, invoke_without_command=True)
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """Turns this machine into an LLM serving platform. Begin with `dynamo-appliance serve`."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(args: Sequence[str]) -> int:
    """Run one command line; its exit code. At most one line of error is written; tracebacks only with `--debug`."""
    call = Call(debug="--debug" in args)
    try:
        result = program.main(list(args), prog_name=NAME, standalone_mode=False, obj=call)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except SystemExit as leaving:
        # Our own are for signals. Click's is for a closed pipe: the reader, such as `head`, has enough.
        return leaving.code if isinstance(leaving.code, int) and leaving.code > SIGNALLED else 0
    except Exception as error:
        if call.debug and not isinstance(error, click.ClickException | click.Abort):
            raise
        return _explain(error)
    except KeyboardInterrupt:
        return INTERRUPTED


def _explain(error: Exception) -> int:
    match error:
        case click.Abort():
            return INTERRUPTED
        case click.UsageError():
            verb = error.ctx.command_path if error.ctx else NAME
            return _fail(f"{error.format_message()} (see {verb} --help)", error.exit_code)
        case click.ClickException():
            return _fail(error.format_message(), error.exit_code)
        case ApplianceError():
            return _fail(error.message, error.exit_code)
        case OSError() if error.errno == errno.EPIPE:
            # The same, found while flushing. What Python flushes at exit must not complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            return _fail(f"{place}{error.strerror or error}", 1)
    return _fail(f"something that should not happen: {type(error).__name__}: {error} (--debug shows where)", 1)


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code
