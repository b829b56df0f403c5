"""What the public control app shows: health and the metrics of all processes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from appliance.core.errors import NotFound
from appliance.core.identity import instance_number
from appliance.core.records import BusyThreshold, ModelRecord
from appliance.frontend.control.views import BusyThresholdOrder, Health, InstanceView, MeasuredEngine
from appliance.roles.model_gauges import add_model_gauges
from appliance.roles.node.board import Board
from appliance.roles.node.front_end_totals import PULL_S, FrontEndTotals
from appliance.roles.node.gpu_views import add_gpu_metrics
from appliance.roles.node.tuning import Tuning
from appliance.roles.node.worker_series import worker_series
from appliance.roles.options import SERVERS
from appliance.supervision.views import WorkerView
from appliance.telemetry.cells import Metrics, Series, merge_series
from appliance.telemetry.metrics import TABLE, render
from appliance.transport.bus_server import BusServer
from appliance.wire.bus_messages import ENGINE_METRICS

ENGINE_METRICS_S = 10.0  # engines write them out beside their work; of many ranks that may take seconds


class NodeView:
    """`ControlView` over the board; metrics are pulled from the front ends at each scrape."""

    def __init__(self, board: Board, bus: BusServer, totals: FrontEndTotals, tuning: Tuning) -> None:
        self._board, self._bus, self._totals, self._tuning = board, bus, totals, tuning

    def health(self) -> Health:
        if self._board.draining:
            return Health(status="draining", message="the appliance is stopping")
        instances = [_instance(view) for view in self._board.workers() if view.phase == "ready"]
        if not self._board.was_ready:
            waiting = [f"{v.key}: {v.phase} {v.reason}".strip() for v in self._board.workers() if v.phase != "ready"]
            return Health(status="starting", message="; ".join(waiting) or "starting", instances=instances)
        return Health(status="healthy", instances=instances)

    def models(self) -> list[ModelRecord]:
        return self._board.models()

    async def metrics(self) -> bytes:
        pulled: dict[str, Any] = {}

        async def pull_workers() -> None:
            pulled.update(await self._bus.pull_all("worker", "metrics", PULL_S))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull_workers)
            front_ends = await self._totals.pull(self._bus)
        return render(merge_series([front_ends, self._own_series(pulled)]), self._board.settings.http.metrics_prefix)

    async def engine_metrics(self, worker: str) -> bytes:
        child = self._bus.find("worker", worker)
        text = None if child is None else await child.pull(ENGINE_METRICS, ENGINE_METRICS_S)
        if not isinstance(text, bytes):
            raise NotFound(f"there is no worker {worker} whose engine has metrics of its own")
        return text

    async def measured_engines(self) -> list[MeasuredEngine]:
        await trio.lowlevel.checkpoint()
        return [
            MeasuredEngine(
                worker=view.id,
                graph=view.instance.graph,
                component=view.instance.component,
                model=view.card.name,
                engine=view.card.engine,
            )
            for view in self._board.workers()
            if view.phase == "ready" and view.card is not None and view.card.engine in SERVERS
        ]

    def busy_thresholds(self) -> list[BusyThreshold]:
        return self._tuning.thresholds()

    async def set_busy_threshold(self, order: BusyThresholdOrder) -> BusyThreshold:
        return await self._tuning.set_threshold(order)

    def _own_series(self, told: Mapping[str, Any]) -> list[Series]:
        """Metrics of workers and of the supervisor itself, made anew at each scrape; `told` by worker."""
        metrics, histograms = Metrics(TABLE), list[Series]()
        for view in self._board.workers():
            if view.id in told:
                histograms += worker_series(metrics, view, told[view.id])
            metrics.cell("appliance_workers", view.card.name if view.card else "", view.phase).add()
            metrics.cell("appliance_worker_restarts_total", view.instance.component).add(view.restarts)
            if view.card is not None:
                add_model_gauges(metrics, view.card, self._board.settings.requests.migration_limit)
        add_gpu_metrics(metrics, self._board.gpus)
        return metrics.series() + histograms


def _instance(view: WorkerView) -> InstanceView:
    return InstanceView(
        namespace=view.instance.graph,
        component=view.instance.component,
        endpoint="generate",
        instance_id=instance_number(view.id),
        transport={"unix": Path(view.address).name},  # /health needs no key: no folders in it
    )
