"""The series of workers: what each says of itself, under the names of the graph that it belongs to."""

from typing import Any

from appliance.core.identity import instance_number
from appliance.supervision.views import WorkerView
from appliance.telemetry.cells import Metrics, Series
from appliance.telemetry.metric_table import CO

ENDPOINT = "generate"


def worker_series(metrics: Metrics, view: WorkerView, told: dict[str, Any]) -> list[Series]:
    """Sets the counters and gauges of one worker in `metrics`; its histograms come back as they are."""
    instance, number = view.instance, f"{instance_number(view.id):x}"
    model = view.card.name if view.card else ""
    labels = _label(instance.graph), _label(instance.component), ENDPOINT, number, model
    plain = {
        "requests_total": told["requests"],
        "inflight_requests": told["inflight"],
        "cancellation_total": told["cancelled"],
        "model_load_time_seconds": told["load_s"],
        "kvstats_total_blocks": told["total_blocks"],
        "kv_publisher_engines_dropped_events_total": told.get("events_dropped"),
    }
    if "active_blocks" in told and told["total_blocks"]:
        plain["kvstats_gpu_cache_usage_percent"] = 100 * told["active_blocks"] / told["total_blocks"]
    for name, value in plain.items():
        if value is not None:
            metrics.cell(CO + name, *labels).set(value)
    for code, count in told["errors"].items():
        metrics.cell(CO + "errors_total", *labels, code).set(count)
    metrics.cell(CO + "uptime_seconds", number).set(told["uptime_s"])
    return [Series(CO + "request_duration_seconds", labels, told["durations"])]


def _label(name: str) -> str:
    """Upstream writes no hyphen in these labels."""
    return name.replace("-", "_")
