"""`engine`: the managed environments of foreign engines, which the executable does not hold."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from appliance.cli.output import note, print_json, print_table
from appliance.cli.verb import Call, VerbGroup, json_flag

GIB = 1 << 30


@click.group(cls=VerbGroup)
def engine() -> None:
    """Install, list and remove the engines vllm and sglang."""


@engine.command()
@click.argument("spec", metavar="ENGINE[==VERSION]")
@click.option("--index-url", metavar="URL", help="Package index to install from.")
@click.option("--find-links", multiple=True, metavar="PATH", help="Folder or page with packages; may be repeated.")
@click.option("--python", metavar="PATH", help="Python to make the environment with.  [default: found on the path]")
@click.pass_obj
def install(call: Call, spec: str, index_url: str | None, find_links: tuple[str, ...], python: str | None) -> None:
    """Install an engine into an environment of its own, in the state dir.

    Uses uv when it is there, else Python's venv and pip. An interrupted install goes on where it was.
    """
    import trio

    from appliance.engines.managed.install import Installer, InstallWish, parse_spec
    from appliance.roles.foreign_engines import foreign_environment, own_python

    name, version = parse_spec(spec)
    wish = InstallWish(engine=name, version=version, index_url=index_url, find_links=find_links, python=python)
    installer = Installer(_folder(call), foreign_environment(), own_python=own_python(), say=note)
    made = trio.run(partial(installer.install, wish))
    click.echo(f"{made.name} is ready; `serve --engine {made.engine} MODEL` uses it")


@engine.command("list")
@json_flag
@click.pass_obj
def list_engines(call: Call, as_json: bool) -> None:
    """List the installed engines with their sizes; the newest of each is used."""
    from appliance.engines.managed.catalogue import is_in_use, list_environments, size_bytes

    rows: list[dict[str, Any]] = [
        {
            "name": one.name,
            "engine": one.engine,
            "version": one.version,
            "size_bytes": size_bytes(one.folder),
            "in_use": is_in_use(one.folder),
        }
        for one in list_environments(_folder(call))
    ]
    if as_json:
        print_json(rows)
    elif rows:
        cells = [(one["name"], f"{one['size_bytes'] / GIB:.2f} GiB", "yes" if one["in_use"] else "no") for one in rows]
        print_table(("NAME", "SIZE", "IN USE"), cells)
    else:
        note(f"no engine is installed in {_folder(call)}; `engine install vllm` does it")


@engine.command()
@click.argument("name")
@click.pass_obj
def remove(call: Call, name: str) -> None:
    """Remove an installed engine, by the NAME that `list` shows. Refused while a worker uses it."""
    from appliance.engines.managed.install import remove_environment

    freed = remove_environment(_folder(call), name)
    click.echo(f"removed {name}, which frees {freed / GIB:.2f} GiB")


def _folder(call: Call) -> Path:
    return call.paths.state_dir / "engines"
