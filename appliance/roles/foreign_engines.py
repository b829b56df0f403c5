"""What foreign engines are given: a clean environment for their servers, the managed environments, the KV events."""

import sys
from pathlib import Path

from appliance.core.config import environment
from appliance.engines.foreign.surroundings import Surroundings
from appliance.roles.own_executable import frozen
from appliance.supervision.environment import child_environment
from appliance.supervision.guard import LEASE_VARIABLE

OWN_PREFIX = "APPLIANCE_"


def surroundings(state_dir: Path | None) -> Surroundings:
    """For this process."""
    from appliance.events.following import Follower

    return Surroundings(
        env=foreign_environment(),
        engines_dir=None if state_dir is None else state_dir / "engines",
        follow_kv_events=Follower(),
    )


def foreign_environment() -> dict[str, str]:
    """Our environment without what is ours. The guard's mark stays: by it, it finds a server whose worker has died."""
    base = environment()
    mark = {LEASE_VARIABLE: base[LEASE_VARIABLE]} if LEASE_VARIABLE in base else {}
    env = child_environment(base, mark, frozen=frozen(), foreign=True)
    return {name: value for name, value in env.items() if not name.startswith(OWN_PREFIX)}


def own_python() -> str | None:
    """The interpreter that runs us; None in the one-file executable, which has no pip."""
    return None if frozen() else sys.executable
