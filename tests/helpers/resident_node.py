"""Residency on a node whose processes are as the test says."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.core.gpus import GIB
from appliance.core.identity import ModelName, WorkerId
from appliance.core.instances import ComponentInstance, ResidenceWish
from appliance.core.records import LedgerEvent, WorkerPhase
from appliance.core.requests import ModelCard
from appliance.core.settings import ResidencySettings
from appliance.roles.node.box import Box
from appliance.roles.node.residency import Residency
from appliance.roles.node.sleep import Sleepers
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.views import LoadProgress, WorkerView
from appliance.wire.bus_messages import ModelDemand, Sleep, Wake


def instance(name: str, *, pinned: bool = False) -> ComponentInstance:
    """The one worker of a model."""
    return ComponentInstance(
        graph="g",
        component=name,
        index=0,
        type="worker",
        argv=("worker", "--model", f"/m/{name}.gguf", "--served-model-name", name),
        residence=ResidenceWish(pinned=pinned),
        spec_hash="x",
    )


def view(name: str, phase: WorkerPhase, *, progress: float | None = None) -> WorkerView:
    """Its process, as supervision sees it."""
    card = ModelCard(name=ModelName(name), context_length=64, engine="mocker") if phase == "ready" else None
    return WorkerView(
        id=WorkerId(f"w-{name}"),
        instance=instance(name),
        phase=phase,
        since=0.0,
        pid=None,
        address="",
        restarts=0,
        reason="",
        progress=None if progress is None else LoadProgress(fraction=progress, text="loading"),
        card=card,
    )


@dataclass
class ResidentNode:
    """Residency with processes that are as the test says."""

    settings: ResidencySettings = field(default_factory=lambda: ResidencySettings(max_models=1))
    views: list[WorkerView] = field(default_factory=list)
    events: list[LedgerEvent] = field(default_factory=list)
    wanted: Sequence[ComponentInstance] = (instance("a"), instance("b"))
    orders: list[tuple[WorkerId, Sleep | Wake]] = field(default_factory=list)
    replaced: list[WorkerId] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        box = Box(
            memory_bytes=8 * GIB,
            size_of=lambda _: 600_000_000,
            memory_of=lambda _: GIB,
            looks_at=lambda _: False,
            room_on_gpus=lambda _: lambda _: True,
        )
        self.sleepers = Sleepers(
            lambda worker, order: self.orders.append((worker, order)),
            lambda worker, reason: self.replaced.append(worker),
            GpuLedger(),
            lambda: None,
            lambda: 30.0,
            lambda: self.now,
        )
        self.residency = Residency(box, lambda: self.settings, lambda: self.views, self.events.append, self.sleepers)

    def run(self) -> list[str]:
        """Names of the models whose processes are wanted."""
        return [one.component for one in self.residency.admit(self.wanted)]

    def ask(self, model: str, *, waiting: int = 1, oldest_s: float = 0.0, active: int = 0) -> None:
        """A front end reports requests for a model."""
        self.residency.demand.note("fe", [ModelDemand(model, waiting, oldest_s, active, -1)])
