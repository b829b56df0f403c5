"""What holders call their blocks: from a block id to the place in the prefix index, and back.

Workers should give the same block the same id. The first one reported becomes the block's id in the index and costs
its holders nothing; only a holder that calls it otherwise needs an alias of its own.
"""

from collections.abc import Iterator
from operator import index as to_int
from struct import Struct

from appliance.routing.block_table import BlockTable
from appliance.routing.runs import BLOCK_BYTES, Run, words

Place = tuple[Run, int]
"""A run and a position in it."""

_PACK = Struct("=Q").pack
_FIRST_NUMBER = 2
_STEP = 0xD1B54A32D192ED03  # odd, so that made-up ids repeat only after 2**64 of them
_WORD = 2**64 - 1


class _Aliases:
    """The ids of one holder that are not those of the index."""

    def __init__(self) -> None:
        self.to_index: dict[int, int] = {}
        self.from_index: dict[int, int] = {}

    def put(self, own: int, index: int) -> None:
        self.drop(index)
        self.to_index[own] = index
        self.from_index[index] = own

    def drop(self, index: int) -> None:
        own = self.from_index.pop(index, None)
        if own is not None:
            del self.to_index[own]


class BlockIds:
    """All runs of an index, and the ids of their blocks by holder."""

    def __init__(self) -> None:
        self._table = BlockTable()
        self._runs: list[Run | None] = [None] * _FIRST_NUMBER
        self._free: list[int] = []
        self._aliases: dict[int, _Aliases] = {}
        self._made_up = 0

    def runs(self) -> Iterator[Run]:
        """Every run with blocks, in no order."""
        return (run for run in self._runs if run is not None)

    def locate(self, holder: int, own_id: int) -> Place | None:
        """The block that a holder has in some tier and calls so."""
        if not 0 <= to_int(own_id) <= _WORD:  # a float may be equal to an id and is none
            return None
        aliases = self._aliases.get(holder)
        block_id = own_id
        if aliases is not None:
            if own_id in aliases.to_index:
                block_id = aliases.to_index[own_id]
            elif own_id in aliases.from_index:
                return None
        place = self._place(block_id)
        if place is None or not place[0].held(holder) >> place[1] & 1:
            return None
        return place

    def names(self, holder: int, run: Run, count: int) -> list[int]:
        """What a holder calls the first blocks of a run; what the index calls those that the holder does not have."""
        ids = words(run.ids[: count * BLOCK_BYTES]).tolist()
        aliases = self._aliases.get(holder)
        return ids if aliases is None else [aliases.from_index.get(block_id, block_id) for block_id in ids]

    def claim(self, holder: int, run: Run, at: int, ids: bytes) -> dict[Place, bool]:
        """A holder calls the blocks from a position on by these ids. Gives back blocks that it had called so before.

        The caller has to forget those. True marks the ones that are stored anew by the same call, under another id.
        """
        known = run.ids[at * BLOCK_BYTES : at * BLOCK_BYTES + len(ids)]
        if known == ids and holder not in self._aliases:
            return {}
        aliases = self._aliases.setdefault(holder, _Aliases())
        given_up: dict[Place, bool] = {}
        end = at + len(ids) // BLOCK_BYTES
        for position, (own_id, block_id) in enumerate(zip(words(ids), words(known), strict=True), at):
            old = self.locate(holder, own_id)
            if old is not None and old != (run, position):
                aliases.drop(_id_at(*old))
                given_up[old] = old[0] is run and position < old[1] < end
            if own_id == block_id:
                aliases.drop(block_id)
            else:
                aliases.put(own_id, block_id)
        if not aliases.to_index:
            del self._aliases[holder]
        return given_up

    def forget(self, holder: int, run: Run, at: int) -> None:
        """A holder no longer has a block."""
        aliases = self._aliases.get(holder)
        if aliases is not None:
            aliases.drop(_id_at(run, at))
            if not aliases.to_index:
                del self._aliases[holder]

    def forget_holder(self, holder: int) -> None:
        """A holder no longer has any block."""
        self._aliases.pop(holder, None)

    def new_run(self, parent: Run | None) -> Run:
        """A run without blocks."""
        number = self._free.pop() if self._free else len(self._runs)
        run = Run(number, parent, b"", b"")
        if number == len(self._runs):
            self._runs.append(run)
        else:
            self._runs[number] = run
        return run

    def extend(self, run: Run, ids: bytes) -> None:
        """New blocks at the end of a run take these ids, or made-up ones where another block has the id."""
        old = len(run.ids) // BLOCK_BYTES
        run.ids += ids
        added = words(ids)
        for position in self._table.add(added, run.number):
            block_id = added[position]
            if self._is_taken(block_id, run, old + position):
                block_id = self._make_up()
                cut = (old + position) * BLOCK_BYTES
                run.ids = run.ids[:cut] + _PACK(block_id) + run.ids[cut + BLOCK_BYTES :]
            self._table.add_anyway(block_id, run.number)

    def split(self, run: Run, at: int) -> Run:
        """Move the ids from a position on to a new run, which is given back."""
        cut = at * BLOCK_BYTES
        tail = self.new_run(run)
        tail.ids, run.ids = run.ids[cut:], run.ids[:cut]
        self._table.move(words(tail.ids), run.number, tail.number)
        return tail

    def cut(self, run: Run, count: int) -> None:
        """Drop the ids after the first `count`; a run without ids is no more."""
        cut = count * BLOCK_BYTES
        self._table.discard(words(run.ids[cut:]), run.number)
        run.ids = run.ids[:cut]
        if not count:
            self._runs[run.number] = None
            self._free.append(run.number)

    def _is_taken(self, block_id: int, run: Run, at: int) -> bool:
        """Whether an id is that of a block other than this one."""
        packed = _PACK(block_id)
        found = [(number, self._run(number).position(packed)) for number in self._table.find(block_id)]
        return any(place != (run.number, at) and place[1] >= 0 for place in found)

    def _place(self, block_id: int) -> Place | None:
        packed = None
        for number in self._table.find(block_id):
            packed = packed or _PACK(block_id)
            run = self._run(number)
            at = run.position(packed)
            if at >= 0:
                return run, at
        return None

    def _run(self, number: int) -> Run:
        run = self._runs[number]
        assert run is not None
        return run

    def _make_up(self) -> int:
        while True:
            self._made_up = self._made_up + _STEP & _WORD
            if self._place(self._made_up) is None:
                return self._made_up


def _id_at(run: Run, at: int) -> int:
    return words(run.ids[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES])[0]
