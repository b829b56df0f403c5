"""The indexer's metrics: calls as they happen, everything else looked up when asked for."""

from dataclasses import fields

from appliance.events.zmq_subscriber import FeedCounts
from appliance.roles.indexer.listeners import Listeners, ListenerStatus
from appliance.roles.indexer.registry import Registry
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE, render

PREFIX = "dynamo_kvindexer_"
EVENTS = "dynamo_component_kv_cache_events_applied"
BATCHES = "appliance_kv_event_batches_total"
ISSUES = "appliance_kv_event_issues_total"


class Measures:
    """What an indexer measures."""

    def __init__(self, registry: Registry, listeners: Listeners) -> None:
        self._metrics = Metrics(TABLE)
        self._registry = registry
        self._listeners = listeners

    def count_request(self, path: str, method: str, status: int, took_s: float) -> None:
        """One answered call; `path` is one of the app's, not what the client wrote."""
        self._metrics.cell(PREFIX + "requests_total", path, method).add()
        self._metrics.histogram(PREFIX + "request_duration_seconds", path).observe(took_s)
        if status >= 400:
            self._metrics.cell(PREFIX + "errors_total", path, "5xx" if status >= 500 else "4xx").add()

    def render(self) -> bytes:
        """Everything as Prometheus text."""
        cell = self._metrics.cell
        cell(PREFIX + "models").set(len(self._registry.models))
        cell(PREFIX + "workers").set(sum(1 for _ in self._registry.instances()))
        statuses = self._listeners.statuses()
        for status in ListenerStatus:
            cell(PREFIX + "listeners", status).set(statuses[status])
        for (kind, outcome), count in self._registry.applied.items():
            cell(EVENTS, kind, outcome).set(count)
        totals = self._listeners.totals()
        for one in fields(FeedCounts):
            if one.name not in ("events", "issues"):
                cell(BATCHES, one.name).set(getattr(totals, one.name))
        for issue, count in totals.issues.items():
            cell(ISSUES, issue).set(count)
        return render(self._metrics.series())
