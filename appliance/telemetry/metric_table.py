"""The one table of metric names, upstream's where upstream has the metric."""

from typing import Literal

from appliance.telemetry.cells import MetricSpec

DURATION = (0, 2, 4, 8, 16, 32, 64, 130, 260, 510)
TTFT = (0, 0.0022, 0.0047, 0.01, 0.022, 0.047, 0.1, 0.22, 0.47, 1, 2.2, 4.7, 10, 22, 48, 100, 220, 480)
ITL = (0, 0.0019, 0.0035, 0.0067, 0.013, 0.024, 0.045, 0.084, 0.16, 0.3, 0.56, 1.1, 2)
ISL = (0, 100, 210, 430, 870, 1800, 3600, 7400, 15000, 31000, 63000, 130000)
OSL = (0, 100, 210, 430, 880, 1800, 3700, 7600, 16000, 32000)
STAGE = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5)

SHARES = tuple(step / 20 for step in range(21))
TRANSFER = (*ITL, 5, 10)
TOKENIZER_MS = (0.5, *(2.0**step for step in range(10)))
HASHING_MS = tuple(0.001 * 2**step for step in range(15))
PLACING_MS = tuple(0.01 * 3**step for step in range(17))
WORKER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)

FE = "dynamo_frontend_"
CO = "dynamo_component_"
RO = "dynamo_component_router_"
OV = "dynamo_router_overhead_"
RP = "dynamo_request_plane_"
KVI = "dynamo_kvindexer_"
KVI_SECONDS = tuple(0.0001 * 2**k for k in range(16))


def _counter(name: str, help: str, *labels: str) -> MetricSpec:
    return MetricSpec(name=name, kind="counter", help=help, labels=labels)


def _gauge(name: str, help: str, *labels: str, merge: Literal["sum", "max"] = "sum") -> MetricSpec:
    return MetricSpec(name=name, kind="gauge", help=help, labels=labels, merge=merge)


def _histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> MetricSpec:
    return MetricSpec(name=name, kind="histogram", help=help, labels=labels, buckets=buckets)


WORKER = ("worker_id", "dp_rank", "worker_type")
ROUTER = ("dynamo_namespace", "dynamo_component", "router_id", "worker_id")
SERVED = ("dynamo_namespace", "dynamo_component", "dynamo_endpoint", "worker_id", "model")
TOKENIZE = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
TEMPLATE = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05)
SEND = (0.00001, 0.0001, 0.001, 0.01, 0.1, 1)

