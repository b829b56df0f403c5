"""What a foreign engine is given from outside: the environment of its server, environments on disk, cache events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appliance.core.kv_publishers import FollowKvEvents


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Made by the role that runs the engine."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Whole environment of the server, clean of what is ours."""
    engines_dir: Path | None = None
    """Folder of the managed environments."""
    follow_kv_events: FollowKvEvents | None = None
    """None: cache events are not asked for."""
