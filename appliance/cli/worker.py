"""`worker`: one engine, as the supervisor starts it, or by itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from appliance.cli.engine_flags import engine_flags, parse_engine_args
from appliance.cli.verb import Call, Verb
from appliance.core.config import environment, load_settings, read_child_environment
from appliance.core.errors import UsageError
from appliance.discovery.socket_places import SUFFIX


@click.command(cls=Verb)
@click.option("--model", required=True, metavar="MODEL", help="Path of a model, or a name for the mocker engine.")
@engine_flags
@click.option(
    "--disaggregation-mode",
    type=click.Choice(("agg", "prefill", "decode")),
    default="agg",
    show_default=True,
    help="Do all of a request, compute prompts only, or go on from computed prompts.",
)
@click.option(
    "--link-socket",
    metavar="PATH",
    help="Unix socket to serve on without a supervisor; front ends know the worker by the name of this file.",
)
@click.pass_context
def worker(ctx: click.Context, /, **flags: Any) -> int:
    """Run one engine that serves one model to front ends.

    With --link-socket it runs by itself until SIGTERM, and prints one line when ready; `frontend --workers` finds it
    there.
    """
    from appliance.roles.options import WorkerOptions
    from appliance.roles.worker import run_worker

    call: Call = ctx.obj
    environ = environment()
    settings = load_settings(config_file=None, environ=environ, flags={}).settings
    child = read_child_environment(environ)
    if (socket := flags["link_socket"]) is not None:
        child = replace(child, link_socket=check_link_socket(socket))
    engine_args = parse_engine_args(flags["engine_args"], flags["engine_url"])
    if (mode := flags["disaggregation_mode"]) != "agg":
        engine_args["disaggregation_mode"] = mode
    options = WorkerOptions(
        child=child,
        model=flags["model"],
        engine=flags["engine"],
        engine_args=engine_args,
        served_model_name=flags["served_model_name"],
        context_length=flags["context_length"],
        task=flags["task"],
        tool_call_parser=flags["tool_call_parser"],
        reasoning_parser=flags["reasoning_parser"],
        supervision=settings.supervision,
        models=call.paths.models,
        hub=settings.hub,
        log=settings.log,
        trace=settings.trace,
        drain=settings.drain,
        debug=call.debug,
    )
    return run_worker(options)


def check_link_socket(text: str) -> Path:
    """The path of a socket that front ends will find. Raises `UsageError`."""
    path = Path(text).expanduser().absolute()
    if path.suffix != SUFFIX:
        raise UsageError(f"cannot use {text!r} for --link-socket: its name must end in {SUFFIX}")
    if not path.parent.is_dir():
        raise UsageError(f"cannot listen at {path}: there is no folder {path.parent}")
    return path
