"""Settings as frozen groups; each field carries its unit, default and meaning. `core/config.py` fills them in.

They cross the bus to child processes, so every field is a plain value.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """The public port."""

    host: str = "127.0.0.1"
    """Address to bind; anything but loopback needs an API key or `insecure_no_auth`."""
    port: int = 8000
    """TCP port; 0 takes any free one."""
    body_limit_mb: float = 45.0
    """Largest request body, in MB of 10^6 bytes."""
    tls_cert_path: str | None = None
    """PEM certificate chain; with `tls_key_path` the port speaks HTTPS."""
    tls_key_path: str | None = None
    """PEM private key."""
    api_key_file: str | None = None
    """File with one API key per line, beside the keys in the store."""
    insecure_no_auth: bool = False
    """Serve a non-loopback address without any key."""
    cors_origins: tuple[str, ...] = ()
    """Origins that web pages may call from; `*` for all."""
    frontend_processes: int = 1
    """Front-end processes that share the port."""
    access_log: bool = False
    """One log line per request (never its text)."""
    send_stall_s: float = 30.0
    """A client that takes no byte for this long is cut off."""
    send_buffer_bytes: int = 1 << 20
    """A client that is this far behind its stream is cut off."""
    idle_s: float = 75.0
    """Keep-alive connections close after this long without a request."""
    enable_anthropic_api: bool = True
    """Serve `/v1/messages`."""
    enable_streaming_tool_dispatch: bool = False
    """Streams of chat completions announce each whole tool call in an event of its own, `tool_call_dispatch`."""
    enable_streaming_reasoning_dispatch: bool = False
    """Streams of chat completions repeat each whole block of reasoning in an event of its own, `reasoning_dispatch`."""
    strip_anthropic_preamble: bool = False
    """Take the billing line that coding agents begin with out of system texts; it keeps prompts from being reused."""

    metrics_prefix: str = "dynamo_frontend"
    """What the names of the front ends' metrics begin with."""


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """Where the routes of the public port are; the standard path of a route that moved gives 404."""

    chat: str = "/v1/chat/completions"
    """Path of chat completions."""
    completions: str = "/v1/completions"
    """Path of text completions."""
    embeddings: str = "/v1/embeddings"
    """Path of embeddings."""
    responses: str = "/v1/responses"
    """Path of OpenAI Responses."""
    models: str = "/v1/models"
    """Path of the model list; single models lie below it."""
    messages: str = "/v1/messages"
    """Path of Anthropic Messages; `count_tokens` lies below it."""
    health: str = "/health"
    """Path of the readiness probe."""
    live: str = "/live"
    """Path of the liveness probe."""
    metrics: str = "/metrics"
    """Path of the Prometheus metrics."""


@dataclass(frozen=True, kw_only=True)
class DrainSettings:
    """Deadlines of an orderly stop."""

    request_s: float = 30.0
    """Longest wait for running requests after a stop signal."""
    term_s: float = 5.0
    """Longest wait for a worker after SIGTERM, before SIGKILL to its group."""


@dataclass(frozen=True, kw_only=True)
class RequestSettings:
    """How requests are held and retried."""

    hold_s: float = 60.0
    """Longest wait of a request for a cold or starting model."""
    migration_limit: int = 3
    """How often a stream may move to another worker."""
    migration_max_seq_len: int = 0
    """Streams whose prompt and output together are longer than this stay where they are; 0: no limit."""
    first_token_s: float = 600.0
    """Longest wait for the first token of a placed request."""
    exclude_tools_when_tool_choice_none: bool = True
    """Tools are left out of the prompt of a request that forbids calls."""
    template_file: str | None = None
    """JSON file with `model`, `temperature`, `max_completion_tokens` for chat and Responses requests that lack them."""


