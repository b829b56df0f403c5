"""The settings that a placement goes by: the router's own, changed by the pool's role and by the request."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from appliance.core.generation import RouterOverrides
from appliance.core.settings import RouterSettings

Role = Literal["aggregated", "prefill", "decode"]
"""What a stream does on its worker: all of it, or one half of a split request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What the cost of a worker is made of, and what is booked."""

    overlap_credit: float = 1.0
    host_credit: float = 0.75
    disk_credit: float = 0.25
    shared_credit: float = 0.0
    prefill_scale: float = 1.0
    temperature: float = 0.0
    assume_kv_reuse: bool = True
    track_prefill_tokens: bool = True
    track_active_blocks: bool = True


def resolve(settings: RouterSettings) -> RouterSettings:
    """The settings with the preset `load_aware` spelled out."""
    if not settings.load_aware:
        return settings
    return replace(
        settings,
        mode="kv",
        overlap_score_credit=0.0,
        shared_cache_type="none",
        shared_cache_multiplier=0.0,
        kv_events=False,
        track_active_blocks=True,
        assume_kv_reuse=False,
        track_prefill_tokens=True,
    )


def weights_of(settings: RouterSettings, role: Role) -> Weights:
    """The weights of a role. Raises nothing: settings were checked when they were read."""
    weights = Weights(
        overlap_credit=settings.overlap_score_credit,
        host_credit=settings.host_cache_hit_weight,
        # What is shared is credited to every worker alike, and not once more to the one that reported it.
        disk_credit=settings.disk_cache_hit_weight if settings.shared_cache_type == "none" else 0.0,
        shared_credit=settings.shared_cache_multiplier,
        prefill_scale=settings.prefill_load_scale,
        temperature=settings.temperature,
        assume_kv_reuse=settings.assume_kv_reuse,
        track_prefill_tokens=settings.track_prefill_tokens,
        track_active_blocks=settings.track_active_blocks,
    )
    if role == "prefill":
        return replace(weights, track_active_blocks=False)
    if role == "decode":  # the prompt's blocks arrive from the prefill worker, whatever this one has
        return replace(
            weights, overlap_credit=0.0, shared_credit=0.0, assume_kv_reuse=False, track_prefill_tokens=False
        )
    return weights


def overridden(weights: Weights, wish: RouterOverrides) -> Weights:
    """The weights that one request asks for. The obsolete overlap weight beats the newer names."""
    scale, credit = wish.prefill_load_scale, wish.overlap_score_credit
    if wish.overlap_score_weight is not None:
        scale = wish.overlap_score_weight
        credit = 0.0 if scale == 0 else credit
    wanted: dict[str, Any] = {
        "overlap_credit": credit,
        "prefill_scale": scale,
        "temperature": wish.router_temperature,
        "assume_kv_reuse": wish.assume_kv_reuse,
        "track_prefill_tokens": wish.track_prefill_tokens,
        "shared_credit": wish.shared_cache_multiplier,
    }
    return replace(weights, **{name: value for name, value in wanted.items() if value is not None})
