"""What the public control app shows: health and the metrics of all processes."""

from pathlib import Path
from typing import Any

from appliance.core.errors import ModelNotFound, NotImplementedHere
from appliance.core.identity import instance_number
from appliance.core.records import ModelRecord
from appliance.frontend.control.views import BusyThreshold, Health, InstanceView
from appliance.roles.node.board import Board
from appliance.roles.node.front_end_totals import FrontEndTotals
from appliance.roles.node.gpu_views import add_gpu_metrics
from appliance.supervision.views import WorkerView
from appliance.telemetry.cells import Metrics, Series, merge_series
from appliance.telemetry.metrics import TABLE, render
from appliance.transport.bus_server import BusServer


class NodeView:
    """`ControlView` over the board; metrics are pulled from the front ends at each scrape."""

    def __init__(self, board: Board, bus: BusServer, totals: FrontEndTotals) -> None:
        self._board, self._bus, self._totals = board, bus, totals

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
        return render(merge_series([await self._totals.pull(self._bus), self._own_series()]))

    def busy_thresholds(self) -> list[BusyThreshold]:
        return []

    async def set_busy_threshold(self, threshold: BusyThreshold) -> BusyThreshold:
        names = [record.name for record in self.models()]
        if threshold.model not in names:
            raise ModelNotFound(f"the model {threshold.model!r} does not exist; models here: {', '.join(names)}")
        raise NotImplementedHere("busy thresholds come with the KV router")

    def _own_series(self) -> list[Series]:
        """Metrics of the supervisor itself, made anew at each scrape."""
        metrics = Metrics(TABLE)
        for view in self._board.workers():
            metrics.cell("appliance_workers", view.card.name if view.card else "", view.phase).add()
            metrics.cell("appliance_worker_restarts_total", view.instance.component).add(view.restarts)
            if view.card is not None:
                _add_model_gauges(metrics, view, self._board.settings.requests.migration_limit)
        add_gpu_metrics(metrics, self._board.gpus)
        return metrics.series()


def _add_model_gauges(metrics: Metrics, view: WorkerView, migration_limit: int) -> None:
    card: Any = view.card
    gauges = {
        "total_kv_blocks": card.total_kv_blocks,
        "max_num_seqs": card.max_num_seqs,
        "context_length": card.context_length,
        "kv_cache_block_size": card.block_size,
        "migration_limit": migration_limit,
    }
    for name, value in gauges.items():
        metrics.cell(f"dynamo_frontend_model_{name}", card.name).set(value)


def _instance(view: WorkerView) -> InstanceView:
    return InstanceView(
        namespace=view.instance.graph,
        component=view.instance.component,
        endpoint="generate",
        instance_id=instance_number(view.id),
        transport={"unix": Path(view.address).name},  # /health needs no key: no folders in it
    )
