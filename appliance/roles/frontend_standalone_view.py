"""What the control app of a front end without a supervisor shows: its own health, models and metrics."""

from appliance.core.errors import NotFound
from appliance.core.identity import instance_number
from appliance.core.records import BusyThreshold, KeyRecord, ModelRecord, WorkerRecord
from appliance.core.settings import Settings
from appliance.discovery.roster import Roster
from appliance.frontend.control.views import BusyThresholdOrder, Health, InstanceView, MeasuredEngine
from appliance.roles.busy_thresholds import changed_threshold, thresholds_in_force
from appliance.roles.frontend_serving import FrontEnd
from appliance.roles.model_gauges import add_model_gauges
from appliance.telemetry.cells import Metrics, Series, merge_series
from appliance.telemetry.metrics import TABLE, render
from appliance.wire.bus_messages import Picture

NAMESPACE = "dynamo"


class StandaloneView:
    """`ControlView` over one front end; what it is told, it hands to the front end as pictures."""

    def __init__(self, front_end: FrontEnd, roster: Roster, keys: list[KeyRecord], settings: Settings) -> None:
        self._front_end, self._roster, self._keys, self._settings = front_end, roster, keys, settings
        self._workers: list[WorkerRecord] = []
        self._models: list[ModelRecord] = []
        self._thresholds: list[BusyThreshold] = []
        self._was_ready = False
        self.draining = False
        """It takes no more requests."""

    def take(self, workers: list[WorkerRecord], models: list[ModelRecord]) -> None:
        """Serve with these from now on."""
        self._workers, self._models = workers, models
        self._front_end.apply(self.picture())

    def picture(self) -> Picture:
        """All that the front end needs to know at this moment."""
        return Picture(
            self._workers, self._models, self._keys, self._settings, self.draining, busy_thresholds=self._thresholds
        )

    def health(self) -> Health:
        if self.draining:
            return Health(status="draining", message="the front end is stopping")
        placeable = self._front_end.placeable()
        instances = [_instance(one) for one in self._workers if one.phase == "ready" and one.id in placeable]
        ready = {one.name for one in self._models if one.phase == "ready"}
        self._was_ready = self._was_ready or any(one.model in ready and one.id in placeable for one in self._workers)
        if not self._was_ready:
            return Health(status="starting", message=self._missing(), instances=instances)
        return Health(status="healthy", instances=instances)

    def has_all_linked(self) -> bool:
        """Requests can be placed on every worker that is ready."""
        return {one.id for one in self._workers if one.phase == "ready"} <= self._front_end.placeable()

    def models(self) -> list[ModelRecord]:
        return self._models

    async def metrics(self) -> bytes:
        series = merge_series([self._front_end.measures.series(), self._own_series()])
        return render(series, self._settings.http.metrics_prefix)

    async def engine_metrics(self, worker: str) -> bytes:
        raise NotFound("a front end without a supervisor knows no metrics of engines")

    async def measured_engines(self) -> list[MeasuredEngine]:
        return []

    def busy_thresholds(self) -> list[BusyThreshold]:
        return thresholds_in_force(self._models, self._thresholds, self._settings.router)

    async def set_busy_threshold(self, order: BusyThresholdOrder) -> BusyThreshold:
        """They hold until the front end ends."""
        _, changed = changed_threshold(self.busy_thresholds(), order)
        self._thresholds = [*(one for one in self._thresholds if one.model != order.model), changed]
        self._front_end.apply(self.picture())
        return changed

    def _missing(self) -> str:
        """Why nothing is ready; sockets by their name only, for /health needs no key."""
        faulty = ", ".join(self._roster.faults())
        return f"no worker is ready; those that do not answer: {faulty}" if faulty else "no worker is ready yet"

    def _own_series(self) -> list[Series]:
        metrics = Metrics(TABLE)
        for worker in self._workers:
            metrics.cell("appliance_workers", worker.model, worker.phase).add()
            if worker.card is not None:
                add_model_gauges(metrics, worker.card, self._settings.requests.migration_limit)
        return metrics.series()


def _instance(worker: WorkerRecord) -> InstanceView:
    return InstanceView(
        namespace=NAMESPACE,
        component=worker.component,
        endpoint="generate",
        instance_id=instance_number(worker.id),
        transport={"unix": f"{worker.id}.sock"},
    )
