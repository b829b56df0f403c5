"""The one table of metric names, upstream's where upstream has the metric, and its rendering as Prometheus text."""

from collections.abc import Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.telemetry.cells import MetricSpec, Series

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

DURATION = (0, 2, 4, 8, 16, 32, 64, 130, 260, 510)
TTFT = (0, 0.0022, 0.0047, 0.01, 0.022, 0.047, 0.1, 0.22, 0.47, 1, 2.2, 4.7, 10, 22, 48, 100, 220, 480)
ITL = (0, 0.0019, 0.0035, 0.0067, 0.013, 0.024, 0.045, 0.084, 0.16, 0.3, 0.56, 1.1, 2)
ISL = (0, 100, 210, 430, 870, 1800, 3600, 7400, 15000, 31000, 63000, 130000)
OSL = (0, 100, 210, 430, 880, 1800, 3700, 7600, 16000, 32000)
STAGE = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5)

FE = "dynamo_frontend_"
KVI = "dynamo_kvindexer_"
KVI_SECONDS = tuple(0.0001 * 2**k for k in range(16))


def _counter(name: str, help: str, *labels: str) -> MetricSpec:
    return MetricSpec(name=name, kind="counter", help=help, labels=labels)


def _gauge(name: str, help: str, *labels: str) -> MetricSpec:
    return MetricSpec(name=name, kind="gauge", help=help, labels=labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> MetricSpec:
    return MetricSpec(name=name, kind="histogram", help=help, labels=labels, buckets=buckets)


TABLE: tuple[MetricSpec, ...] = (
    _counter(FE + "requests_total", "Finished requests.", "model", "endpoint", "request_type", "status", "error_type"),
    _gauge(FE + "active_requests", "Requests between arrival and the end of their answer.", "model"),
    _gauge(FE + "inflight_requests", "Same as active_requests; kept for dashboards made for it.", "model"),
    _gauge(FE + "queued_requests", "Requests that have no first token yet.", "model"),
    _counter(FE + "disconnected_clients", "Clients that went away before their answer ended."),
    _histogram(FE + "request_duration_seconds", "Arrival to end of the answer.", DURATION, "model"),
    _histogram(FE + "time_to_first_token_seconds", "Arrival to first token.", TTFT, "model"),
    _histogram(FE + "inter_token_latency_seconds", "Gap between tokens of a stream.", ITL, "model"),
    _histogram(FE + "input_sequence_tokens", "Prompt tokens (ISL).", ISL, "model"),
    _histogram(FE + "output_sequence_tokens", "Output tokens (OSL).", OSL, "model"),
    _histogram(FE + "cached_tokens", "Prompt tokens found in a KV cache.", ISL, "model"),
    _counter(FE + "output_tokens_total", "Output tokens.", "model"),
    _counter(
        FE + "model_cancellation_total", "Requests cancelled by their client.", "model", "endpoint", "request_type"
    ),
    _counter(FE + "model_rejection_total", "Requests turned away because of load.", "model", "endpoint"),
    _counter(FE + "model_migration_total", "Requests moved to another worker.", "model", "migration_type"),
    _counter(FE + "model_migration_max_seq_len_exceeded_total", "Streams that were too long to be moved.", "model"),
    _gauge(FE + "model_total_kv_blocks", "KV blocks of one worker.", "model"),
    _gauge(FE + "model_max_num_seqs", "Streams that one worker runs at once.", "model"),
    _gauge(FE + "model_context_length", "Tokens that one stream may hold.", "model"),
    _gauge(FE + "model_kv_cache_block_size", "Tokens in a KV block.", "model"),
    _gauge(FE + "model_migration_limit", "How often a request may move.", "model"),
    _gauge(FE + "stage_requests", "Requests in a stage of the request path.", "stage", "phase"),
    _histogram(FE + "stage_duration_seconds", "Time in a stage of the request path.", STAGE, "stage"),
    _histogram(
        FE + "event_loop_delay_seconds",
        "Lateness of a 10 ms sleep.",
        (0, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
    ),
    _counter(FE + "event_loop_stall_total", "Sleeps that were more than 5 ms late."),
    _counter("dynamo_component_kv_cache_events_applied", "Cache events taken in.", "event_type", "status"),
    _counter("dynamo_component_kv_cache_event_warnings", "Cache events that were not as expected.", "warning_kind"),
    _gauge("dynamo_component_uptime_seconds", "Seconds since the process started.", "worker_id"),
    _gauge("appliance_workers", "Worker processes by phase.", "model", "phase"),
    _histogram(KVI + "request_duration_seconds", "Time to answer a call of the indexer.", KVI_SECONDS, "endpoint"),
    _counter(KVI + "requests_total", "Calls of the indexer.", "endpoint", "method"),
    _counter(KVI + "errors_total", "Calls of the indexer that were refused or failed.", "endpoint", "status_class"),
    _gauge(KVI + "models", "Models and tenants with an index."),
    _gauge(KVI + "workers", "Registered instances."),
    _gauge(KVI + "listeners", "Subscriptions to engines.", "status"),
    _counter("appliance_kv_event_batches_total", "Batches of cache events of engines, by what became of them.", "fate"),
    _counter("appliance_kv_event_issues_total", "Cache events of engines that were not taken as they stand.", "issue"),
    _counter("appliance_worker_restarts_total", "Starts of worker processes after the first.", "component"),
    _gauge("appliance_gpu_memory_used_bytes", "GPU memory that processes use.", "gpu", "uuid"),
    _gauge("appliance_gpu_memory_total_bytes", "GPU memory that processes can use.", "gpu", "uuid"),
    _gauge("appliance_gpu_memory_promised_bytes", "GPU memory promised to workers.", "gpu", "uuid"),
    _gauge("appliance_gpu_utilization_ratio", "Share of the last sample in which the GPU ran.", "gpu", "uuid"),
    _gauge("appliance_gpu_temperature_celsius", "Temperature of the GPU.", "gpu", "uuid"),
    _gauge("appliance_gpu_power_watts", "Power that the GPU draws.", "gpu", "uuid"),
    _gauge("appliance_gpu_healthy", "1 while the GPU can be used, 0 once it is lost.", "gpu", "uuid"),
    _gauge(
        "appliance_gpu_owner", "1 for each worker that was given the GPU, or a part of it.", "gpu", "uuid", "worker"
    ),
)
"""`disconnected_clients` is a gauge upstream that only grows; it is a counter in all but its type name."""


class _Snapshot(Collector):
    """Hands merged series to prometheus_client's text renderer."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._by_name: dict[str, list[Series]] = {}
        for one in series:
            self._by_name.setdefault(one.name, []).append(one)

    def collect(self) -> Iterator[Metric]:
        for spec in TABLE:
            rows = self._by_name.get(spec.name)
            if rows:
                yield _family(spec, rows)


class _Registry:
    """The part of a prometheus_client registry that the renderer calls."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        return self._collector.collect()


def render(series: Iterable[Series]) -> bytes:
    """Series as Prometheus text, in the order of the table."""
    return generate_latest(_Registry(_Snapshot(series)))


def _family(spec: MetricSpec, rows: list[Series]) -> Metric:
    if spec.kind == "histogram":
        histogram = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        for row in rows:
            histogram.add_metric(row.labels, _cumulative(spec, row.values), row.values[-1])
        return histogram
    # A counter whose upstream name lacks `_total` is shown as a gauge, as upstream does: the text format would add it.
    counts = spec.kind == "counter" and spec.name.endswith("_total")
    family = (CounterMetricFamily if counts else GaugeMetricFamily)(spec.name, spec.help, labels=spec.labels)
    for row in rows:
        family.add_metric(row.labels, row.values[0])
    return family


def _cumulative(spec: MetricSpec, values: list[float]) -> list[tuple[str, float]]:
    total, out = 0.0, []
    for bound, count in zip([*map(str, map(float, spec.buckets)), "+Inf"], values[:-1], strict=True):
        total += count
        out.append((bound, total))
    return out