@dataclass(frozen=True, kw_only=True)
class RouterSettings:
    """Placement of requests on workers."""

    mode: str = "least-loaded"
    """How a request is placed on a worker: `kv` weighs cached prefixes against load, `direct` needs a pin."""
    load_aware: bool = False
    """Preset: mode `kv` by load alone, without prefixes; it wins over the settings that it implies."""
    overlap_score_credit: float = 1.0
    """Prefill blocks saved per cached block in device memory; 0 builds no index of prefixes."""
    prefill_load_scale: float = 8.0
    """Weight of prefill blocks against decode blocks in the cost of a worker. Dynamo takes 1, which reuses less."""
    temperature: float = 0.0
    """Randomness of the choice by cost; 0 always takes the cheapest worker."""
    host_cache_hit_weight: float = 0.75
    """Prefill blocks saved per cached block in host memory."""
    disk_cache_hit_weight: float = 0.25
    """Prefill blocks saved per cached block on disk."""
    shared_cache_type: str = "none"
    """A cache that all workers read: `hicache` is what any of them reports beyond device and host memory."""
    shared_cache_multiplier: float = 0.5
    """Prefill blocks saved per block that only a shared cache holds."""
    kv_events: bool = True
    """Follow what workers say of their caches; off, prefixes are guessed from earlier placements."""
    ttl_s: float = 120.0
    """How long a guessed prefix counts as cached after its last use."""
    replica_sync: bool = True
    """Front ends tell each other what they placed, where more than one runs."""
    track_active_blocks: bool = True
    """Count the blocks of running requests as decode load."""
    track_output_blocks: bool = False
    """Let decode load grow with the output; needs `track_active_blocks`."""
    assume_kv_reuse: bool = True
    """Requests with a common prefix on one worker share its blocks in the count."""
    track_prefill_tokens: bool = True
    """Count the prompt tokens still to be computed as prefill load."""
    prefill_load_model: str = "none"
    """How prefill load falls before the first token: `none` not at all, `aic` with the expected duration."""
    queue_threshold: float | None = 4.0
    """A request waits while every worker has more prefill tokens than this many step budgets; none is off."""
    queue_policy: str = "fcfs"
    """Order of waiting requests: `fcfs` first come, `lcfs` last come, `wspt` the least uncached prompt first."""
    min_initial_workers: int = 0
    """Requests of a model are held until it had this many workers once."""
    enforce_disagg: bool = False
    """Decode workers serve nothing without prefill workers."""
    conditional_disagg: bool = False
    """Requests that cost little on a decode worker pass the prefill workers by."""
    conditional_disagg_policy: str = "isl_bounding"
    """What passes by: `isl_bounding` short prompts, `prefill_load` all while prefill is busy, `isl_or_load` both."""
    conditional_disagg_eff_isl_threshold: int = 2048
    """A prompt is short with fewer uncached tokens than this on a decode worker, if the ratio holds too."""
    conditional_disagg_eff_isl_ratio_threshold: float = 0.7
    """A prompt is short with a smaller uncached share than this on a decode worker, if the number holds too."""
    conditional_disagg_prefill_busy_threshold: float | None = None
    """Prefill is busy with more tokens on every worker than this many step budgets; none takes `queue_threshold`."""
    conditional_disagg_decode_busy_threshold: float | None = None
    """Nothing passes by while every decode worker uses more than this share of its cache; none is off."""
    session_affinity_ttl_s: float = 0.0
    """How long `X-Dynamo-Session-ID` keeps requests on one worker after the last one; 0 ignores the header."""
    active_decode_blocks_threshold: float | None = 1.0
    """A worker is busy when its active blocks exceed this share of its cache; none is off."""
    active_prefill_tokens_threshold: int | None = 10_000_000
    """A worker is busy with more prefill tokens than this; none is off."""
    active_prefill_tokens_threshold_frac: float | None = 10.0
    """A worker is busy with more prefill tokens than this many step budgets; none is off."""
    cuda_to_cpu_ratio: float = 8.0
    """Mode `device-aware-weighted`: how many requests a GPU worker takes for one of a CPU worker."""


@dataclass(frozen=True, kw_only=True)
class AdminSettings:
    """The socket that the command line talks to."""

    socket_mode: str = "0600"
    """Who may use the admin socket, and so do everything: the owner (`0600`), or its group too (`0660`)."""


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What is logged and how."""

    format: str = "text"
    """Form of log lines: `text` or `jsonl`."""
    level: str = "info"
    """Least level that is logged: `debug`, `info`, `warning` or `error`."""


@dataclass(frozen=True, kw_only=True)
class SupervisionSettings:
    """Starting, watching and restarting worker processes."""

    start_base_s: float = 60.0
    """Start deadline of a worker with an empty model."""
    start_per_gb_s: float = 30.0
    """Added start deadline per GB of model file."""
    start_server_s: float = 900.0
    """Added start deadline of vllm, sglang and trtllm, which compile and capture graphs before they serve."""
    backoff_first_s: float = 0.5
    """First wait after an early exit."""
    backoff_factor: float = 2.0
    """Growth of the wait per further early exit."""
    backoff_cap_s: float = 30.0
    """Longest wait."""
    backoff_jitter: float = 0.1
    """Random share added to a wait."""
    exits_per_minute: int = 10
    """More exits than this in a minute count as early ones."""
    quiet_s: float = 60.0
    """A worker that lived this long starts its backoff afresh."""
    max_early_exits: int = 8
    """After this many early exits in a row a worker is failed until its spec changes."""
    heartbeat_s: float = 5.0
    """Pause between two looks at how a serving process is."""
    silence_s: float = 30.0
    """A serving process that gives no sign of life for this long is replaced; 0: never."""
    stall_s: float = 120.0
    """A worker that has streams and gets nowhere with any of them for this long is replaced; 0: never."""
    canary: bool = False
    """Idle workers are asked for one token now and then; one that cannot give it is replaced."""
    canary_wait_s: float = 10.0
    """Idle time before such a request."""
    canary_timeout_s: float = 3.0
    """Longest wait for its token."""


@dataclass(frozen=True, kw_only=True)
class HubSettings:
    """Fetching models from a hub."""

    endpoint: str = "https://huggingface.co"
    """The hub, or a mirror of it."""
    offline: bool = False
    """Never ask the hub; serve what lies here."""
    token_file: str | None = None
    """File with the access token for gated and private models, where HF_TOKEN holds none; else the hub's own place."""
    allow_remote_code: bool = False
    """Accept models that bring Python code of their own, which then runs here."""
    allow_pickle: bool = False
    """Accept weights as pickles, which can run any code when they are loaded."""


