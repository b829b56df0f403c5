"""Follows the stored graphs: hands what they want to the supervisor, and writes back how far it is."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from appliance.core.errors import ApplianceError, StateUnavailable
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.ports import StateStore
from appliance.core.records import StoredObject
from appliance.graph.instances import instances
from appliance.graph.kinds import DGD
from appliance.graph.status import InstanceState, graph_status
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView

log = logging.getLogger(__name__)

OWN_GRAPH = "appliance"
"""Graph name that the shared front ends go by in logs and ids. Their type tells them from workers: a user's graph may
have the same name."""
FRONTEND = "frontend"
REWRITE_S = 5.0  # between tries to write a status to a full disk
RUN_ON_A_BOX = ("frontend", "worker")
"""Verbs of ours that a graph's components run as processes here."""


class DesiredState:
    """The graphs as last seen in the store.

    Front-end components are not processes of their own graph: all graphs share the front ends on the one public
    port, as many as the graph that wants most of them, and a graph's front-end component is as ready as those are.
    """

    def __init__(
        self,
        store: StateStore,
        supervisor: Supervisor,
        least_front_ends: int,
        on_front_ends: Callable[[int], None] = lambda _: None,
        admit: Callable[[list[ComponentInstance]], list[ComponentInstance]] = lambda workers: workers,
    ) -> None:
        """`on_front_ends` hears how many front ends are wanted, before any is started or stopped for it.

        `admit` says which of the wanted workers shall run now; the others are of models that are cold.
        """
        self._store, self._supervisor, self._admit = store, supervisor, admit
        self._running: frozenset[str] = frozenset()
        """Keys of what shall run now."""
        self.is_asleep: Callable[[WorkerId], bool] = lambda _: False
        """Whether a worker that is ready serves only once it was woken."""
        self._least_front_ends, self._on_front_ends = least_front_ends, on_front_ends
        self.graphs: dict[str, StoredObject] = {}
        self._restarts: Counter[tuple[str, str]] = Counter()
        """How often each component of a graph was to be restarted; part of what its processes are known by."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the store and the supervisor for ever; `started` means that the stored graphs are wanted now."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._follow_store)
            nursery.start_soon(self._write_status)
            task_status.started()

    def wanted_of(self, graph: StoredObject) -> list[ComponentInstance]:
        """The instances of a graph; none, with a logged reason, of a graph that cannot be run."""
        try:
            found = instances(graph)
        except ApplianceError as error:
            log.warning("cannot run graph %s: %s", graph.name, error)
            return []
        return [self._as_restarted(one) for one in found if one.argv[0] in RUN_ON_A_BOX]

    def expected_of(self, graph: StoredObject) -> list[ComponentInstance]:
        """The instances of a graph that shall run now: without those of cold models."""
        return [one for one in self.wanted_of(graph) if one.type == FRONTEND or one.key in self._running]

    def look_again(self) -> None:
        """What shall run of what is wanted has changed."""
        self._want()

    def restart(self, graph: str, component: str) -> int:
        """Replace every process of a component, one after the other; how many there are.

        Each is ready before the one it replaces drains, where there is room for both. Front ends are those of
        `OWN_GRAPH`. Nothing of this is stored: the next start of the appliance begins with new processes anyway.
        """
        self._restarts[graph, component] += 1
        return sum((one.graph, one.component) == (graph, component) for one in self._want())

    def _as_restarted(self, instance: ComponentInstance) -> ComponentInstance:
        times = self._restarts[instance.graph, instance.component]
        return replace(instance, spec_hash=f"{instance.spec_hash}.{times}") if times else instance

    def states_of(self, graph: StoredObject, views: Sequence[WorkerView]) -> list[InstanceState]:
        """The processes of a graph, the shared front ends counted for its front-end component."""
        shared = [view for view in views if view.instance.type == "frontend"]
        workers = [view for view in views if view.instance.type != "frontend"]
        own = [
            replace(_state(view, view.instance.component), is_asleep=self.is_asleep(view.id))
            for view in workers
            if view.instance.graph == graph.name
        ]
        stand_ins = [one for one in self.wanted_of(graph) if one.type == "frontend"]
        for stand_in, view in zip(stand_ins, shared, strict=False):
            own.append(_state(view, stand_in.component, stand_in.spec_hash))
        return own

    async def _follow_store(self, *, task_status: trio.TaskStatus[None]) -> None:
        while True:  # a watch that fell behind is closed; the next one starts with the whole picture
            async with self._store.watch(DGD) as changes:
                # Read within the watch: what was deleted before is gone, what is deleted later will be told.
                present = await self._store.read(lambda reader: reader.list_all(DGD))
                self.graphs = {graph.name: graph for graph in present}
                self._want()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                async for change in changes:
                    if change.type == "DELETED":
                        self.graphs.pop(change.object.name, None)
                    else:
                        self.graphs[change.object.name] = change.object
                    self._want()

    def _want(self) -> list[ComponentInstance]:
        wanted = [one for graph in self.graphs.values() for one in self.wanted_of(graph)]
        workers = [one for one in wanted if one.type != "frontend"]
        most = max((one.index + 1 for one in wanted if one.type == "frontend"), default=0)
        front_ends = self._front_ends(max(most, self._least_front_ends))
        self._on_front_ends(len(front_ends))
        wanted = [*front_ends, *self._admit(workers)]
        self._running = frozenset(one.key for one in wanted if one.type != FRONTEND)
        self._supervisor.set_wanted(wanted)
        return wanted

    def _front_ends(self, count: int) -> list[ComponentInstance]:
        return [
            self._as_restarted(
                ComponentInstance(
                    graph=OWN_GRAPH, component=FRONTEND, index=index, type="frontend", argv=("frontend",), spec_hash=""
                )
            )
            for index in range(count)
        ]

    async def _write_status(self) -> None:
        failed = False
        while True:
            seen = self._supervisor.version  # also rises when other instances are wanted
            try:
                await self._write_all()
            except StateUnavailable as error:  # a full disk costs the status of graphs, not the service
                if not failed:
                    log.error("status of graphs is not up to date: %s", error)
                failed = True
                await trio.sleep(REWRITE_S)
                continue
            failed = False
            # No deadline: there is nothing to write until something changes.
            await self._supervisor.wait_changed(seen)

    async def _write_all(self) -> None:
        views = self._supervisor.views()
        now = time.time()
        fresh = {
            graph.name: graph_status(graph, self.expected_of(graph), self.states_of(graph, views), now)
            for graph in self.graphs.values()
        }
        changed = {name: status for name, status in fresh.items() if status != self.graphs[name].status}
        if changed:
            await self._store.write(
                lambda writer: [writer.put_status(DGD, name, status) for name, status in changed.items()]
            )


def _state(view: WorkerView, component: str, spec_hash: str | None = None) -> InstanceState:
    return InstanceState(
        component=component,
        phase=view.phase,
        spec_hash=view.spec_hash if spec_hash is None else spec_hash,
        reason=view.reason,
    )
