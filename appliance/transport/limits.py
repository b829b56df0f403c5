"""Bounds and deadlines of links and of the bus."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LinkLimits:
    """How much a peer may send, hold back or keep waiting before its link ends."""

    max_frame_bytes: int = 64 << 20
    """Largest frame, both ways. A request of the largest body (45 MB) must fit."""
    max_streams: int = 4096
    """Streams and calls that one front end may have open at a worker; more are refused."""
    high_water_bytes: int = 1 << 20
    """A sender is asked to wait while more than this is unsent."""
    outbox_limit_bytes: int = 128 << 20
    """A peer that is this far behind is cut off. Above `max_frame_bytes`, so that one frame always fits."""
    relay_limit_bytes: int = 4 << 20
    """Reports of other front ends that wait for one that is behind; beyond it the oldest are lost."""
    stall_s: float = 15.0
    """A peer that takes no byte for this long, while some are waiting, is cut off."""
    hello_s: float = 10.0
    """Longest wait for a connection and its first message."""
    heartbeat_s: float = 2.0
    """Pause between heartbeats of a front end."""
    silence_s: float = 10.0
    """A worker that sends nothing for this long, though heartbeats asked it to, is lost."""
    call_s: float = 10.0
    """Longest wait for an answer to a probe or a tokenizer call, and for the next piece of a file."""
