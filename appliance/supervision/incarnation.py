"""One process of a worker, from its start to its end: the facts that it and others report."""

import random
from dataclasses import dataclass

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.requests import ModelCard
from appliance.supervision.exits import ExitReason
from appliance.supervision.process import ChildPort
from appliance.supervision.views import LoadProgress


@dataclass
class Incarnation:
    """Facts only; what they mean is decided by the worker task, which looks at them after each change."""

    id: WorkerId
    child: ChildPort
    address: str
    oom_kills_before: int
    is_ready: bool = False
    ready_at: float | None = None
    """trio time of becoming ready."""
    card: ModelCard | None = None
    progress: LoadProgress | None = None
    moved_at: float = 0.0
    """trio time of the last progress that differed from the one before; 0 for none."""
    said: ExitReason | None = None
    """What it told us of its own failure."""
    blamed: ExitReason | None = None
    """Why we killed it, which then is the reason of its end."""
    returncode: int | None = None
    ended_at: float = 0.0

    def has_ended(self) -> bool:
        """True once the process was reaped."""
        return self.returncode is not None

    @property
    def ready_s(self) -> float | None:
        """How long the ended process had been ready, in seconds; None for never."""
        return None if self.ready_at is None else self.ended_at - self.ready_at


@dataclass(frozen=True)
class Ending:
    """How an incarnation ended that nobody had asked to end."""

    reason: ExitReason
    ready_s: float | None


def new_worker_id(instance: ComponentInstance, draw: random.Random, *, unlike: WorkerId | None) -> WorkerId:
    """`graph-component-index-xxxx` with random hex digits, other than the one before."""
    while True:
        found = WorkerId(f"{instance.graph}-{instance.component}-{instance.index}-{draw.getrandbits(16):04x}")
        if found != unlike:
            return found
