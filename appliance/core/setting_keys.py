"""Every setting as a key `group.name`: type, default, environment names, allowed values, and parsing of text."""

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Iterable, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from appliance.core.errors import UsageError
from appliance.core.settings import Settings

UPSTREAM = {
    "http.host": "DYN_HTTP_HOST",
    "http.port": "DYN_HTTP_PORT",
    "http.body_limit_mb": "DYN_HTTP_BODY_LIMIT_MB",
    "http.tls_cert_path": "DYN_TLS_CERT_PATH",
    "http.tls_key_path": "DYN_TLS_KEY_PATH",
    "http.metrics_prefix": "DYN_METRICS_PREFIX",
    "http.enable_anthropic_api": "DYN_ENABLE_ANTHROPIC_API",
    "http.strip_anthropic_preamble": "DYN_STRIP_ANTHROPIC_PREAMBLE",
    "http.enable_streaming_tool_dispatch": "DYN_ENABLE_STREAMING_TOOL_DISPATCH",
    "http.enable_streaming_reasoning_dispatch": "DYN_ENABLE_STREAMING_REASONING_DISPATCH",
    "paths.chat": "DYN_HTTP_SVC_CHAT_PATH",
    "paths.completions": "DYN_HTTP_SVC_CMP_PATH",
    "paths.embeddings": "DYN_HTTP_SVC_EMB_PATH",
    "paths.responses": "DYN_HTTP_SVC_RESPONSES_PATH",
    "paths.models": "DYN_HTTP_SVC_MODELS_PATH",
    "paths.messages": "DYN_HTTP_SVC_ANTHROPIC_PATH",
    "paths.health": "DYN_HTTP_SVC_HEALTH_PATH",
    "paths.live": "DYN_HTTP_SVC_LIVE_PATH",
    "paths.metrics": "DYN_HTTP_SVC_METRICS_PATH",
    "drain.request_s": "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS",
    "requests.migration_limit": "DYN_MIGRATION_LIMIT",
    "requests.migration_max_seq_len": "DYN_MIGRATION_MAX_SEQ_LEN",
    "router.mode": "DYN_ROUTER_MODE",
    "hardware.nvml_library": "DYN_NVML_LIBRARY",
    "supervision.canary": "DYN_HEALTH_CHECK_ENABLED",
    "supervision.canary_wait_s": "DYN_CANARY_WAIT_TIME",
    "supervision.canary_timeout_s": "DYN_HEALTH_CHECK_REQUEST_TIMEOUT",
    "router.load_aware": "DYN_ROUTER_LOAD_AWARE",
    "router.overlap_score_credit": "DYN_ROUTER_KV_OVERLAP_SCORE_CREDIT",
    "router.prefill_load_scale": "DYN_ROUTER_PREFILL_LOAD_SCALE",
    "router.temperature": "DYN_ROUTER_TEMPERATURE",
    "router.shared_cache_type": "DYN_SHARED_CACHE_TYPE",
    "router.shared_cache_multiplier": "DYN_SHARED_CACHE_MULTIPLIER",
    "router.kv_events": "DYN_ROUTER_USE_KV_EVENTS",
    "router.ttl_s": "DYN_ROUTER_TTL_SECS",
    "router.replica_sync": "DYN_ROUTER_REPLICA_SYNC",
    "router.track_active_blocks": "DYN_ROUTER_TRACK_ACTIVE_BLOCKS",
    "router.track_output_blocks": "DYN_ROUTER_TRACK_OUTPUT_BLOCKS",
    "router.assume_kv_reuse": "DYN_ROUTER_ASSUME_KV_REUSE",
    "router.track_prefill_tokens": "DYN_ROUTER_TRACK_PREFILL_TOKENS",
    "router.prefill_load_model": "DYN_ROUTER_PREFILL_LOAD_MODEL",
    "router.queue_threshold": "DYN_ROUTER_QUEUE_THRESHOLD",
    "router.queue_policy": "DYN_ROUTER_QUEUE_POLICY",
    "router.min_initial_workers": "DYN_ROUTER_MIN_INITIAL_WORKERS",
    "router.enforce_disagg": "DYN_ENFORCE_DISAGG",
    "router.conditional_disagg": "DYN_ROUTER_CONDITIONAL_DISAGG",
    "router.conditional_disagg_policy": "DYN_ROUTER_CONDITIONAL_DISAGG_POLICY",
    "router.conditional_disagg_eff_isl_threshold": "DYN_ROUTER_CONDITIONAL_DISAGG_EFF_ISL_THRESHOLD",
    "router.conditional_disagg_eff_isl_ratio_threshold": "DYN_ROUTER_CONDITIONAL_DISAGG_EFF_ISL_RATIO_THRESHOLD",
    "router.conditional_disagg_prefill_busy_threshold": "DYN_ROUTER_CONDITIONAL_DISAGG_PREFILL_BUSY_THRESHOLD",
    "router.conditional_disagg_decode_busy_threshold": "DYN_ROUTER_CONDITIONAL_DISAGG_DECODE_BUSY_THRESHOLD",
    "router.active_decode_blocks_threshold": "DYN_ACTIVE_DECODE_BLOCKS_THRESHOLD",
    "router.active_prefill_tokens_threshold": "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD",
    "router.active_prefill_tokens_threshold_frac": "DYN_ACTIVE_PREFILL_TOKENS_THRESHOLD_FRAC",
    "router.cuda_to_cpu_ratio": "DYN_ENCODER_CUDA_TO_CPU_RATIO",
    "trace.enabled": "OTEL_EXPORT_ENABLED",
    "trace.endpoint": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "trace.service_name": "OTEL_SERVICE_NAME",
    "trace.sampler": "OTEL_TRACES_SAMPLER",
    "trace.sampler_arg": "OTEL_TRACES_SAMPLER_ARG",
    "trace.queue_spans": "OTEL_BSP_MAX_QUEUE_SIZE",
    "audit.sinks": "DYN_AUDIT_SINKS",
    "audit.output_path": "DYN_AUDIT_OUTPUT_PATH",
    "audit.force_logging": "DYN_AUDIT_FORCE_LOGGING",
    "audit.capacity": "DYN_AUDIT_CAPACITY",
    "hub.endpoint": "HF_ENDPOINT",
    "hub.offline": "HF_HUB_OFFLINE",
    "hub.token_file": "HF_TOKEN_PATH",
}
"""Names under which Dynamo's own components, and the hub's own tools, read the same setting."""