TABLE: tuple[MetricSpec, ...] = (
    _counter(FE + "requests_total", "Finished requests.", "model", "endpoint", "request_type", "status", "error_type"),
    _gauge(FE + "active_requests", "Requests between arrival and the end of their answer.", "model"),
    _gauge(FE + "inflight_requests", "Same as active_requests; kept for dashboards made for it.", "model"),
    _gauge(FE + "queued_requests", "Requests that have no first token yet.", "model"),
    _gauge(FE + "disconnected_clients", "Clients that went away before their answer ended."),
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
    _histogram(FE + "kv_hit_rate", "Share of a prompt's blocks that its worker had cached.", SHARES, "model"),
    _histogram(
        FE + "kv_transfer_estimated_latency_seconds",
        "End of a split request's prefill to its first token: an upper bound.",
        TRANSFER,
        "model",
    ),
    _histogram(FE + "tokenizer_latency_ms", "Time to turn a prompt into tokens.", TOKENIZER_MS, "operation"),
    _gauge(FE + "model_total_kv_blocks", "KV blocks of one worker.", "model"),
    _gauge(FE + "model_max_num_seqs", "Streams that one worker runs at once.", "model"),
    _gauge(FE + "model_max_num_batched_tokens", "Tokens of one engine step.", "model"),
    _gauge(FE + "model_context_length", "Tokens that one stream may hold.", "model"),
    _gauge(FE + "model_kv_cache_block_size", "Tokens in a KV block.", "model"),
    _gauge(FE + "model_migration_limit", "How often a request may move.", "model"),
    _gauge(FE + "worker_active_decode_blocks", "KV blocks of running requests.", *WORKER, merge="max"),
    _gauge(FE + "worker_active_prefill_tokens", "Prompt tokens still to be computed.", *WORKER, merge="max"),
    _gauge(FE + "worker_last_time_to_first_token_seconds", "Of its last request.", *WORKER, merge="max"),
    _gauge(FE + "worker_last_inter_token_latency_seconds", "Mean of its last request.", *WORKER, merge="max"),
    _gauge(FE + "worker_last_input_sequence_tokens", "Prompt tokens of its last request.", *WORKER, merge="max"),
    _gauge(FE + "router_queue_pending_requests", "Requests that wait for a worker with room.", "worker_type"),
    _gauge(FE + "router_queue_pending_isl_tokens", "Prompt tokens of those.", "worker_type"),
    _gauge(FE + "stage_requests", "Requests in a stage of the request path.", "stage", "phase"),
    _histogram(FE + "stage_duration_seconds", "Time in a stage of the request path.", STAGE, "stage"),
    _histogram(FE + "tokenize_seconds", "Time to turn a prompt into tokens.", TOKENIZE),
    _histogram(FE + "template_seconds", "Time to render a chat template.", TEMPLATE),
    _counter(FE + "detokenize_token_count", "Output tokens that were turned into text."),
    _histogram(
        FE + "event_loop_delay_seconds",
        "Lateness of a 10 ms sleep.",
        (0, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
    ),
    _counter(FE + "event_loop_stall_total", "Sleeps that were more than 5 ms late."),
    _counter(RO + "requests_total", "Placements of streams that generate.", *ROUTER),
    _histogram(RO + "time_to_first_token_seconds", "Arrival to first token.", TTFT, *ROUTER),
    _histogram(RO + "inter_token_latency_seconds", "Gap between tokens of a stream.", ITL, *ROUTER),
    _histogram(RO + "input_sequence_tokens", "Prompt tokens (ISL).", ISL, *ROUTER),
    _histogram(RO + "output_sequence_tokens", "Output tokens (OSL).", OSL, *ROUTER),
    _histogram(RO + "kv_hit_rate", "Share of a prompt's blocks that its worker had cached.", SHARES, *ROUTER),
    _histogram(
        RO + "kv_transfer_estimated_latency_seconds",
        "End of a split request's prefill to its first token: an upper bound.",
        TRANSFER,
        *ROUTER,
    ),
    _histogram(
        OV + "block_hashing_ms",
        "Hashing the blocks of a prompt; one placement in 16 is timed.",
        HASHING_MS,
        "router_id",
    ),
    _histogram(
        OV + "seq_hashing_ms", "Hashing the prefixes of a prompt; one placement in 16.", HASHING_MS, "router_id"
    ),
    _histogram(
        OV + "indexer_find_matches_ms",
        "Looking a prompt up in the index; one placement in 16.",
        PLACING_MS,
        "router_id",
    ),
    _histogram(
        OV + "scheduling_ms", "Eligibility, cost, choice and booking; one placement in 16.", PLACING_MS, "router_id"
    ),
    _histogram(OV + "total_ms", "All of a placement but waiting; one in a few is timed.", PLACING_MS, "router_id"),
    _histogram(RP + "send_seconds", "Handing a request to the link of its worker.", SEND),
    _histogram(RP + "roundtrip_ttft_seconds", "Sending a request to its first token.", TTFT),
    _gauge(RP + "inflight_requests", "Requests that are with workers."),
    _counter("dynamo_component_kv_cache_events_applied", "Cache events taken in.", "event_type", "status"),
    _counter("dynamo_component_kv_cache_event_warnings", "Cache events that were not as expected.", "warning_kind"),
    _gauge("dynamo_component_uptime_seconds", "Seconds since the process started.", "worker_id"),
    _counter(CO + "requests_total", "Streams that have ended in a worker.", *SERVED),
    _gauge(CO + "inflight_requests", "Streams that are open in a worker.", *SERVED),
    _histogram(CO + "request_duration_seconds", "Time a stream was open in a worker.", WORKER_SECONDS, *SERVED),
    _counter(CO + "cancellation_total", "Streams that front ends gave up.", *SERVED),
    _counter(CO + "errors_total", "Streams that failed in a worker.", *SERVED, "error_type"),
    _gauge(CO + "model_load_time_seconds", "Start of a worker's process until it could serve.", *SERVED),
    _gauge(CO + "kvstats_total_blocks", "KV blocks of a worker.", *SERVED),
    _gauge(CO + "kvstats_gpu_cache_usage_percent", "KV blocks in use, in percent.", *SERVED),
    _counter(CO + "kv_publisher_engines_dropped_events_total", "Cache events that made no sense.", *SERVED),
    _gauge("appliance_workers", "Worker processes by phase.", "model", "phase"),
    _histogram(KVI + "request_duration_seconds", "Time to answer a call of the indexer.", KVI_SECONDS, "endpoint"),
    _counter(KVI + "requests_total", "Calls of the indexer.", "endpoint", "method"),
    _counter(KVI + "errors_total", "Calls of the indexer that were refused or failed.", "endpoint", "status_class"),
    _gauge(KVI + "models", "Models and tenants with an index."),
    _gauge(KVI + "workers", "Registered instances."),
    _gauge(KVI + "listeners", "Subscriptions to engines.", "status"),
    _counter("appliance_kv_event_batches_total", "Batches of cache events of engines, by what became of them.", "fate"),
    _counter("appliance_kv_event_issues_total", "Cache events of engines that were not taken as they stand.", "issue"),
    _counter("appliance_trace_spans_total", "Spans of front ends, by what became of them.", "fate"),
    _counter("appliance_audit_records_total", "Records of the audit log, by what became of them.", "fate"),
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
"""`disconnected_clients` is a gauge upstream that only grows. Upstream names that are left out, and why, stand in
`tests/data/metrics.yaml`."""

GROWING = frozenset({spec.name for spec in TABLE if spec.kind != "gauge"} | {FE + "disconnected_clients"})
"""What goes on being counted when the process that counted it has ended."""
LARGEST = frozenset(spec.name for spec in TABLE if spec.merge == "max")
"""What several processes say of one and the same thing: not to be added up."""
