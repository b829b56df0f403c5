"""What the policy sees of one model, and what it may decide about it. Times are of one monotonic clock."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Residence(StrEnum):
    """Where a model is between disk and memory."""

    COLD = "cold"
    LOADING = "loading"
    RESIDENT = "resident"
    ASLEEP = "asleep"
    LEAVING = "leaving"


HOLDING = frozenset({Residence.LOADING, Residence.RESIDENT, Residence.ASLEEP, Residence.LEAVING})
"""States in which a model takes memory."""


@dataclass(frozen=True, kw_only=True)
class ModelState:
    """One model at one moment."""

    name: str
    residence: Residence = Residence.COLD
    since: float = 0.0
    """When it came into this state."""
    needs: Mapping[str, int] = field(default_factory=dict)
    """Bytes by the name of a memory, while it is loaded."""
    needs_asleep: Mapping[str, int] = field(default_factory=dict)
    """The same while it sleeps."""
    pinned: bool = False
    """Loaded whether or not anybody asks, and never for others to push out."""
    groups: frozenset[str] = frozenset()
    """Of all models of one group at most one may be loaded."""
    idle_s: float = 0.0
    """It leaves after this long without a request; 0: never."""
    sleep_level: int = 0
    """How it leaves: 0 by ending, else by sleeping at this level of its engine."""
    preload: bool = False
    """It is new: loaded without being asked for, if there is room."""
    active: int = 0
    """Requests that it works on."""
    last_use: float = -math.inf
    """When it last worked on one."""
    waiting: int = 0
    """Requests that wait for it to be loaded."""
    oldest: float = 0.0
    """Arrival of the one that waits longest; of no meaning when none waits."""

    @property
    def holds(self) -> bool:
        """Takes memory now."""
        return self.residence in HOLDING

    @property
    def idle(self) -> bool:
        """Nobody uses it or waits for it."""
        return not self.active and not self.waiting

    @property
    def idle_since(self) -> float:
        """Begin of its present idleness, if it is idle."""
        return max(self.since, self.last_use)

    @property
    def owes(self) -> bool:
        """It was loaded for requests that it has not taken yet."""
        return self.waiting > 0 and self.oldest < self.since


@dataclass(frozen=True)
class Load:
    """Bring a cold model into memory, or wake a sleeping one."""

    model: str
    reason: str


@dataclass(frozen=True)
class Unload:
    """Let a model finish what it works on, then take it out of memory: with `sleep_level` by sleep, else by its end."""

    model: str
    reason: str
    sleep_level: int = 0


Effect = Load | Unload


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now, and what there is to tell."""

    effects: tuple[Effect, ...] = ()
    waits: Mapping[str, str] = field(default_factory=dict)
    """Models that requests wait for and that cannot be loaded yet: why, in words."""
    hopeless: Mapping[str, str] = field(default_factory=dict)
    """Models that cannot be loaded as things are set up: why, in words."""
    look_again_at: float | None = None
    """When time alone may change the decision; None: only something that happens can."""
