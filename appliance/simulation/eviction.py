"""Which of the blocks that nobody uses is given up first.

Every backend keeps a chain whole from its start: a block goes before the block that it follows.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from appliance.core.errors import UsageError


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


EVICTIONS: dict[str, Callable[[], Eviction]] = {"lineage": LineageEviction, "lru": LruEviction}


def make_eviction(name: str) -> Eviction:
    """A backend by its name. Raises `UsageError` for an unknown one."""
    if name not in EVICTIONS:
        raise UsageError(f"eviction backend {name!r} is none of {', '.join(EVICTIONS)}")
    return EVICTIONS[name]()
