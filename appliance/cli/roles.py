"""`worker` and `frontend`: single roles, as the supervisor starts them."""

from typing import Any

import click

from appliance.cli.engine_flags import engine_flags, parse_engine_args
from appliance.cli.setting_flags import setting_flags, setting_values
from appliance.cli.verb import Call, Verb
from appliance.core.config import environment, load_settings, read_child_environment

FRONTEND_SETTINGS = {"--http-host": "http.host", "--http-port": "http.port", "--router-mode": "router.mode"}


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
@click.pass_context
def worker(ctx: click.Context, /, **flags: Any) -> int:
    """Run one engine that serves one model to front ends."""
    from appliance.roles.options import WorkerOptions
    from appliance.roles.worker import run_worker

    call: Call = ctx.obj
    environ = environment()
    settings = load_settings(config_file=None, environ=environ, flags={}).settings
    engine_args = parse_engine_args(flags["engine_args"], flags["engine_url"])
    if (mode := flags["disaggregation_mode"]) != "agg":
        engine_args["disaggregation_mode"] = mode
    options = WorkerOptions(
        child=read_child_environment(environ),
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
        debug=call.debug,
    )
    return run_worker(options)


@click.command(cls=Verb)
@setting_flags(FRONTEND_SETTINGS)
@click.pass_context
def frontend(ctx: click.Context, /, **flags: Any) -> int:
    """Run one front end on the sockets that the supervisor handed down."""
    from appliance.roles.frontend import run_frontend
    from appliance.roles.options import FrontendOptions

    call: Call = ctx.obj
    environ = environment()
    loaded = load_settings(config_file=None, environ=environ, flags=setting_values(FRONTEND_SETTINGS, flags))
    return run_frontend(
        FrontendOptions(child=read_child_environment(environ), settings=loaded.settings, debug=call.debug)
    )
