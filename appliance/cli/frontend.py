"""`frontend`: one public port, as the supervisor starts it, or by itself."""

from typing import Any

import click

from appliance.cli.router_flags import old_router_flags, take_old_router_flags
from appliance.cli.serve import SETTINGS as SERVE_SETTINGS
from appliance.cli.setting_flags import setting_flags, setting_values
from appliance.cli.verb import Call, Verb
from appliance.core.config import environment, load_settings, read_child_environment
from appliance.core.errors import UsageError
from appliance.discovery.socket_places import parse_places

OF_SUPERVISORS = ("--frontend-processes", "--max-models", "--idle-s")
SETTINGS = {
    "--http-host": "http.host",
    "--http-port": "http.port",
    **{flag: key for flag, key in SERVE_SETTINGS.items() if flag not in OF_SUPERVISORS},
}
"""Flags that are settings: those of `serve`, and other names of two of them."""


@click.command(cls=Verb)
@click.option(
    "--workers",
    metavar="FOLDER|SOCKET,...",
    help="Serve by itself, with the workers whose sockets (NAME.sock) are there now and later.",
)
@click.option("--config", "config_file", metavar="FILE", help="Settings file (TOML).")
@setting_flags(SETTINGS)
@old_router_flags
@click.pass_context
def frontend(ctx: click.Context, /, **flags: Any) -> int:
    """Run one front end: a public port for workers that were started by themselves.

    It joins workers that appear and leaves those that go. Prints one line when it serves. `serve` starts front ends of
    its own, on sockets that it hands down.
    """
    from appliance.roles.options import FrontendOptions

    call: Call = ctx.obj
    child = read_child_environment(environment())
    old, obsolete = take_old_router_flags(flags)
    given = old | setting_values(SETTINGS, flags)
    if child.bus_socket is not None:
        from appliance.roles.frontend import run_frontend

        settings = load_settings(config_file=None, environ=environment(), flags=given).settings
        return run_frontend(FrontendOptions(child=child, settings=settings, debug=call.debug))
    if flags["workers"] is None:
        raise UsageError("a front end needs workers: give the folder of their sockets with --workers, or use `serve`")
    from appliance.roles.frontend_standalone import run_standalone_frontend

    places = parse_places(flags["workers"])
    loaded = call.settings(flags["config_file"], given)
    return run_standalone_frontend(
        FrontendOptions(
            child=child,
            workers=places,
            settings=loaded.settings,
            warnings=(*loaded.warnings, *obsolete),
            debug=call.debug,
        )
    )
