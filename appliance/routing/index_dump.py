"""Everything in an index of runs as events."""

from collections.abc import Iterator
from functools import partial
from itertools import count, groupby
from typing import TYPE_CHECKING

from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.routing.index_events import Holder
from appliance.routing.runs import Run, words

if TYPE_CHECKING:
    from appliance.routing.run_index import RunIndex


def dump(index: "RunIndex") -> Iterator[tuple[Holder, KvEvent]]:
    """The events, as `PrefixIndex.dump` describes them."""
    runs = list(index.runs())
    for holder, number in index.numbers().items():
        for event in _dump_holder(index, runs, number):
            yield holder, event


def _dump_holder(index: "RunIndex", runs: list[Run], number: int) -> Iterator[KvEvent]:
    needed = _needed(runs, number)
    runs = [run for run in runs if run.number in needed]
    names, gaps = _names(index, runs, needed, number)
    for run in runs:
        ids = names[run.number]
        before = None if run.parent is None else names[run.parent.number][-1]
        tiers = [run.cover(tier).held(number, run.whole) for tier in Tier]
        hashes = words(run.locals).tolist()
        for start, end, held in _stretches(tiers, len(ids)):
            for tier in held or [Tier.DEVICE]:
                yield StoredBlocks(ids[start:end], hashes[start:end], ids[start - 1] if start else before, tier)
    if gaps:
        yield RemovedBlocks(gaps)


def _names(
    index: "RunIndex", runs: list[Run], needed: dict[int, int], number: int
) -> tuple[dict[int, list[int]], list[int]]:
    """What to call the needed blocks, by run number; and the names of those that the holder does not have."""
    names = {run.number: index.ids_of(number, run, needed[run.number]) for run in runs}
    held = {run.number: run.held(number) for run in runs}
    if all(held[run] == (1 << len(ids)) - 1 for run, ids in names.items()):
        return names, []
    used = {name for run, ids in names.items() for at, name in enumerate(ids) if held[run] >> at & 1}
    spare = (value for value in count() if value not in used)
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


def _stretches(tiers: list[int], count: int) -> Iterator[tuple[int, int, list[Tier]]]:
    """Positions of the first blocks of a run in stretches that are in the same tiers, from and to, and those tiers."""
    if all(blocks in (0, (1 << count) - 1) for blocks in tiers):
        yield 0, count, _tiers_at(tiers, 0)
        return
    start = 0
    for held, group in groupby(range(count), partial(_tiers_at, tiers)):
        end = start + len(list(group))
        yield start, end, held
        start = end


def _tiers_at(tiers: list[int], at: int) -> list[Tier]:
    return [tier for tier, blocks in zip(Tier, tiers, strict=True) if blocks >> at & 1]
