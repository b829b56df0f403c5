"""A slot: one rank of one worker as the router sees it, with its capacity, its load and its limits."""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.core.identity import ModelName, WorkerId, instance_number
from appliance.core.records import BusyThreshold
from appliance.core.requests import ModelCard
from appliance.routing.active_load import ActiveLoad
from appliance.routing.index_events import Holder

NO_LIMIT = sys.maxsize


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
        "engine_rank",
        "holder",
        "last_prefill_at",
        "load",
        "number",
        "prefill_limit",
        "queue_limit",
        "rank",
        "reported_blocks",
        "reported_tokens",
        "says_busy",
        "says_events",
        "streams",
        "worker",
    )

    def __init__(self, worker: WorkerId, rank: int, card: ModelCard, says_events: bool) -> None:
        self.worker, self.rank, self.card = worker, rank, card
        self.holder = Holder(worker, rank)
        self.engine_rank = rank if card.ranks > 1 else None
        """The rank to ask the engine for; None when the worker has only one."""
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
        self.says_busy = False
        """What it says is over a limit."""
        self.busy = False
        self.block_limit = self.prefill_limit = self.queue_limit = NO_LIMIT

    @property
    def on_cpu(self) -> bool:
        return self.card.device == "cpu"

    def limit(self, thresholds: BusyThresholds, queue_threshold: float | None) -> None:
        """Work out from which load on the slot is busy, and from which on requests wait."""
        blocks, budget = self.card.total_kv_blocks, self.card.max_num_batched_tokens
        self.block_limit = _share(thresholds.decode_blocks, blocks)
        absolute = thresholds.prefill_tokens
        relative = _share(thresholds.prefill_tokens_frac, budget)
        self.prefill_limit = relative if absolute is None else min(absolute, relative)
        self.queue_limit = _share(queue_threshold, budget)
        self.report(self.reported_blocks, self.reported_tokens)

    def report(self, blocks: int, prefill_tokens: int) -> None:
        """What the worker itself says of its load."""
        self.reported_blocks, self.reported_tokens = blocks, prefill_tokens
        self.says_busy = blocks > self.block_limit or prefill_tokens > self.prefill_limit


def _share(times: float | None, of: int) -> int:
    """The highest whole number that is not above so many times a number; no limit where either is not known."""
    # Loads are whole numbers, and those compare faster with one than with a fraction or infinity.
    return NO_LIMIT if times is None or not of else math.floor(min(times * of, NO_LIMIT))
