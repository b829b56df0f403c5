"""What a foreign engine is given from outside: the environment of its server, environments on disk, and hooks."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from appliance.core.kv_publishers import FollowKvEvents


async def nothing_to_free() -> None:
    """For machines where nobody looks at the device's memory."""
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Made by the role that runs the engine."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Whole environment of the server, clean of what is ours."""
    engines_dir: Path | None = None
    """Folder of the managed environments."""
    follow_kv_events: FollowKvEvents | None = None
    """None: cache events are not asked for."""
    wait_memory_free: Callable[[], Awaitable[None]] = nothing_to_free
    """Called once the server is gone; returns when its device memory is free again, under the caller's deadline."""
