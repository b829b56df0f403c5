"""The nodes of the prefix index: runs of blocks that follow each other without a branch, and who holds which of them.

Sets of holders are integers with a bit per holder, sets of blocks in a run integers with a bit per block.
"""

from array import array
from collections.abc import Iterator, Mapping
from types import MappingProxyType

MAX_BLOCKS = 128
"""Longest run; bounds what splitting one or removing a single block costs."""
BLOCK_BYTES = 8


class Cover:
    """Which blocks of one run are held in one tier."""

    __slots__ = ("full", "partial")

    def __init__(self) -> None:
        self.full = 0
        """Holders of the whole run."""
        self.partial: dict[int, int] = {}
        """Blocks of each holder that has some of the run, but not all."""

    def held(self, holder: int, whole: int) -> int:
        """The blocks that a holder has; `whole` stands for all blocks of the run."""
        return whole if self.full >> holder & 1 else self.partial.get(holder, 0)

    def assign(self, holder: int, blocks: int, whole: int) -> None:
        """Make these the blocks that a holder has."""
        if blocks == whole:
            self.full |= 1 << holder
            self.partial.pop(holder, None)
            return
        if self.full >> holder & 1:
            self.full ^= 1 << holder
        if blocks:
            self.partial[holder] = blocks
        else:
            self.partial.pop(holder, None)

    def grow(self, old: int) -> None:
        """The run has more blocks at its end; `old` stands for all that it had. Nobody has all of them yet."""
        for holder in members(self.full):
            self.partial[holder] = old
        self.full = 0

    def shrink(self, whole: int) -> None:
        """The run has lost blocks at its end that nobody had; `whole` stands for the ones it keeps."""
        for holder, blocks in list(self.partial.items()):
            self.assign(holder, blocks, whole)

    def split(self, count: int, old_count: int) -> "Cover":
        """Keep the first `count` of `old_count` blocks and give away the others."""
        head, rest = (1 << count) - 1, (1 << old_count - count) - 1
        tail = Cover()
        tail.full = self.full
        for holder, blocks in list(self.partial.items()):
            tail.assign(holder, blocks >> count, rest)
            self.assign(holder, blocks & head, head)
        return tail


NOTHING = Cover()
"""Stands for the tiers in which nobody holds a block of a run. Never changed."""


_NO_CHILDREN: "Mapping[bytes, Run]" = MappingProxyType({})  # shared, because most runs are the end of a prompt


class Run:
    """Blocks that follow each other. Only the last one may have several successors, in `children`."""

    __slots__ = ("children", "covers", "ids", "locals", "number", "parent")

    def __init__(self, number: int, parent: "Run | None", local_hashes: bytes, ids: bytes) -> None:
        self.number = number
        self.parent = parent
        self.locals = local_hashes
        """Local hashes of the blocks, native 64-bit words."""
        self.ids = ids
        """The index's ids of the blocks, likewise; they are what most workers call them."""
        self.children: Mapping[bytes, Run] = _NO_CHILDREN
        """By the local hash of the first block."""
        self.covers: tuple[Cover, ...] = (Cover(),)
        """By tier, only as far as needed."""

    @property
    def count(self) -> int:
        return len(self.locals) // BLOCK_BYTES

    @property
    def whole(self) -> int:
        """All blocks as a set."""
        return (1 << len(self.locals) // BLOCK_BYTES) - 1

    def cover(self, tier: int) -> Cover:
        """Who holds what in a tier, to read only."""
        covers = self.covers
        return covers[tier] if tier < len(covers) else NOTHING

    def own_cover(self, tier: int) -> Cover:
        """Who holds what in a tier, to change."""
        while len(self.covers) <= tier:
            self.covers = (*self.covers, Cover())
        return self.covers[tier]

    def add_child(self, first: bytes, child: "Run") -> None:
        """Another run follows, whose first block has this local hash."""
        if isinstance(self.children, dict):
            self.children[first] = child
        else:
            self.children = {first: child}

    def drop_child(self, first: bytes) -> None:
        """The run that starts with this local hash is no more."""
        assert isinstance(self.children, dict)
        del self.children[first]
        if not self.children:
            self.children = _NO_CHILDREN

    def held(self, holder: int) -> int:
        """The blocks that a holder has in any tier."""
        whole = self.whole
        blocks = 0
        for cover in self.covers:
            blocks |= cover.held(holder, whole)
        return blocks

    def position(self, block_id: bytes) -> int:
        """Where in the run the block with this id is, -1 if nowhere."""
        at = self.ids.find(block_id)
        while at > 0 and at % BLOCK_BYTES:  # the bytes of two neighbours may look like the id
            at = self.ids.find(block_id, at + 1)
        return at // BLOCK_BYTES if at >= 0 else -1

    def used(self) -> int:
        """Blocks up to the last one that anybody holds."""
        if any(cover.full for cover in self.covers):
            return self.count
        return max((blocks.bit_length() for cover in self.covers for blocks in cover.partial.values()), default=0)


def members(holders: int) -> Iterator[int]:
    """The holders in a set."""
    while holders:
        lowest = holders & -holders
        yield lowest.bit_length() - 1
        holders ^= lowest


def words(packed: bytes) -> "array[int]":
    """The 64-bit numbers in some bytes."""
    return array("Q", packed)


def leading(blocks: int) -> int:
    """How many blocks of a set follow each other from the first on."""
    missing = ~blocks
    return (missing & -missing).bit_length() - 1


def common_blocks(one: bytes, other: bytes) -> int:
    """How many blocks two rows of local hashes have in common at their start."""
    size = min(len(one), len(other))
    difference = int.from_bytes(one[:size], "little") ^ int.from_bytes(other[:size], "little")
    if not difference:
        return size // BLOCK_BYTES
    return ((difference & -difference).bit_length() - 1) // (8 * BLOCK_BYTES)
