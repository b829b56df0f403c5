"""`restore`: make the state what a backup says."""

from datetime import datetime
from pathlib import Path

import click

from appliance.cli.output import print_json
from appliance.cli.verb import Call, Verb, json_flag


@click.command(cls=Verb)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--force", is_flag=True, help="Replace the state that is there; its database is kept beside the new one.")
@json_flag
@click.pass_obj
def restore(call: Call, file: Path, force: bool, as_json: bool) -> None:
    """Restore the backup FILE into the state dir of an appliance that does not run.

    Everything is checked before anything is changed. Models that are there already stay.
    """
    from appliance.state.lock import hold_lock
    from appliance.state.restore import restore_backup

    paths = call.paths
    with hold_lock(paths.lock):
        manifest = restore_backup(file, paths.state_dir, force=force)
    facts = {
        "state_dir": str(paths.state_dir),
        "version": manifest.version,
        "created_at": manifest.created_at,
        "files": len(manifest.files),
    }
    if as_json:
        print_json(facts)
        return
    made = f"{datetime.fromtimestamp(manifest.created_at):%Y-%m-%d %H:%M:%S}"
    click.echo(f"restored {paths.state_dir} as of {made} (version {manifest.version}, {facts['files']} files)")
