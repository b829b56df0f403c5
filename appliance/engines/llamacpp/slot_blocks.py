"""Which blocks the slots of the engine hold, and the cache events that tell. Pure.

A block is held as long as some slot has it, with everything before it: slots share nothing, but to a router one copy is
as good as two. Blocks are named by their sequence hashes.
"""

from collections import Counter
from collections.abc import Sequence

from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks
from appliance.engines.cards import BLOCK_TOKENS
from appliance.routing.block_hash import SequenceHash, local_hashes, sequence_hashes


class SlotBlocks:
    """The complete blocks of each slot, from its first token on."""

    def __init__(self, slots: int) -> None:
        self._chains: list[list[SequenceHash]] = [[] for _ in range(slots)]
        self._copies: Counter[SequenceHash] = Counter()

    def keep(self, slot: int, tokens: int) -> list[KvEvent]:
        """The slot has only its first tokens from now on; the events that follow from it."""
        chain, kept = self._chains[slot], tokens // BLOCK_TOKENS
        cut = chain[kept:]
        del chain[kept:]
        gone: list[int] = []
        for block in reversed(cut):
            self._copies[block] -= 1
            if not self._copies[block]:
                del self._copies[block]
                gone.append(block)
        return [RemovedBlocks(gone)] if gone else []

    def hold(self, slot: int, tokens: Sequence[int]) -> list[KvEvent]:
        """The slot has these tokens from now on. They begin with what it had, or are the beginning of that."""
        chain = self._chains[slot]
        known = len(chain)
        locals_ = local_hashes(tokens[known * BLOCK_TOKENS :], BLOCK_TOKENS)
        if not locals_:
            return self.keep(slot, len(tokens))
        added = sequence_hashes(locals_, chain[-1] if chain else None)
        chain += added
        self._copies.update(added)
        # Whoever has a block has those before it too: the copies of others are the first ones here.
        shared = next((at for at, block in enumerate(added) if self._copies[block] == 1), len(added))
        if shared == len(added):
            return []
        before = chain[known + shared - 1] if known + shared else None
        return [StoredBlocks(list(added[shared:]), list(locals_[shared:]), before)]
