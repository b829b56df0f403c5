"""Messages on the bus between the supervisor and its children, framed like the link.

The supervisor pushes whole pictures, never differences: a child that missed one needs only the next.
"""

from typing import Any, Literal

import msgspec

from appliance.core.records import BusyThreshold, KeyRecord, ModelRecord, WorkerRecord
from appliance.core.requests import ModelCard
from appliance.core.settings import Settings


class ChildHello(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """First message of a child: its role (`frontend` or `worker`), its id and pid."""

    role: str
    id: str
    pid: int


class Progress(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """A worker is still loading: fraction done (negative: unknown) and what it does."""

    fraction: float
    text: str


class Ready(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """The child serves. Workers say with which card; front ends send none."""

    card: ModelCard | None = None


class StartFailed(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """The child cannot serve and exits: error code and one line of reason. `final`: starting again will not help."""

    code: str
    reason: str
    final: bool


class Picture(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """Supervisor to front end: all that it needs to know, after each change."""

    workers: list[WorkerRecord]
    models: list[ModelRecord]
    keys: list[KeyRecord]
    settings: Settings
    draining: bool = False
    reloads: int = 0
    """How often files were to be read anew since the start."""
    front_ends: int = 1
    """Front-end processes that exist, also those that start or leave."""
    busy_thresholds: list[BusyThreshold] = []
    """Of models that do not take those of the settings."""


LIFE = "life"
"""What `Pull` asks of every process that serves: the members of `supervision.liveness.LifeSign`, or nothing."""

ENGINE_METRICS = "engine_metrics"
"""What `Pull` asks of workers: the engine's own metrics as bytes, or nothing where it has none."""

ADAPTERS = "adapters"
"""What `Pull` orders of workers whose engine takes LoRA adapters; an `AdapterOrder` and an `AdapterAnswer`, as JSON."""


class AdapterOrder(msgspec.Struct, frozen=True):
    """Load an adapter from a folder under a name, unload it, or tell which are there."""

    act: Literal["load", "unload", "list"]
    name: str = ""
    path: str = ""


class AdapterAnswer(msgspec.Struct, frozen=True):
    """What is loaded now, folder by name; whether the order changed that, or why it could not be done."""

    loaded: dict[str, str]
    fresh: bool = False
    code: str = ""
    error: str = ""


class Pull(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """Supervisor to child: answer with `Pulled`. `what`: `metrics`, `requests`, `why`."""

    call: int
    what: str
    about: str = ""
    """The subject of the question, where it has one."""


class Pulled(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """Answer to Pull: plain data."""

    call: int
    data: Any


class Stop(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """Supervisor to child: finish running requests within the deadline in seconds, then exit."""

    drain_s: float
    idle_s: float = 0.0
    """How long idle connections stay open for one more request, which is told that it is the last."""


class PlacementReports(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """What a front end placed and freed since its last report; the supervisor passes it on unread to all others."""

    data: bytes
    """msgpack of a list of `routing.replica_sync.ReplicaEvent`."""


class FrontEndGone(msgspec.Struct, tag=10, array_like=True, frozen=True):
    """Supervisor to front end: the front end of this id has left the bus, and its streams ended with it."""

    id: str


class LastTotals(msgspec.Struct, tag=11, array_like=True, frozen=True):
    """A front end that is about to end: its metrics, which the supervisor goes on counting."""

    data: Any


class ModelDemand(msgspec.Struct, array_like=True, frozen=True):
    """How much a front end has to do with one model."""

    model: str
    waiting: int
    """Requests that are held until it has a ready worker."""
    oldest_s: float
    """How long the oldest of those has waited."""
    active: int
    """Requests in work."""
    idle_s: float
    """Time since the last request ended; negative: there was none."""


class Demand(msgspec.Struct, tag=20, array_like=True, frozen=True):
    """Front end to supervisor: all models that requests were for. Said again while requests wait."""

    models: list[ModelDemand]


class Sleep(msgspec.Struct, tag=21, array_like=True, frozen=True):
    """Supervisor to worker: finish running streams within the deadline in seconds, then have the engine sleep."""

    level: int
    """See `core.ports.SleepLevel`."""
    drain_s: float


class Wake(msgspec.Struct, tag=22, array_like=True, frozen=True):
    """Supervisor to a worker that sleeps: take the memory again, and serve."""


class Slept(msgspec.Struct, tag=23, array_like=True, frozen=True):
    """A worker sleeps now."""

    level: int


class Woke(msgspec.Struct, tag=24, array_like=True, frozen=True):
    """A worker serves again."""


class SleepFailed(msgspec.Struct, tag=25, array_like=True, frozen=True):
    """A worker could not do what `Sleep` or `Wake` said, and is of no use any more: one line of reason."""

    reason: str


ToSupervisor = (
    ChildHello
    | Progress
    | Ready
    | StartFailed
    | Pulled
    | PlacementReports
    | LastTotals
    | Demand
    | Slept
    | Woke
    | SleepFailed
)
ToChild = Picture | Pull | Stop | PlacementReports | FrontEndGone | Sleep | Wake
