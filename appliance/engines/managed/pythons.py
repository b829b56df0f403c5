"""Which Python makes the environments: engines need one of their own, and the one-file executable has no pip."""

import shutil
from collections.abc import Mapping

from appliance.core.errors import CannotStart, UsageError
from appliance.engines.managed.programs import run_program

NAMES = ("python3.12", "python3.11", "python3.13", "python3.10", "python3")
"""The best supported ones first."""
OLDEST = (3, 10)
CHECK = "import sys, venv, ensurepip; print(*sys.version_info[:2])"


async def find_python(given: str | None, own: str | None, env: Mapping[str, str]) -> str:
    """A Python that can make environments: the given one, or `own`, or the first on the search path.

    Raises `UsageError` when the given one is of no use, `CannotStart` when there is none.
    """
    if given is not None:
        found = shutil.which(given, path=env.get("PATH"))  # takes a path as it is
        if found is None or not await _is_useful(found, env):
            raise UsageError(f"{given} is no Python {OLDEST[0]}.{OLDEST[1]} or newer with the venv module")
        return found
    on_path = [found for name in NAMES if (found := shutil.which(name, path=env.get("PATH")))]
    for candidate in [*([own] if own else []), *on_path]:
        if await _is_useful(candidate, env):
            return candidate
    raise CannotStart(
        f"there is no Python {OLDEST[0]}.{OLDEST[1]} or newer with the venv module here; install it (python3-venv), "
        "or uv, or name one with --python"
    )


async def _is_useful(python: str, env: Mapping[str, str]) -> bool:
    try:
        ended = await run_program([python, "-c", CHECK], env, lambda _: None)
    except CannotStart:
        return False
    if ended.code != 0 or not ended.lines:
        return False
    try:
        major, minor = map(int, ended.lines[-1].split())
    except ValueError:
        return False
    return (major, minor) >= OLDEST
