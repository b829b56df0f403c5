"""The states of one worker and the allowed moves between them."""

from enum import StrEnum


class Phase(StrEnum):
    """What a worker is doing; the values are the `WorkerPhase` of `core.records`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    FAILED = "failed"
    STOPPED = "stopped"


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset({Phase.READY, Phase.BACKOFF, Phase.STOPPING, Phase.STOPPED}),
    Phase.READY: frozenset({Phase.DRAINING, Phase.STOPPING, Phase.BACKOFF}),
    Phase.DRAINING: frozenset({Phase.STOPPING, Phase.STOPPED}),
    Phase.STOPPING: frozenset({Phase.STOPPED}),
    # Every unasked exit goes through backoff, also when the wait is zero: one place decides what follows.
    Phase.BACKOFF: frozenset({Phase.STARTING, Phase.FAILED, Phase.STOPPED}),
    # Only a worker that failed for want of GPUs starts again by itself, when there are some.
    Phase.FAILED: frozenset({Phase.STARTING, Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}
"""From each phase the phases that may follow; every phase leads to `stopped`."""

SETTLED = frozenset({Phase.READY, Phase.FAILED})
"""Phases that last until something from outside happens."""
