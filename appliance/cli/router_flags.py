"""The `--router-*` flags, and older or upstream-only names for them that are taken with a warning."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

ROUTER_SETTINGS = {
    "--router-mode": "router.mode",
    "--load-aware": "router.load_aware",
    "--router-kv-overlap-score-credit": "router.overlap_score_credit",
    "--router-prefill-load-scale": "router.prefill_load_scale",
    "--router-temperature": "router.temperature",
    "--router-host-cache-hit-weight": "router.host_cache_hit_weight",
    "--router-disk-cache-hit-weight": "router.disk_cache_hit_weight",
    "--shared-cache-type": "router.shared_cache_type",
    "--shared-cache-multiplier": "router.shared_cache_multiplier",
    "--router-kv-events": "router.kv_events",
    "--router-ttl-secs": "router.ttl_s",
    "--router-replica-sync": "router.replica_sync",
    "--router-track-active-blocks": "router.track_active_blocks",
    "--router-track-output-blocks": "router.track_output_blocks",
    "--router-assume-kv-reuse": "router.assume_kv_reuse",
    "--router-track-prefill-tokens": "router.track_prefill_tokens",
    "--router-prefill-load-model": "router.prefill_load_model",
    "--router-queue-threshold": "router.queue_threshold",
    "--router-queue-policy": "router.queue_policy",
    "--router-min-initial-workers": "router.min_initial_workers",
    "--enforce-disagg": "router.enforce_disagg",
    "--router-conditional-disagg": "router.conditional_disagg",
    "--router-conditional-disagg-policy": "router.conditional_disagg_policy",
    "--router-conditional-disagg-eff-isl-threshold": "router.conditional_disagg_eff_isl_threshold",
    "--router-conditional-disagg-eff-isl-ratio-threshold": "router.conditional_disagg_eff_isl_ratio_threshold",
    "--router-conditional-disagg-prefill-busy-threshold": "router.conditional_disagg_prefill_busy_threshold",
    "--router-conditional-disagg-decode-busy-threshold": "router.conditional_disagg_decode_busy_threshold",
    "--router-session-affinity-ttl-secs": "router.session_affinity_ttl_s",
    "--active-decode-blocks-threshold": "router.active_decode_blocks_threshold",
    "--active-prefill-tokens-threshold": "router.active_prefill_tokens_threshold",
    "--active-prefill-tokens-threshold-frac": "router.active_prefill_tokens_threshold_frac",
}
"""Flags that are settings."""

RENAMED_SWITCHES = {
    "--kv-events": "--router-kv-events",
    "--track-active-blocks": "--router-track-active-blocks",
    "--track-output-blocks": "--router-track-output-blocks",
    "--assume-kv-reuse": "--router-assume-kv-reuse",
}
WEIGHT = "--kv-overlap-score-weight"
WITHOUT_EFFECT = ("--router-durable-kv-events", "--durable-kv-events", "--router-reset-states")
NUMBERS_WITHOUT_EFFECT = ("--router-snapshot-threshold", "--router-event-threads")


def old_router_flags(function: F) -> F:
    """Hidden options for every name that is not in use any more, or that means nothing on one machine."""
    for name in (*RENAMED_SWITCHES, *WITHOUT_EFFECT):
        function = click.option(f"{name}/--no-{name[2:]}", default=None, hidden=True)(function)
    for name in NUMBERS_WITHOUT_EFFECT:
        function = click.option(name, type=click.IntRange(min=0), hidden=True)(function)
    return click.option(WEIGHT, type=click.FloatRange(min=0), hidden=True)(function)


def take_old_router_flags(given: Mapping[str, Any]) -> tuple[dict[str, object], list[str]]:
    """Settings that the old names stand for, and one line of warning for each that was used."""
    values: dict[str, object] = {}
    warnings = []
    for old, new in RENAMED_SWITCHES.items():
        if given[_parameter(old)] is not None:
            values[ROUTER_SETTINGS[new]] = given[_parameter(old)]
            warnings.append(f"{old} is obsolete: use {new}")
    weight = given[_parameter(WEIGHT)]
    if weight is not None:
        values["router.prefill_load_scale"] = weight
        if weight == 0:
            values["router.overlap_score_credit"] = 0.0
        warnings.append(f"{WEIGHT} is obsolete: use --router-prefill-load-scale and --router-kv-overlap-score-credit")
    warnings += [
        f"ignoring {name}: it has no effect here"
        for name in (*WITHOUT_EFFECT, *NUMBERS_WITHOUT_EFFECT)
        if given[_parameter(name)] is not None
    ]
    return values, warnings


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
