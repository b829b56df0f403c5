"""`backup`: one file with what an appliance must not lose."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from appliance import __version__
from appliance.cli.output import print_json
from appliance.cli.verb import Call, Verb, json_flag
from appliance.core.errors import Conflict, NotRunning, StateUnavailable
from appliance.core.paths import Paths


@click.command(cls=Verb)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--with-models", is_flag=True, help="Local models too; without them it is small.")
@click.option("--force", is_flag=True, help="Replace FILE.")
@json_flag
@click.pass_obj
def backup(call: Call, file: Path, with_models: bool, force: bool, as_json: bool) -> None:
    """Write a backup to FILE, a tar archive compressed with zstd: graphs, keys, decisions and other objects.

    Works while the appliance runs and when it does not. Engines, checkpoints and logs are not in it.
    """
    from appliance.state.restore import check_backup

    draft = file.with_name(f".{file.name}.part")
    with _replacing(file, draft, force) as target:
        try:
            for block in call.admin().blocks("backup", models=int(with_models)):
                target.write(block)
        except NotRunning as refusal:
            _pack_stopped(call.paths, target, with_models, refusal)
        target.flush()
        os.fsync(target.fileno())
        manifest = check_backup(draft)
    facts = {"file": str(file), "bytes": file.stat().st_size, "files": len(manifest.files)}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"wrote and checked {file}: {facts['files']} files, {facts['bytes']} bytes")


def _pack_stopped(paths: Paths, target: BinaryIO, with_models: bool, refusal: NotRunning) -> None:
    """Without a running appliance the state is ours to read, as long as nobody starts one."""
    from appliance.state.backup import write_backup
    from appliance.state.lock import hold_lock

    if not paths.database.exists() or target.tell():
        raise refusal
    try:
        with hold_lock(paths.lock):
            write_backup(paths.state_dir, target, with_models=with_models, version=__version__)
    except StateUnavailable as error:
        raise (refusal if "another appliance" in error.message else error) from None


@contextmanager
def _replacing(file: Path, draft: Path, force: bool) -> Iterator[BinaryIO]:
    """A file for the owner only that takes its name when it is whole."""
    if file.exists() and not force:
        raise Conflict(f"{file} exists; --force replaces it")
    try:
        with open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
            yield target
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
