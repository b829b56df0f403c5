"""`doctor`: what keeps the appliance from working well here, each line with its cure."""

import click

from appliance.cli.output import print_json, print_table
from appliance.cli.verb import Call, Verb, json_flag
from appliance.core.config import environment
from appliance.core.errors import ApplianceError


@click.command(cls=Verb)
@click.option("--config", "config_file", metavar="FILE", help="Settings file (TOML).")
@json_flag
@click.pass_obj
def doctor(call: Call, config_file: str | None, as_json: bool) -> int:
    """Check this machine, the stored state and the running appliance; say what is wrong and what helps.

    Ends with 1 when something fails. Changes nothing.
    """
    from appliance.roles.doctor import examine
    from appliance.roles.doctor.finding import Scene

    settings = status = None
    warnings: tuple[str, ...] = ()
    settings_error = status_error = ""
    try:
        loaded = call.settings(config_file)
        settings, warnings = loaded.settings, tuple(loaded.warnings)
    except ApplianceError as error:
        settings_error = error.message
    try:
        status = call.admin().get("status")
    except ApplianceError as error:
        status_error = error.message
    scene = Scene(
        paths=call.paths,
        settings=settings,
        settings_error=settings_error,
        warnings=warnings,
        environ=environment(),
        status=status,
        status_error=status_error,
    )
    found = list(examine(scene))
    if as_json:
        print_json([{"check": name, "level": f.level, "text": f.text, "cure": f.cure or None} for name, f in found])
    else:
        rows = [(f.level, name, f"{f.text} -> {f.cure}" if f.cure else f.text) for name, f in found]
        print_table(("", "CHECK", "FINDING"), rows, detail=True)
    return 1 if any(finding.level == "fail" for _, finding in found) else 0
