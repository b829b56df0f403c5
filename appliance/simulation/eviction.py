"""Which of the blocks that nobody uses is given up first.

Every backend keeps a chain whole from its start: a block goes before the block that it follows.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Protocol

from appliance.core.errors import InternalError, UsageError
from appliance.simulation.frequency import FrequencySketch

WARM = (3, 8, 15)
"""Uses from which on a block is warm, hot, very hot."""
STALE = 64


class CachedBlock:
    """One block of a prefix, in use while `users` is above 0. Its id is the sequence hash of the prefix."""

    __slots__ = ("followers", "id", "local_hash", "parent", "users")

    def __init__(self, block_id: int, local_hash: int, parent: "CachedBlock | None") -> None:
        self.id = block_id
        self.local_hash = local_hash
        self.parent = parent
        self.users = 1
        self.followers = 0
        """Cached blocks right behind this one, in use or not."""


class Eviction(Protocol):
    """The unused blocks, in the order in which they go."""

    def add(self, block: CachedBlock) -> None:
        """A block lost its last user."""

    def discard(self, block: CachedBlock) -> None:
        """A block is in use again."""

    def pop(self) -> CachedBlock:
        """Give one up. There must be one."""

    def lost_follower(self, block: CachedBlock) -> None:
        """The last block behind this one is gone; the block may be in use."""

    def __len__(self) -> int: ...


class LruEviction:
    """The block whose last use is longest ago goes first.

    A user of a block uses everything before it as well and gives its blocks back from the end, so that a block's last
    use is never later than that of the block before it.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, CachedBlock] = OrderedDict()

    def add(self, block: CachedBlock) -> None:
        """See `Eviction.add`."""
        self._blocks[block.id] = block

    def discard(self, block: CachedBlock) -> None:
        """See `Eviction.discard`."""
        del self._blocks[block.id]

    def pop(self) -> CachedBlock:
        """See `Eviction.pop`."""
        return self._blocks.popitem(last=False)[1]

    def lost_follower(self, block: CachedBlock) -> None:
        """See `Eviction.lost_follower`."""

    def __len__(self) -> int:
        return len(self._blocks)


class LineageEviction:
    """Ends of chains go first, in the order in which they became ends; what several prompts share goes last."""

    def __init__(self) -> None:
        self._ends: OrderedDict[int, CachedBlock] = OrderedDict()
        self._inner: dict[int, CachedBlock] = {}

    def add(self, block: CachedBlock) -> None:
        """See `Eviction.add`."""
        if block.followers:
            self._inner[block.id] = block
        else:
            self._ends[block.id] = block

    def discard(self, block: CachedBlock) -> None:
        """See `Eviction.discard`."""
        if self._inner.pop(block.id, None) is None:
            del self._ends[block.id]

    def pop(self) -> CachedBlock:
        """See `Eviction.pop`."""
        return self._ends.popitem(last=False)[1]

    def lost_follower(self, block: CachedBlock) -> None:
        """See `Eviction.lost_follower`."""
        if self._inner.pop(block.id, None) is not None:
            self._ends[block.id] = block

    def __len__(self) -> int:
        return len(self._ends) + len(self._inner)


class MultiLruEviction:
    """Four levels by how often a block was used; the coldest goes first, in it the one whose last use is longest ago.

    A block gets its level when its last user goes. Frequencies are estimates and outlive the blocks, so a block that
    was given up and comes back is not cold. Only ends of chains go, whatever their levels are.
    """

    def __init__(self) -> None:
        self._frequency = FrequencySketch()
        self._levels: list[list[tuple[int, int]]] = [[] for _ in range(len(WARM) + 1)]
        """Heaps of last use and block id, coldest level first; entries that are out of date are passed over."""
        self._unused: dict[int, tuple[CachedBlock, int, int]] = {}
        """Block, level and last use by block id."""
        self._uses = 0

    def add(self, block: CachedBlock) -> None:
        """See `Eviction.add`."""
        self._uses += 1
        level = bisect_right(WARM, self._frequency.add(block.id))
        self._unused[block.id] = block, level, self._uses
        if not block.followers:
            self._push(level, self._uses, block.id)

    def discard(self, block: CachedBlock) -> None:
        """See `Eviction.discard`."""
        del self._unused[block.id]

    def pop(self) -> CachedBlock:
        """See `Eviction.pop`."""
        for heap in self._levels:
            while heap:
                last_use, block_id = heappop(heap)
                if self._is_current(last_use, block_id):
                    return self._unused.pop(block_id)[0]
        raise InternalError("cannot give a block up: no unused one ends a chain")

    def lost_follower(self, block: CachedBlock) -> None:
        """See `Eviction.lost_follower`."""
        found = self._unused.get(block.id)
        if found is not None:
            _, level, last_use = found
            self._push(level, last_use, block.id)

    def __len__(self) -> int:
        return len(self._unused)

    def _push(self, level: int, last_use: int, block_id: int) -> None:
        """A block ends a chain. Entries out of date never outnumber the others by much."""
        heap = self._levels[level]
        if len(heap) > 2 * len(self._unused) + STALE:
            heap[:] = [entry for entry in heap if self._is_current(*entry)]
            heapify(heap)
        heappush(heap, (last_use, block_id))

    def _is_current(self, last_use: int, block_id: int) -> bool:
        found = self._unused.get(block_id)
        return found is not None and found[2] == last_use


EVICTIONS: dict[str, Callable[[], Eviction]] = {
    "lineage": LineageEviction,
    "lru": LruEviction,
    "multi-lru": MultiLruEviction,
}


def make_eviction(name: str) -> Eviction:
    """A backend by its name. Raises `UsageError` for an unknown one."""
    if name not in EVICTIONS:
        raise UsageError(f"eviction backend {name!r} is none of {', '.join(EVICTIONS)}")
    return EVICTIONS[name]()
