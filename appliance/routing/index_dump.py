"""Everything in a prefix index as events; an empty index that applies them answers as the first one does."""

from collections.abc import Iterator
from functools import partial
from itertools import count, groupby

from appliance.routing.block_hash import LocalHash
from appliance.routing.index_events import BlockId, BlocksRemoved, BlocksStored, Holder, IndexEvent, Tier
from appliance.routing.prefix_index import PrefixIndex
from appliance.routing.runs import Run, words


def dump(index: PrefixIndex) -> Iterator[IndexEvent]:
    """The events, holder by holder, parents before children. The index must not change meanwhile.

    A block that its holder has without having the one before it needs that one to be stored; it is, and removed last.
    """
    runs = list(index.runs())
    for holder, number in index.numbers().items():
        yield from _dump_holder(index, runs, holder, number)


def _dump_holder(index: PrefixIndex, runs: list[Run], holder: Holder, number: int) -> Iterator[IndexEvent]:
    needed = _needed(runs, number)
    runs = [run for run in runs if run.number in needed]
    names, gaps = _names(index, runs, needed, number)
    for run in runs:
        ids = names[run.number]
        before = None if run.parent is None else names[run.parent.number][-1]
        tiers = [run.cover(tier).held(number, run.whole) for tier in Tier]
        start = 0
        for held, group in groupby(range(len(ids)), partial(_tiers_at, tiers)):
            end = start + len(list(group))
            hashes = [LocalHash(value) for value in words(run.locals)[start:end]]
            for tier in held or [Tier.DEVICE]:
                yield BlocksStored(holder, ids[start:end], hashes, ids[start - 1] if start else before, tier)
            start = end
    if gaps:
        yield BlocksRemoved(holder, gaps)


def _names(
    index: PrefixIndex, runs: list[Run], needed: dict[int, int], number: int
) -> tuple[dict[int, list[BlockId]], list[BlockId]]:
    """What to call the needed blocks, by run number; and the names of those that the holder does not have."""
    names = {run.number: [index.id_of(number, run, at) for at in range(needed[run.number])] for run in runs}
    held = {run.number: run.held(number) for run in runs}
    used = {name for run, ids in names.items() for at, name in enumerate(ids) if held[run] >> at & 1}
    spare = (BlockId(value) for value in count() if value not in used)
    gaps = []
    for run, ids in names.items():
        for at, name in enumerate(ids):
            if not held[run] >> at & 1:
                # The holder may call another block as the index calls this one.
                ids[at] = name if name not in used else next(spare)
                used.add(ids[at])
                gaps.append(ids[at])
    return names, gaps


def _needed(runs: list[Run], number: int) -> dict[int, int]:
    """By run number, how many of its blocks come before or are the last one that a holder has on some path."""
    needed: dict[int, int] = {}
    for run in reversed(runs):
        blocks = max(run.held(number).bit_length(), needed.get(run.number, 0))
        if blocks:
            needed[run.number] = blocks
            if run.parent is not None:
                needed[run.parent.number] = run.parent.count
    return needed


def _tiers_at(tiers: list[int], at: int) -> list[Tier]:
    return [tier for tier, blocks in zip(Tier, tiers, strict=True) if blocks >> at & 1]
