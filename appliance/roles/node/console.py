"""What the web console shows and does, gathered from the admin service, the front ends and the log rings."""

import time
from typing import Any

import trio

from appliance.core.errors import NotFound
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent
from appliance.graph.kinds import DGD
from appliance.graph.schema import read_graph
from appliance.roles.model_names import named_worker_launches, served_name
from appliance.roles.node.admin import NodeAdmin
from appliance.roles.node.board import Board
from appliance.roles.node.instance_logs import InstanceLogs
from appliance.roles.node.ledger import Ledger
from appliance.roles.node.load_history import SAMPLE_S, LoadHistory
from appliance.supervision.log_ring import LogLine
from appliance.supervision.supervisor import Supervisor
from appliance.transport.bus_server import BusServer
from appliance.web.guards import is_loopback

Object = dict[str, Any]

PULL_S = 1.5  # a front end that is busy for longer is missing in one sample or answer
ENDED_SHOWN = 200
"""Ended requests in one answer, however many front ends there are."""


class NodeConsole:
    """`ConsoleService` of one node."""

    def __init__(self, admin: NodeAdmin, board: Board, supervisor: Supervisor, bus: BusServer, ledger: Ledger) -> None:
        self._admin, self._board, self._supervisor, self._bus = admin, board, supervisor, bus
        self._ledger = ledger
        self._logs = InstanceLogs(supervisor)
        self._history = LoadHistory()

    async def run(self) -> None:
        """Sample the load for ever."""
        while True:
            loads = await self._bus.pull_all("frontend", "load", PULL_S)
            self._history.add(time.time(), time.monotonic(), loads)
            await trio.sleep(SAMPLE_S)

    def allows_actions(self) -> bool:
        return bool(self._board.keys) or is_loopback(self._board.settings.http.host)

    async def status(self) -> Object:
        found = await self._admin.status()
        graphs = [describe_graph(graph) for graph in await self._admin.list_objects(DGD)]
        keys = [*self._supervisor.log_keys()]
        return found | {"graphs": graphs, "logs": keys, "actions": self.allows_actions()}

    async def requests(self) -> Object:
        answers: dict[str, dict[str, Any]] = {}

        async def pull(what: str) -> None:
            answers[what] = await self._bus.pull_all("frontend", what, PULL_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull, "requests")
            nursery.start_soon(pull, "ended_requests")
        active = [one for answer in answers["requests"].values() for one in answer]
        ended = [one for answer in answers["ended_requests"].values() for one in answer]
        ended.sort(key=lambda one: one["started"] + one["duration_s"], reverse=True)
        return {"active": sorted(active, key=lambda one: one["age_s"]), "ended": ended[:ENDED_SHOWN]}

    async def why(self, subject: str, limit: int) -> Object:
        known = await self.requests()
        request = next((one for one in [*known["active"], *known["ended"]] if one["id"] == subject), None)
        subjects = [f"request/{subject}"] if request is None else why_subjects(request)
        events = [event for one in subjects for event in await self._admin.events(one, limit)]
        events.sort(key=lambda event: (event["at"], event["id"]), reverse=True)
        return {"request": request, "placements": await self._placements(subject), "events": events[:limit]}

    async def _placements(self, request: str) -> list[Object]:
        """How the front ends placed it, oldest first; nothing of a request that they have forgotten."""
        try:
            return list((await self._admin.decisions(request))["placements"])
        except NotFound:
            return []

    async def events(self, subject: str | None, limit: int) -> list[Object]:
        return await self._admin.events(subject, limit)

    def load(self, since: float) -> Object:
        return {"interval_s": SAMPLE_S, "samples": self._history.since(since)}

    def log_lines(self, component: str, after: float, limit: int) -> list[Object]:
        rings = self._logs.rings(component)
        lines = sorted((line for ring in rings for line in ring.lines(limit) if line.at > after), key=_at)
        return [{"at": line.at, "worker": line.worker, "text": line.text} for line in lines[-limit:]]

    async def scale(self, component: str, replicas: int, graph: str | None) -> Object:
        return await self._admin.scale(component, replicas, graph)

    async def load_model(self, model: str) -> Object:
        return await self._admin.load_model(model)

    async def unload_model(self, model: str) -> Object:
        return await self._admin.unload_model(model)

    async def restart(self, worker: str) -> None:
        if not self._supervisor.restart(WorkerId(worker), "restart asked for in the console"):
            raise NotFound(f"no worker is called {worker!r}, or it stops already")
        self._ledger.note(LedgerEvent(subject=f"worker/{worker}", action="restart", reason="asked for in the console"))
        await trio.lowlevel.checkpoint()


def describe_graph(document: Object) -> Object:
    """Name and components of a graph; a component's `model` is what its workers serve, None for others."""
    parsed, _ = read_graph(document)
    models = {name: served_name(argv) for name, argv in named_worker_launches(document)}
    components = [
        {"name": one.name, "type": one.type, "replicas": one.replicas, "model": models.get(one.name)}
        for one in parsed.spec.components
    ]
    return {"name": parsed.name, "components": components}


def why_subjects(request: Object) -> list[str]:
    """The ledger's names for a request and all that it ran on."""
    workers = dict.fromkeys(request["workers"])
    return [f"request/{request['id']}", *(f"worker/{worker}" for worker in workers)]


def _at(line: LogLine) -> float:
    return line.at
