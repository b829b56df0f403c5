"""The KV cache of one rank in blocks: those that are in use, those kept for reuse, and those that are free.

A block whose tokens are all computed is *full*: it is named by its sequence hash, shared by all who need it and kept
when its last user goes. Any other block is *private*: it belongs to one request and is only counted.
"""

from collections.abc import Sequence

from appliance.core.errors import InternalError
from appliance.simulation.event_log import EventLog
from appliance.simulation.eviction import CachedBlock, Eviction


class BlockPool:
    """A fixed number of blocks. Events go to `log` exactly when a block becomes reusable or stops to be."""

    def __init__(self, capacity: int, eviction: Eviction, log: EventLog) -> None:
        self.capacity = capacity
        self.free = capacity
        """Blocks without any content."""
        self._unused = eviction
        self._full: dict[int, CachedBlock] = {}
        self._log = log

    @property
    def active(self) -> int:
        """Blocks that a request holds; a shared one counts once."""
        return self.capacity - self.free - len(self._unused)

    @property
    def available(self) -> int:
        """Blocks that can be had, at the expense of what is kept for reuse."""
        return self.free + len(self._unused)

    def match(self, block_ids: Sequence[int]) -> int:
        """How many blocks of a chain are here, counted from its first one."""
        for count, block_id in enumerate(block_ids):
            if block_id not in self._full:
                return count
        return len(block_ids)

    def unused_among(self, block_ids: Sequence[int]) -> int:
        """How many of these full blocks would leave the blocks kept for reuse."""
        return sum(self._full[block_id].users == 0 for block_id in block_ids)

    def share(self, block_id: int) -> CachedBlock:
        """Use a full block that is here."""
        block = self._full[block_id]
        if not block.users:
            self._unused.discard(block)
        block.users += 1
        return block

    def take(self) -> bool:
        """Make a free block private, giving up an unused one if need be; False when all are in use."""
        if not self.free:
            if not len(self._unused):
                return False
            self._evict()
        self.free -= 1
        return True

    def fill(self, block_id: int, local_hash: int, parent: CachedBlock | None) -> CachedBlock:
        """A private block is full now. If there is an equal one already, that is shared and the private one freed."""
        if block_id in self._full:
            self.free += 1
            return self.share(block_id)
        block = self._full[block_id] = CachedBlock(block_id, local_hash, parent)
        if parent is not None:
            parent.followers += 1
        self._log.stored(block_id, local_hash, None if parent is None else parent.id)
        return block

    def give_back(self, private: int) -> None:
        """Free private blocks."""
        self.free += private

    def release(self, blocks: Sequence[CachedBlock]) -> None:
        """End the use of a chain of full blocks, given from its start. They are kept until their room is needed."""
        for block in reversed(blocks):
            if block.users < 1:
                raise InternalError(f"block {block.id} was released more often than it was used")
            block.users -= 1
            if not block.users:
                self._unused.add(block)

    def clear(self) -> None:
        """Forget all blocks that nobody uses."""
        while len(self._unused):
            self._evict()

    def _evict(self) -> None:
        block = self._unused.pop()
        del self._full[block.id]
        parent = block.parent
        if parent is not None:
            parent.followers -= 1
            if not parent.followers:
                self._unused.lost_follower(parent)
        self.free += 1
        self._log.removed(block.id)
