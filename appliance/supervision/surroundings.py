"""What supervision is given by the role that runs it: how to call our executable, whom to tell, which settings hold."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.core.settings import DrainSettings, SupervisionSettings
from appliance.supervision.exits import OomCounter
from appliance.supervision.gpu_placing import GpuPlacing, NoGpus
from appliance.supervision.guard_client import GuardPort, NoGuard
from appliance.supervision.process import ChildPort, LaunchPlan, start_child

Launch = Callable[[ComponentInstance, WorkerId], LaunchPlan]
"""How one incarnation is called. Raises ApplianceError when it cannot be started now; that counts as an early exit."""

BeginDrain = Callable[[WorkerId, float], Awaitable[None]]
"""Ask a worker over the bus to finish within so many seconds. Raises ApplianceError when it cannot be reached; then
it gets SIGTERM at once. Runs under the drain deadline."""

Ledger = Callable[[LedgerEvent], None]
"""Take a decision for the records. Must neither raise nor wait."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The outside world of supervision; the defaults are the real one."""

    launch: Launch
    begin_drain: BeginDrain
    ledger: Ledger
    settings: SupervisionSettings = field(default_factory=SupervisionSettings)
    drain: DrainSettings = field(default_factory=DrainSettings)
    start_deadline_s: Callable[[ComponentInstance], float] | None = None
    """Longest wait for READY of an instance; None: `start_base_s` for all."""
    may_surge: Callable[[ComponentInstance], bool] = lambda _: True
    """False where there is no room for the new worker beside the old one."""
    gpus: GpuPlacing = field(default_factory=NoGpus)
    guard: GuardPort = field(default_factory=NoGuard)
    spawn: Callable[[LaunchPlan], ChildPort] = start_child
    clock: Callable[[], float] = time.time
    """Unix time for records; deadlines run on trio's clock."""
    random: Random = field(default_factory=Random)
    oom_kills: Callable[[], int] = field(default_factory=lambda: OomCounter().read)

    def start_limit_s(self, instance: ComponentInstance) -> float:
        """Longest wait for READY of this instance."""
        return self.start_deadline_s(instance) if self.start_deadline_s else self.settings.start_base_s
