"""What a restart is asked for, and what then is wanted."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.core.errors import Conflict, NotFound
from appliance.core.records import LedgerEvent
from appliance.core.settings import Settings
from appliance.roles.node.board import Board
from appliance.roles.node.desired import OWN_GRAPH, DesiredState
from appliance.roles.node.objects import ObjectStoreAdmin
from appliance.roles.node.restarts import Restarts
from appliance.state.memory import MemoryStateStore
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.supervisor import Supervisor
from tests.helpers.graphs import graph, worker
from tests.helpers.instances import FakeWorld


@dataclass
class Rig:
    desired: DesiredState
    supervisor: Supervisor
    restarts: Restarts
    events: list[LedgerEvent] = field(default_factory=list)

    def specs(self, component: str) -> set[str]:
        """The specs of the processes that are to stay."""
        views = self.supervisor.views()
        return {view.spec_hash for view in views if view.instance.component == component and view.phase != "stopping"}


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Rig:
    store, supervisor = MemoryStateStore(), Supervisor(FakeWorld().make())
    front_end = {**worker("Web"), "type": "frontend"}
    components = (worker("w", replicas=2), worker("idle", replicas=0), front_end)
    await ObjectStoreAdmin(store).apply_objects([graph(*components)])
    desired = DesiredState(store, supervisor, 2)
    board = Board(Settings(), desired, supervisor, GpuLedger(), Path())
    events: list[LedgerEvent] = []
    await nursery.start(supervisor.run)
    await nursery.start(desired.run)
    await trio.sleep(1)
    return Rig(desired, supervisor, Restarts(desired, board, events.append), events)


async def test_a_component_of_a_graph(autojump_clock: trio.testing.MockClock, rig: Rig) -> None:
    before, others = rig.specs("w"), rig.specs("frontend")
    begun = rig.restarts.restart("W", None)
    assert (begun["graph"], begun["component"], begun["replicas"], len(begun["processes"])) == ("g", "w", 2, 2)
    await trio.sleep(1)
    assert rig.specs("w") - before, "a process of another spec was started"
    assert rig.specs("frontend") == others
    wanted = {one.spec_hash for one in rig.desired.wanted_of(rig.desired.graphs["g"]) if one.component == "w"}
    assert wanted == rig.specs("w") - before
    (event,) = rig.events
    assert (event.subject, event.action) == ("dgd/g", "restart")


@pytest.mark.parametrize(
    ("component", "of"), [("frontend", None), ("Frontend", OWN_GRAPH), ("web", None), ("web", "g")]
)
async def test_front_ends_by_any_of_their_names(
    autojump_clock: trio.testing.MockClock, rig: Rig, component: str, of: str | None
) -> None:
    begun = rig.restarts.restart(component, of)
    assert (begun["graph"], begun["component"], begun["replicas"]) == (OWN_GRAPH, "frontend", 2)
    assert rig.events[0].subject == "appliance"


async def test_what_cannot_be_restarted(autojump_clock: trio.testing.MockClock, rig: Rig) -> None:
    with pytest.raises(NotFound, match="no graph has a component 'x'"):
        rig.restarts.restart("x", None)
    with pytest.raises(NotFound, match="no graph is called"):
        rig.restarts.restart("w", "nobody")
    with pytest.raises(Conflict, match="scaled to 0"):
        rig.restarts.restart("idle", None)
    assert rig.events == []
