"""Whether a request is split at all: some prompts cost less on the decode worker than their transfer would. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.core.settings import RouterSettings
from appliance.routing.slots import Slot

POLICIES = ("isl_bounding", "prefill_load", "isl_or_load")
"""Values of `router.conditional_disagg_policy`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """What the choice goes by."""

    isl: int
    """Tokens of the prompt."""
    uncached: int
    """Those that the decode worker with the most of them cached would have to compute."""
    prefill_busy: bool
    decode_busy: bool


def runs_split(settings: RouterSettings, facts: SplitFacts) -> bool:
    """Whether a prefill worker computes the prompt. Prefill workers are there."""
    if not settings.conditional_disagg or facts.decode_busy:
        return True
    policy = settings.conditional_disagg_policy
    if policy != "isl_bounding" and facts.prefill_busy:
        return False
    if policy == "prefill_load":
        return True
    is_short = facts.uncached < settings.conditional_disagg_eff_isl_threshold
    return not (is_short and facts.uncached < settings.conditional_disagg_eff_isl_ratio_threshold * facts.isl)


def prefill_busy(settings: RouterSettings, slots: Sequence[Slot], now: float) -> bool:
    """Every prefill worker has more prompt tokens to compute than the threshold's step budgets."""
    threshold = settings.conditional_disagg_prefill_busy_threshold
    if threshold is None:
        threshold = settings.queue_threshold
    if threshold is None:
        return False
    sized = [slot for slot in slots if slot.card.max_num_batched_tokens]
    return bool(sized) and all(
        max(slot.load.prefill_at(now), slot.reported_tokens) > threshold * slot.card.max_num_batched_tokens
        for slot in sized
    )


def decode_busy(settings: RouterSettings, slots: Sequence[Slot]) -> bool:
    """Every decode worker uses more than the threshold's share of its cache."""
    threshold = settings.conditional_disagg_decode_busy_threshold
    if threshold is None:
        return False
    sized = [slot for slot in slots if slot.card.total_kv_blocks]
    return bool(sized) and all(
        max(slot.load.blocks_now(), slot.reported_blocks) > threshold * slot.card.total_kv_blocks for slot in sized
    )
