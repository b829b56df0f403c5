"""The prefix index on native code: what `native/` keeps, in the words of `PrefixIndex`.

Cannot be imported where the native code was not built.
"""

from collections.abc import Iterator, Sequence

from appliance.core.errors import InvalidRequest
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.routing.block_hash import LocalHash
from appliance.routing.index_events import Holder, Outcome
from appliance.routing.native.block_tree import BlockTree
from appliance.routing.overlap import NO_OVERLAPS, Overlaps

_TIERS = [[tier for tier in Tier if mask >> tier & 1] for mask in range(1 << len(Tier))]


class NativeIndex:
    """A `PrefixIndex`; its docstrings say what the operations do."""

    def __init__(self) -> None:
        self._tree = BlockTree()

    def apply(self, holder: Holder, event: KvEvent) -> Outcome:
        """Do what an event of a holder says."""
        if isinstance(event, StoredBlocks):
            return self.store(holder, event.block_ids, event.local_hashes, event.parent, event.tier)
        if isinstance(event, RemovedBlocks):
            return self.remove(holder, event.block_ids, event.tier)
        self.clear(holder.worker)
        return Outcome.APPLIED

    def find_matches(self, local_hashes: Sequence[LocalHash]) -> Overlaps:
        """How many blocks from the first on each holder has, per tier."""
        if not self._tree:
            return NO_OVERLAPS
        device, host, disk = self._tree.find_matches(local_hashes)
        return Overlaps(device, host, disk) if disk else NO_OVERLAPS

    def shared_blocks(self, local_hashes: Sequence[LocalHash]) -> int:
        """How many blocks from the first on somebody has on disk."""
        return self._tree.shared_blocks(local_hashes, Tier.DISK)

    def store(
        self,
        holder: Holder,
        block_ids: Sequence[int],
        local_hashes: Sequence[int],
        parent: int | None = None,
        tier: Tier = Tier.DEVICE,
    ) -> Outcome:
        """A holder has these blocks in a tier."""
        try:
            known = self._tree.store(holder, block_ids, local_hashes, parent, tier)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        return Outcome.APPLIED if known else Outcome.PARENT_UNKNOWN

    def remove(self, holder: Holder, block_ids: Sequence[int], tier: Tier = Tier.DEVICE) -> Outcome:
        """A holder no longer has these blocks in a tier."""
        return Outcome.APPLIED if self._tree.remove(holder, block_ids, tier) else Outcome.BLOCK_UNKNOWN

    def clear(self, worker: WorkerId, rank: int | None = None) -> None:
        """Forget all that a worker has."""
        for holder in self._tree.holders():
            if holder.worker == worker and rank in (None, holder.rank):
                self._tree.forget(holder)

    def block_counts(self) -> dict[Holder, tuple[int, ...]]:
        """Blocks of each holder by tier."""
        return {holder: self._tree.block_counts(holder) for holder in self._tree.holders()}

    def kept(self) -> int:
        """Different blocks."""
        return self._tree.kept()

    def dump(self) -> Iterator[tuple[Holder, KvEvent]]:
        """Everything as events."""
        for holder in self._tree.holders():
            gaps: list[int] = []
            for ids, hashes, parent, mask in self._tree.picture(holder):
                if not mask:
                    gaps += ids
                for tier in _TIERS[mask] or [Tier.DEVICE]:
                    yield holder, StoredBlocks(ids, hashes, parent, tier)
            if gaps:
                yield holder, RemovedBlocks(gaps)

    def __len__(self) -> int:
        """Entries over all holders and tiers."""
        return len(self._tree)
