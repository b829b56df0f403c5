"""What is and what was, for the admin API: status, ledger, logs, settings."""

import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

import msgspec
import trio

from appliance import __version__
from appliance.core.errors import NotFound
from appliance.core.ports import StateStore
from appliance.hardware.machine import read_machine
from appliance.roles.node.board import Board
from appliance.roles.node.front_end_totals import PULL_S, FrontEndTotals
from appliance.roles.node.gpu_views import describe_gpus, describe_hardware
from appliance.roles.node.instance_logs import InstanceLogs
from appliance.roles.node.process_usage import Usage, read_usage
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView
from appliance.telemetry.cells import Series
from appliance.telemetry.metrics import TABLE
from appliance.transport.bus_server import BusServer

Object = dict[str, Any]

TABLE_LABELS = {spec.name: spec.labels for spec in TABLE}


class NodeDiagnosis:
    """`Diagnosis` over the board, the store and the log rings."""

    def __init__(
        self, board: Board, store: StateStore, supervisor: Supervisor, bus: BusServer, totals: FrontEndTotals, port: int
    ) -> None:
        self._board, self._store, self._bus, self._totals, self._port = board, store, bus, totals, port
        self._logs = InstanceLogs(supervisor)
        self._started = time.monotonic()
        self._one_look = trio.CapacityLimiter(1)

    async def status(self) -> Object:
        requests, series = await self._pull_front_ends()
        running = [one for answer in requests.values() for one in answer]
        views = [*self._board.front_ends(), *self._board.workers()]
        pids = {os.getpid(), *(view.pid for view in views if view.pid is not None)}
        usage = await trio.to_thread.run_sync(read_usage, pids, limiter=self._one_look)
        http = self._board.settings.http
        return {
            "version": __version__,
            "url": f"{'https' if http.tls_cert_path else 'http'}://{http.host}:{self._port}/v1",
            "ready": self._board.is_ready(),
            "draining": self._board.draining,
            "started_at": self._board.started_at,
            "uptime_s": time.monotonic() - self._started,
            "pid": os.getpid(),
            "models": msgspec.to_builtins(self._board.models()),
            "frontends": [describe(view, None) | _used(view, usage) for view in self._board.front_ends()],
            "workers": [describe(view, self._board.shown(view)) | _used(view, usage) for view in self._board.workers()],
            "totals": totals(series),
            "gpus": describe_gpus(self._board.gpus),
            "hardware": describe_hardware(self._board.gpus, read_machine(self._board.state_dir)),
            "active_requests": len(running),
            "requests": running,
            "events": await self.events(None, 10),
        }

    async def _pull_front_ends(self) -> tuple[dict[str, Any], list[Series]]:
        """Running requests and metrics of all front ends that answer."""
        series: list[Series] = []

        async def pull_metrics() -> None:
            series.extend(await self._totals.pull(self._bus))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull_metrics)
            requests = await self._bus.pull_all("frontend", "requests", PULL_S)
        return requests, series

    async def events(self, subject: str | None, limit: int) -> list[Object]:
        found = await self._store.read(lambda reader: reader.events(subject, limit))
        return [msgspec.to_builtins(event) for event in found]

    async def config(self) -> Object:
        return asdict(self._board.settings)

    async def decisions(self, request: str) -> Object:
        """What all front ends remember of a request. Raises `NotFound`."""
        answers = await self._bus.pull_all("frontend", "why", PULL_S, request)
        if not answers:
            raise NotFound(f"no front end remembers a request {request!r}")
        placements = [one for answer in answers.values() for one in answer["placements"]]
        requests = [one for answer in answers.values() for one in answer["requests"]]
        return {"placements": sorted(placements, key=lambda one: float(one["time"])), "requests": requests}

    async def find_logs(self, component: str) -> str:
        self._logs.rings(component)
        return component

    @asynccontextmanager
    async def logs(self, name: str, lines: int, follow: bool) -> AsyncIterator[AsyncIterator[str]]:
        async with aclosing(self._logs.lines(name, lines, follow)) as text:
            yield text


def totals(series: list[Series]) -> dict[str, float]:
    """Counts over all models since the appliance started; who takes them twice has rates."""
    status = TABLE_LABELS["dynamo_frontend_requests_total"].index("status")
    found = {"requests": 0.0, "failed": 0.0, "output_tokens": 0.0, "queued": 0.0}
    for one in series:
        match one.name:
            case "dynamo_frontend_requests_total":
                found["requests"] += one.values[0]
                found["failed"] += one.values[0] if one.labels[status] == "error" else 0
            case "dynamo_frontend_output_tokens_total":
                found["output_tokens"] += one.values[0]
            case "dynamo_frontend_queued_requests":
                found["queued"] += one.values[0]
    return found


def _used(view: WorkerView, usage: Mapping[int, Usage]) -> Object:
    used = usage.get(view.pid) if view.pid is not None else None
    return {"memory_bytes": used and used.memory_bytes, "cpu_s": used and used.cpu_s}


def describe(view: WorkerView, shown: tuple[str, float] | None) -> Object:
    """A process as `status` shows it; `shown` is said in place of its phase, with the time since when."""
    state, state_since = shown or (view.phase, view.since)
    return {
        "id": view.id,
        "graph": view.instance.graph,
        "component": view.instance.component,
        "index": view.instance.index,
        "model": view.card.name if view.card else None,
        "engine": view.card.engine if view.card else None,
        "phase": view.phase,
        "since": view.since,
        "state": state,
        "state_since": state_since,
        "pid": view.pid,
        "restarts": view.restarts,
        "reason": view.reason,
        "progress": None if view.progress is None else {"fraction": view.progress.fraction, "text": view.progress.text},
    }
