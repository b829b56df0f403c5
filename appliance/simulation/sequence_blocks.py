"""Blocks for sequences: reuse of what is cached, growth token by token, release."""

from appliance.core.kv_events import KvEvent
from appliance.simulation.block_pool import BlockPool
from appliance.simulation.engine_settings import EngineSettings
from appliance.simulation.event_log import EventLog
from appliance.simulation.eviction import make_eviction
from appliance.simulation.sequence import RunningSequence


class SequenceBlocks:
    """The cache of one rank, as the sequences that run on it see it."""

    def __init__(self, settings: EngineSettings) -> None:
        """Raises `UsageError` for an unknown eviction backend."""
        self.block_size = settings.block_size
        self.reuses = settings.enable_prefix_caching
        self.log = EventLog()
        self.pool = BlockPool(settings.num_gpu_blocks, make_eviction(settings.eviction), self.log)
        self._unsettled: set[RunningSequence] = set()

    def drain_events(self) -> list[KvEvent]:
        """What changed in the cache since the last call."""
        return self.log.drain()

    def cached_tokens(self, sequence: RunningSequence) -> int:
        """How many of its known tokens, from the first on, are in the cache."""
        return self.pool.match(sequence.block_ids) * self.block_size

    def missing_blocks(self, sequence: RunningSequence, tokens: int) -> int:
        """Blocks that a sequence without any takes from the available ones to hold its first `tokens` tokens."""
        wanted = sequence.block_ids[: tokens // self.block_size]
        present = self.pool.match(wanted)
        return -(-tokens // self.block_size) - present + self.pool.unused_among(wanted[:present])

    def reuse(self, sequence: RunningSequence, tokens: int) -> None:
        """Give a sequence without blocks the cached ones of its first `tokens` tokens."""
        count = tokens // self.block_size
        sequence.blocks = [self.pool.share(block_id) for block_id in sequence.block_ids[:count]]
        sequence.room = tokens

    def grow(self, sequence: RunningSequence, tokens: int) -> bool:
        """Make room for `tokens` tokens in all and count them as computed; False, and nothing done, without blocks."""
        needed = -(-(tokens - sequence.room) // self.block_size)
        if needed > self.pool.available:
            return False
        for _ in range(needed):
            self.pool.take()
        if needed > 0:
            sequence.private += needed
            sequence.room += needed * self.block_size
        self._fill(sequence, tokens // self.block_size)
        return True

    def add_block(self, sequence: RunningSequence) -> bool:
        """The next token starts a block, and all tokens before it are computed; False when there is none."""
        if self.log.wanted:
            self._fill(sequence, sequence.room // self.block_size)
        else:
            self._unsettled.add(sequence)
        if not self.pool.take():
            return False
        sequence.private += 1
        sequence.room += self.block_size
        return True

    def settle(self) -> None:
        """Name all blocks that were completed by output, so that others can find them.

        Nobody looks for them between two admissions: naming many at once is much cheaper than one by one.
        """
        for sequence in self._unsettled:
            self._fill(sequence, sequence.computed_tokens // self.block_size)
        self._unsettled.clear()

    def release(self, sequence: RunningSequence) -> None:
        """Take all blocks from a sequence; the full ones stay in the cache until their room is needed."""
        self._fill(sequence, sequence.computed_tokens // self.block_size)
        self._unsettled.discard(sequence)
        self.pool.give_back(sequence.private)
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.private = sequence.room = 0

    def _fill(self, sequence: RunningSequence, count: int) -> None:
        """The first `count` blocks are complete from now on."""
        if not self.reuses or len(sequence.blocks) >= count:
            return
        sequence.hash_blocks(count, self.block_size)
        blocks = sequence.blocks
        for number in range(len(blocks), count):
            parent = blocks[-1] if blocks else None
            blocks.append(self.pool.fill(sequence.block_ids[number], sequence.local_hashes[number], parent))
            sequence.private -= 1
