"""Makes component instances and supervision surroundings for tests."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.core.settings import DrainSettings, SupervisionSettings
from appliance.supervision.process import LaunchPlan
from appliance.supervision.surroundings import Surroundings
from tests.fakes.gpus import FakeGpus
from tests.fakes.processes import FakeProcesses


def make_instance(
    index: int = 0, *, spec: str = "v1", component: str = "worker", type: str = "worker", argv: tuple[str, ...] = ()
) -> ComponentInstance:
    """One wanted replica of the graph `serve`."""
    return ComponentInstance(graph="serve", component=component, index=index, type=type, argv=argv, spec_hash=spec)


async def ignore_drain(worker: WorkerId, drain_s: float) -> None:
    """A bus on which nobody listens to Stop."""


@dataclass
class FakeWorld:
    """Surroundings without an outside world, and what was done to them."""

    processes: FakeProcesses = field(default_factory=FakeProcesses)
    events: list[LedgerEvent] = field(default_factory=list)
    settings: SupervisionSettings = field(default_factory=SupervisionSettings)
    begin_drain: Callable[[WorkerId, float], Awaitable[None]] = ignore_drain
    may_surge: bool = True
    oom_kills: int = 0
    start_deadline_s: float = 60.0
    gpus: FakeGpus = field(default_factory=FakeGpus)

    @property
    def actions(self) -> list[str]:
        return [event.action for event in self.events]

    def make(self) -> Surroundings:
        return Surroundings(
            launch=lambda instance, worker: LaunchPlan(argv=("fake", worker), env={}, address=f"/run/{worker}"),
            begin_drain=lambda worker, drain_s: self.begin_drain(worker, drain_s),
            ledger=self.events.append,
            settings=self.settings,
            drain=DrainSettings(request_s=30.0, term_s=5.0),
            start_deadline_s=lambda _: self.start_deadline_s,
            may_surge=lambda _: self.may_surge,
            gpus=self.gpus,
            spawn=self.processes.spawn,
            clock=lambda: 0.0,
            random=random.Random(7),
            oom_kills=lambda: self.oom_kills,
        )
