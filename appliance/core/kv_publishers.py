"""Where an engine publishes its cache events, and the callable that follows such a place.

Engines name the places; the role that wires a worker brings what can follow them, so that neither knows the other.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from appliance.core.kv_events import TakeKvEvents


@dataclass(frozen=True, kw_only=True)
class KvPublisher:
    """One ZMQ publisher: one data-parallel rank of one engine."""

    endpoint: str
    replay_endpoint: str | None = None
    topic: str = ""
    binds: bool = True
    """False: it connects to the endpoint, and whoever follows it binds."""
    rank: int = 0
    dialect: Literal["vllm", "sglang"]
    block_size: int
    """Tokens in a block of its events."""


FollowKvEvents = Callable[[KvPublisher, TakeKvEvents], Awaitable[None]]
"""Follows a publisher until cancelled, over its restarts; raises an `ApplianceError` for an endpoint of no use."""
