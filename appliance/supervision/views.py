"""Snapshots of workers for others: status pages, discovery, reconcile."""

from dataclasses import dataclass

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import WorkerPhase
from appliance.core.requests import ModelCard


@dataclass(frozen=True, kw_only=True)
class LoadProgress:
    """How far a starting worker is: fraction (negative when unknown) and what it does, in words."""

    fraction: float
    text: str


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """One worker at one moment; between two incarnations the last one's id stands."""

    id: WorkerId
    instance: ComponentInstance
    phase: WorkerPhase
    since: float
    """Unix time of the last change of phase."""
    pid: int | None
    """None while no process runs."""
    address: str
    """Where the process serves; empty while none runs."""
    restarts: int
    reason: str
    """Why it is in this phase, in words."""
    progress: LoadProgress | None
    card: ModelCard | None
    """Of the running, ready process."""

    @property
    def key(self) -> str:
        """`graph/component/index` of its instance."""
        return self.instance.key

    @property
    def spec_hash(self) -> str:
        """Tells workers of an old spec from those of a new one."""
        return self.instance.spec_hash
