"""What is and what was, for the admin API: status, ledger, logs, settings."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

import msgspec

from appliance import __version__
from appliance.core.ports import StateStore
from appliance.roles.node.board import Board
from appliance.roles.node.instance_logs import InstanceLogs
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView
from appliance.transport.bus_server import BusServer

Object = dict[str, Any]

PULL_S = 2.0  # a front end that is busy for longer than this is left out of a status


class NodeDiagnosis:
    """`Diagnosis` over the board, the store and the log rings."""

    def __init__(self, board: Board, store: StateStore, supervisor: Supervisor, bus: BusServer, port: int) -> None:
        self._board, self._store, self._bus, self._port = board, store, bus, port
        self._logs = InstanceLogs(supervisor)

    async def status(self) -> Object:
        requests = await self._bus.pull_all("frontend", "requests", PULL_S)
        running = [one for answer in requests.values() for one in answer]
        http = self._board.settings.http
        return {
            "version": __version__,
            "url": f"{'https' if http.tls_cert_path else 'http'}://{http.host}:{self._port}/v1",
            "ready": self._board.is_ready(),
            "draining": self._board.draining,
            "started_at": self._board.started_at,
            "models": msgspec.to_builtins(self._board.models()),
            "frontends": [describe(view) for view in self._board.front_ends()],
            "workers": [describe(view) for view in self._board.workers()],
            "active_requests": len(running),
            "requests": running,
            "events": await self.events(None, 10),
        }

    async def events(self, subject: str | None, limit: int) -> list[Object]:
        found = await self._store.read(lambda reader: reader.events(subject, limit))
        return [msgspec.to_builtins(event) for event in found]

    async def config(self) -> Object:
        return asdict(self._board.settings)

    async def find_logs(self, component: str) -> str:
        self._logs.rings(component)
        return component

    @asynccontextmanager
    async def logs(self, name: str, lines: int, follow: bool) -> AsyncIterator[AsyncIterator[str]]:
        async with aclosing(self._logs.lines(name, lines, follow)) as text:
            yield text


def describe(view: WorkerView) -> Object:
    """A process as `status` shows it."""
    return {
        "id": view.id,
        "graph": view.instance.graph,
        "component": view.instance.component,
        "index": view.instance.index,
        "model": view.card.name if view.card else None,
        "engine": view.card.engine if view.card else None,
        "phase": view.phase,
        "since": view.since,
        "pid": view.pid,
        "restarts": view.restarts,
        "reason": view.reason,
        "progress": None if view.progress is None else {"fraction": view.progress.fraction, "text": view.progress.text},
    }
