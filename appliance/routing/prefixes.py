"""What is known of the caches of one pool: from the workers' own events, or guessed from placements."""

from collections.abc import Iterable

from appliance.core.errors import InvalidRequest
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks
from appliance.core.settings import RouterSettings
from appliance.routing.approximate_index import ApproximateIndex
from appliance.routing.asking import Ask
from appliance.routing.block_hash import local_hashes, sequence_hashes
from appliance.routing.index_events import Holder
from appliance.routing.measures import RouterMeasures, Stopwatch
from appliance.routing.overlap import Overlaps
from appliance.routing.prefix_index import new_index
from appliance.routing.slots import Slot


class Prefixes:
    """Both indexes of one pool, and the hashing of prompts for them."""

    def __init__(self, settings: RouterSettings, measures: RouterMeasures) -> None:
        self.index = new_index()
        self.guessed = ApproximateIndex(settings.ttl_s)
        self._measures = measures
        self.configure(settings)

    def configure(self, settings: RouterSettings) -> None:
        """Take new settings. What is not used any more is forgotten, and fills anew when it is used again."""
        self.used = settings.mode == "kv" and settings.overlap_score_credit > 0
        """Whether cached blocks matter at all; if not, no index is kept."""
        self._shares = self.used and settings.shared_cache_type != "none"
        self.guessed.ttl_s = settings.ttl_s
        if not self.used:
            self.index = new_index()
            self.guessed = ApproximateIndex(settings.ttl_s)

    def apply(self, holder: Holder, events: Iterable[KvEvent]) -> None:
        """Take in what a worker says of its cache. An event that makes no sense is counted and dropped."""
        if not self.used:
            return
        counts = self._measures.events
        for event in events:
            kind = _kind(event)
            try:
                counts[kind, self.index.apply(holder, event).value] += 1
            except InvalidRequest:
                counts[kind, "invalid_block"] += 1

    def forget_worker(self, worker: WorkerId, rank: int | None = None) -> None:
        """Nothing is known of the cache of a worker any more, or of one of its ranks."""
        self.index.clear(worker, rank)
        self.guessed.forget_worker(worker)

    def read(
        self, ask: Ask, block_size: int, lora: str, guess: bool, now: float, watch: Stopwatch | None = None
    ) -> None:
        """Hash a prompt, once, and find who has how much of it. `guess`: some workers say nothing of their caches."""
        request, weights, prompt = ask.request, ask.weights, ask.prompt
        shared = weights.track_active_blocks and weights.assume_kv_reuse
        if not prompt.blocks or not (shared or self.used):
            return
        if not ask.local:
            ask.local = local_hashes(request.token_ids, block_size, lora_name=request.lora or lora, media=request.media)
            if watch is not None:
                watch.lap(self._measures.block_hashing_ms)
            if shared or guess:
                ask.sequence = sequence_hashes(ask.local)
                if watch is not None:
                    watch.lap(self._measures.sequence_hashing_ms)
            if shared:
                prompt.hashes = ask.sequence
        if self.used:
            prompt.overlaps = self._find(ask, now) if guess else self.index.find_matches(ask.local)
            if self._shares:
                prompt.shared_blocks = max(request.shared_blocks, self.index.shared_blocks(ask.local))
            if watch is not None:
                watch.lap(self._measures.find_matches_ms)

    def record(self, slot: Slot, ask: Ask, now: float) -> None:
        """A prompt goes to a slot: a guess at what its cache will hold, unless it says so itself."""
        if self.used and not slot.says_events:
            self.guessed.record(slot.holder, ask.local, ask.sequence or sequence_hashes(ask.local), now)

    def _find(self, ask: Ask, now: float) -> Overlaps:
        """What is guessed, and beyond it what the others say."""
        guessed = self.guessed.find_matches(ask.local, now).device
        said = self.index.find_matches(ask.local)
        if not said.disk:
            return Overlaps(guessed, guessed, guessed)
        return Overlaps(guessed | said.device, guessed | said.host_pinned, guessed | said.disk)


def _kind(event: KvEvent) -> str:
    if isinstance(event, StoredBlocks):
        return "stored"
    return "removed" if isinstance(event, RemovedBlocks) else "cleared"