@dataclass(frozen=True, kw_only=True)
class HardwareSettings:
    """GPUs and their driver."""

    nvml_library: str | None = None
    """Path of the NVIDIA library `libnvidia-ml.so.1`, where the system does not find it by itself."""
    gpu_sku: str | None = None
    """What every GPU here counts as, such as `h100_sxm`, where it is not known or not right."""
    scan_s: float = 5.0
    """Time between looks at the GPUs."""
    call_s: float = 10.0
    """A driver that has not answered after this long hangs."""
    release_s: float = 10.0
    """Nobody loads on a GPU before the memory of its last worker is free, or this long has passed; 0: nobody waits."""


@dataclass(frozen=True, kw_only=True)
class ResidencySettings:
    """Which models are loaded when there are more than memory holds, and when one is unloaded."""

    idle_s: float = 0.0
    """A model is unloaded after this long without a request, and loaded again by the next one; 0: never."""
    min_residence_s: float = 5.0
    """A loaded model is not unloaded for another before this, unless a request has waited for `fairness_wait_s`."""
    fairness_wait_s: float = 10.0
    """A request for a model without memory that has waited this long takes it from one that is in use."""
    max_models: int | None = None
    """Models that are loaded at the same time; none is no limit."""
    memory_limit_gb: float | None = None
    """Memory in GB of 10^9 bytes for all models that run on the CPU; none is all that the machine has."""
    sleep_level: int = 0
    """Models whose engines can sleep do so at this level instead of being ended: 1 keeps the weights in main memory,
    2 drops them; 0: never."""


@dataclass(frozen=True, kw_only=True)
class TraceSettings:
    """Spans of requests, sent to a collector of OpenTelemetry by OTLP over HTTP."""

    enabled: bool = False
    """Send spans of requests to a collector of OpenTelemetry."""
    endpoint: str = "http://localhost:4318"
    """URL of the collector, by OTLP over HTTP; without a path it is `/v1/traces`."""
    service_name: str = "dynamo"
    """What the collector calls this appliance."""
    sampler: str = "parentbased_always_on"
    """Which traces are sent; the `parentbased` ones follow the client's `traceparent`, where there is one."""
    sampler_arg: float = 1.0
    """Share of traces that a ratio sampler takes."""
    queue_spans: int = 2048
    """Spans of one process that wait for the collector; what comes on top is dropped and counted."""


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """A record of chat requests with their texts, kept only where this says so."""

    sinks: tuple[str, ...] = ()
    """Where chat requests are written down with their answers: `jsonl`, `stderr` or both; none: nowhere."""
    output_path: str | None = None
    """File of the sink `jsonl`."""
    force_logging: bool = False
    """Write down every chat request, not only those with `store: true`."""
    capacity: int = 1024
    """Records of one process that wait to be written; what comes on top is dropped and counted."""
    roll_bytes: int = 256 * 1024 * 1024
    """At this size the file is renamed, `.1` at its end, and a new one begun; 0: never."""
    kept_files: int = 4
    """Renamed files that are kept."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one appliance."""

    http: HttpSettings = field(default_factory=HttpSettings)
    paths: PathSettings = field(default_factory=PathSettings)
    drain: DrainSettings = field(default_factory=DrainSettings)
    requests: RequestSettings = field(default_factory=RequestSettings)
    router: RouterSettings = field(default_factory=RouterSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    log: LogSettings = field(default_factory=LogSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    supervision: SupervisionSettings = field(default_factory=SupervisionSettings)
    hub: HubSettings = field(default_factory=HubSettings)
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    residency: ResidencySettings = field(default_factory=ResidencySettings)