CHOICES = {
    "router.mode": ("round-robin", "random", "power-of-two", "least-loaded", "device-aware-weighted", "direct", "kv"),
    "router.shared_cache_type": ("none", "hicache"),
    "router.prefill_load_model": ("none", "aic"),
    "router.queue_policy": ("fcfs", "lcfs", "wspt"),
    "router.conditional_disagg_policy": ("isl_bounding", "prefill_load", "isl_or_load"),
    "admin.socket_mode": ("0600", "0660"),
    "log.format": ("text", "jsonl"),
    "log.level": ("debug", "info", "warning", "error"),
    "trace.sampler": (
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ),
}

RANGES = {
    "http.port": (0, 65535),
    "http.body_limit_mb": (0.001, 100_000),
    "http.frontend_processes": (1, 256),
    "http.send_buffer_bytes": (4096, 1 << 40),
    "router.overlap_score_credit": (0, 1),
    "router.host_cache_hit_weight": (0, 1),
    "router.disk_cache_hit_weight": (0, 1),
    "router.shared_cache_multiplier": (0, 1),
    "router.session_affinity_ttl_s": (0, 31_536_000),
    "router.cuda_to_cpu_ratio": (0.001, 1000),
    "router.conditional_disagg_eff_isl_ratio_threshold": (0, 1),
    "residency.max_models": (1, 10_000),
    "residency.memory_limit_gb": (0.001, 1_000_000),
    "trace.sampler_arg": (0, 1),
    "trace.queue_spans": (1, 1_000_000),
    "audit.capacity": (1, 1_000_000),
    "supervision.backoff_factor": (1, 100),
    "hardware.scan_s": (0.1, 3600),
    "hardware.call_s": (0.1, 3600),
    "hardware.release_s": (0, 3600),
    "supervision.backoff_jitter": (0, 1),
}
PATTERNS = {
    "paths": (re.compile(r"(/[A-Za-z0-9._~-]+)+"), "must be a path such as /v1/name"),
    "http.metrics_prefix": (re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "must be letters, digits and underscores"),
}
"""What texts of a setting, or of a whole group, must look like, and how to say so."""
ANY_TEXT = (re.compile(""), "")
LARGEST = 2**63 - 1  # what fits the messages between our processes
NOT_NEGATIVE = (0, math.inf)  # times, counts and sizes: what holds for every other number

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
UNSET = ("none", "")
"""Texts that stand for no number, where a number may be missing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingKey:
    """One setting."""

    group: str
    name: str
    type: Any
    """The annotation: `str`, `int`, `float`, `bool`, one of them `| None`, or `tuple[str, ...]`."""
    default: Any

    @property
    def key(self) -> str:
        return f"{self.group}.{self.name}"

    @property
    def number(self) -> type[int] | type[float] | None:
        """`int` or `float`, also when the number may be missing; None for what is no number."""
        kinds = get_args(self.type) if _is_optional(self) else (self.type,)
        return float if float in kinds else int if int in kinds else None

    @property
    def environment(self) -> tuple[str, ...]:
        """Environment names; a later one wins."""
        ours = f"APPLIANCE_{self.group}_{self.name}".upper()
        return (UPSTREAM[self.key], ours) if self.key in UPSTREAM else (ours,)

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed values; empty when any value of the type will do."""
        return CHOICES.get(self.key, ())


