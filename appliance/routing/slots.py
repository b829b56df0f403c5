"""A slot: one rank of one worker as the router sees it, with its capacity, its load and its limits."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.core.identity import ModelName, WorkerId, instance_number
from appliance.core.records import BusyThreshold
from appliance.core.requests import ModelCard
from appliance.routing.active_load import ActiveLoad
from appliance.routing.index_events import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyThresholds:
    """When a slot takes nothing more; None turns a test off. The two of prefill hold side by side."""

    decode_blocks: float | None = 1.0
    """Share of the blocks of its cache."""
    prefill_tokens: int | None = 10_000_000
    prefill_tokens_frac: float | None = 10.0
    """Times the token budget of one engine step."""


def thresholds_by_model(given: Iterable[BusyThreshold]) -> dict[ModelName, BusyThresholds]:
    """What the router takes, from what was set for single models."""
    return {
        ModelName(one.model): BusyThresholds(
            decode_blocks=one.active_decode_blocks_threshold,
            prefill_tokens=one.active_prefill_tokens_threshold,
            prefill_tokens_frac=one.active_prefill_tokens_threshold_frac,
        )
        for one in given
    }


class Slot:
    """One candidate. Counts change while requests run; the rest stays until the worker leaves."""

    __slots__ = (
        "block_limit",
        "busy",
        "capacity",
        "card",
        "holder",
        "last_prefill_at",
        "load",
        "number",
        "prefill_limit",
        "queue_limit",
        "rank",
        "reported_blocks",
        "reported_tokens",
        "says_events",
        "streams",
        "worker",
    )

    def __init__(self, worker: WorkerId, rank: int, card: ModelCard, says_events: bool) -> None:
        self.worker, self.rank, self.card = worker, rank, card
        self.holder = Holder(worker, rank)
        self.number = instance_number(worker)
        self.capacity = max(1, card.max_num_seqs)
        self.says_events = says_events
        """Its cache is known from its own events, not guessed."""
        self.load = ActiveLoad(card.block_size)
        self.streams = 0
        """Streams placed here that have not ended."""
        self.last_prefill_at = 0.0
        self.reported_blocks = 0
        """What the worker itself says of its load."""
        self.reported_tokens = 0
        self.busy = False
        self.block_limit = self.prefill_limit = self.queue_limit = math.inf

    @property
    def on_cpu(self) -> bool:
        return self.card.device == "cpu"

    def limit(self, thresholds: BusyThresholds, queue_threshold: float | None) -> None:
        """Work out from which load on the slot is busy, and from which on requests wait."""
        blocks, budget = self.card.total_kv_blocks, self.card.max_num_batched_tokens
        share = thresholds.decode_blocks
        self.block_limit = math.inf if share is None or not blocks else share * blocks
        absolute, times = thresholds.prefill_tokens, thresholds.prefill_tokens_frac
        self.prefill_limit = min(
            math.inf if absolute is None else absolute, math.inf if times is None or not budget else times * budget
        )
        self.queue_limit = math.inf if queue_threshold is None or not budget else queue_threshold * budget
