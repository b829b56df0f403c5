"""A compact hash table from 64-bit block ids to small numbers: 8 bytes a slot, where a dict takes about 90.

It keeps 40 bits of each id, so it may give a wrong number besides the right one; the caller can tell them apart.
"""

from array import array
from collections.abc import Iterable

# Many small tables, so that growing one takes a fraction of a millisecond however many blocks there are.
_SHARDS = 256
_FIRST_SLOTS = 16
_FIRST_SHIFT = 28
_MULTIPLIER = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: spreads ids that only count upwards
_WORD = 2**64 - 1
_HALF = 2**32 - 1
_FREED = 1


class BlockTable:
    """Open addressing with linear probing. Numbers are from 2 to 2**32 - 1; an id may have several."""

    def __init__(self) -> None:
        self._slots = [array("Q", bytes(8 * _FIRST_SLOTS)) for _ in range(_SHARDS)]
        self._shifts = [_FIRST_SHIFT] * _SHARDS
        self._used = [0] * _SHARDS
        """Slots that are not empty, freed ones included."""

    def find(self, block_id: int) -> list[int]:
        """The numbers that may belong to an id."""
        mixed = block_id * _MULTIPLIER & _WORD
        shard = mixed >> 56
        print_ = mixed >> 24 & _HALF
        slots = self._slots[shard]
        mask = len(slots) - 1
        at = print_ >> self._shifts[shard]
        found = []
        while entry := slots[at]:
            if entry >> 32 == print_ and entry != _FREED:
                found.append(entry & _HALF)
            at = at + 1 & mask
        return found

    def add(self, block_ids: Iterable[int], number: int) -> list[int]:
        """Give ids a number. Leaves out those that may have one already and gives back their positions."""
        left_out = []
        for position, block_id in enumerate(block_ids):
            mixed = block_id * _MULTIPLIER & _WORD
            shard = mixed >> 56
            print_ = mixed >> 24 & _HALF
            slots = self._slots[shard]
            mask = len(slots) - 1
            at = print_ >> self._shifts[shard]
            while entry := slots[at]:
                if entry >> 32 == print_ and entry != _FREED:
                    left_out.append(position)
                    break
                at = at + 1 & mask
            else:
                slots[at] = print_ << 32 | number
                self._count_one(shard)
        return left_out

    def add_anyway(self, block_id: int, number: int) -> None:
        """Give an id a number, whatever numbers look like its own."""
        at, shard = self._probe(block_id, 0)
        self._slots[shard][at] = (block_id * _MULTIPLIER >> 24 & _HALF) << 32 | number
        self._count_one(shard)

    def move(self, block_ids: Iterable[int], old: int, new: int) -> None:
        """Replace the number of ids that have it."""
        for block_id in block_ids:
            at, shard = self._probe(block_id, old)
            self._slots[shard][at] += new - old

    def discard(self, block_ids: Iterable[int], number: int) -> None:
        """Take the number away from ids that have it."""
        for block_id in block_ids:
            at, shard = self._probe(block_id, number)
            self._slots[shard][at] = _FREED

    def _probe(self, block_id: int, number: int) -> tuple[int, int]:
        """The slot and shard of an id with this number, or the first empty slot for number zero."""
        mixed = block_id * _MULTIPLIER & _WORD
        shard = mixed >> 56
        print_ = mixed >> 24 & _HALF
        wanted = print_ << 32 | number if number else 0
        slots = self._slots[shard]
        mask = len(slots) - 1
        at = print_ >> self._shifts[shard]
        while slots[at] != wanted:
            at = at + 1 & mask
        return at, shard

    def _count_one(self, shard: int) -> None:
        self._used[shard] += 1
        if self._used[shard] * 10 > len(self._slots[shard]) * 7:
            self._rebuild(shard)

    def _rebuild(self, shard: int) -> None:
        """Drop the freed slots, and take more or fewer, so that between a quarter and half of them is in use."""
        live = [entry for entry in self._slots[shard] if entry > _FREED]
        bits = max(4, (2 * len(live)).bit_length())
        slots = array("Q", bytes(8 << bits))
        shift, mask = 32 - bits, (1 << bits) - 1
        for entry in live:
            at = entry >> 32 + shift
            while slots[at]:
                at = at + 1 & mask
            slots[at] = entry
        self._slots[shard], self._shifts[shard], self._used[shard] = slots, shift, len(live)