def _keys() -> dict[str, SettingKey]:
    found = {}
    for group in dataclasses.fields(Settings):
        defaults = getattr(Settings(), group.name)
        for name, annotation in get_type_hints(type(defaults)).items():
            key = SettingKey(group=group.name, name=name, type=annotation, default=getattr(defaults, name))
            found[key.key] = key
    return found


KEYS: dict[str, SettingKey] = _keys()
"""All settings by key, in the order of `core/settings.py`."""


def parse_text(key: SettingKey, text: str, origin: str) -> Any:
    """The value that an environment variable or a flag holds as text. Raises `UsageError` naming key and origin."""
    if _is_list(key):
        return check_value(key, [part for part in (p.strip() for p in text.split(",")) if part], origin)
    if key.type is bool:
        if text.lower() in TRUE + FALSE:
            return text.lower() in TRUE
        raise _unusable(key, text, origin, "must be true or false")
    if key.number is not None:
        if _is_optional(key) and text.lower() in UNSET:
            return None
        try:
            return check_value(key, key.number(text), origin)
        except ValueError:
            raise _unusable(key, text, origin, _number_rule(key)) from None
    return check_value(key, text, origin)


def check_value(key: SettingKey, value: Any, origin: str) -> Any:
    """A value of the right type within its limits, lists as tuples. Raises `UsageError` naming key and origin."""
    if _is_list(key):
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise _unusable(key, value, origin, "must be a list of texts")
        return tuple(value)
    if key.type is bool:
        if not isinstance(value, bool):
            raise _unusable(key, value, origin, "must be true or false")
        return value
    if _is_optional(key) and (value is None or (key.number is not None and value in UNSET)):
        return None
    if key.number is not None:
        return _check_number(key, value, origin)
    if not isinstance(value, str):
        raise _unusable(key, value, origin, "must be a text")
    if not value:
        if _is_optional(key):
            return None
        raise _unusable(key, value, origin, "must not be empty")
    if key.choices and value not in key.choices:
        raise _unusable(key, value, origin, f"must be one of {', '.join(key.choices)}")
    pattern, rule = PATTERNS.get(key.key, PATTERNS.get(key.group, ANY_TEXT))
    if pattern.pattern and not pattern.fullmatch(value):
        raise _unusable(key, value, origin, rule)
    return value


def unknown_key(key: str, known: Iterable[str], origin: str) -> UsageError:
    """The error for a key that does not exist; names the nearest one that does."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown setting {key!r} ({origin}){hint}", param=key)


def _check_number(key: SettingKey, value: Any, origin: str) -> int | float:
    allowed = (int, float) if key.number is float else (int,)
    low, high = RANGES.get(key.key, NOT_NEGATIVE)
    if (
        isinstance(value, bool)
        or not isinstance(value, allowed)
        or not math.isfinite(value)
        or not low <= value <= min(high, LARGEST)
    ):
        raise _unusable(key, value, origin, _number_rule(key))
    return float(value) if key.number is float else int(value)


def _number_rule(key: SettingKey) -> str:
    low, high = RANGES.get(key.key, NOT_NEGATIVE)
    noun = "a whole number" if key.number is int else "a number"
    return f"must be {noun} of at least {low}" if high == math.inf else f"must be {noun} from {low} to {high}"


def _unusable(key: SettingKey, value: object, origin: str, rule: str) -> UsageError:
    return UsageError(f"cannot use {value!r} for {key.key} ({origin}): {rule}", param=key.key)


def _is_list(key: SettingKey) -> bool:
    return get_origin(key.type) is tuple


def _is_optional(key: SettingKey) -> bool:
    return get_origin(key.type) in (Union, types.UnionType) and type(None) in get_args(key.type)
