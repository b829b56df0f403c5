"""Which command starts a foreign server: the user's, an environment's Python, or what lies on the search path."""

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from appliance.core.errors import UsageError
from appliance.engines.foreign.options import ForeignOptions
from appliance.engines.foreign.surroundings import Surroundings
from appliance.engines.managed.catalogue import NOTE, in_use, newest_environment


def find_command(
    engine: str, given: ForeignOptions, around: Surroundings, *, module: Sequence[str], program: Sequence[str]
) -> tuple[str, ...]:
    """The words in front of the server's flags.

    `module` follows a Python, as `-m NAME`; `program` is the command that an installation puts on the search path.
    Raises `UsageError` when there is nothing to start.
    """
    if given.command:
        return given.command
    if given.python:
        return (_executable(given.python, "python"), *module)
    if given.venv:
        return (_executable(str(_folder(given.venv, around) / "bin" / "python"), "venv"), *module)
    if around.engines_dir is not None and (managed := newest_environment(around.engines_dir, engine)) is not None:
        return (str(managed.python), *module)
    found = shutil.which(program[0], path=around.env.get("PATH"))
    if found is not None:
        return (found, *program[1:])
    raise UsageError(
        f"there is no {engine} here; install it with `engine install {engine}`, or name its Python with"
        " --engine-arg python=PATH, or its server with --engine-url URL"
    )


def held_environment(program: str) -> AbstractContextManager[None]:
    """Keeps the managed environment of a command from being removed; nothing for any other command."""
    folder = Path(program).parent.parent
    return in_use(folder) if (folder / NOTE).exists() else nullcontext()


def _folder(text: str, around: Surroundings) -> Path:
    """A folder, or the name of a managed environment."""
    if "/" not in text and around.engines_dir is not None:
        return around.engines_dir / text
    return Path(text).expanduser()


def _executable(text: str, key: str) -> str:
    path = Path(text).expanduser()
    found = str(path.absolute()) if "/" in text else shutil.which(text)
    if found is None or not Path(found).exists():
        raise UsageError(f"engine argument {key}: there is no Python at {text}")
    return found
