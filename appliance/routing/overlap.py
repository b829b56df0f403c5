"""How much of a prompt each holder has: the walk over the matching runs of a prefix index, tier by tier."""

from collections.abc import Iterable, Sequence
from itertools import compress

import msgspec

from appliance.core.kv_events import Tier
from appliance.routing.index_events import Holder
from appliance.routing.runs import Run, leading, members

Path = Sequence[tuple[Run, int]]
"""Runs from the root on, each with the number of its blocks that match; all but the last match as a whole."""
Scores = dict[Holder, int]

_BITS = bytes.maketrans(b"01", b"\x00\x01")
_FEW = 4


class Overlaps(msgspec.Struct, frozen=True):
    """Consecutive blocks from the first on, by holder; holders without any are absent."""

    device: Scores
    """Found in device memory alone."""
    host_pinned: Scores
    """The same, continued in host memory from where the device's blocks end. Never below `device`."""
    disk: Scores
    """The same, continued on disk from there. Never below `host_pinned`."""


NO_OVERLAPS = Overlaps({}, {}, {})
"""Nobody has anything. Never changed."""


def score(path: Path, names: Sequence[Holder]) -> Overlaps:
    """The overlap of every holder; `names` gives holders by their number."""
    if not path:
        return NO_OVERLAPS
    everyone = (1 << len(names)) - 1
    device, passed = _start(path, names, everyone)
    depths = max(len(run.covers) for run, _ in path)
    host, disk = device, device
    if depths > Tier.HOST_PINNED:
        host, passed = _continue(path, Tier.HOST_PINNED, names, everyone, device, passed)
        disk = host
    if depths > Tier.DISK:
        disk, _ = _continue(path, Tier.DISK, names, everyone, host, passed)
    return Overlaps(device, host, disk)


def shared_blocks(path: Path) -> int:
    """Consecutive blocks from the first on, each of which some holder has on disk."""
    depth = 0
    for run, count in path:
        cover = run.cover(Tier.DISK)
        if not cover.full:
            held = 0
            for blocks in cover.partial.values():
                held |= blocks
            end = leading(held)
            if end < count:
                return depth + end
        depth += count
    return depth


def _start(path: Path, names: Sequence[Holder], alive: int) -> tuple[Scores, list[int]]:
    """Scores of the first tier, and for each run those who get through it.

    What `_continue` would find with nothing before it, in half the time: this is all that most prompts need.
    """
    scores: Scores = {}
    passes = []
    depth = 0
    for run, count in path:
        cover = run.covers[Tier.DEVICE]
        through = alive & cover.full
        settled = 0
        for holder, blocks in cover.partial.items():
            if alive >> holder & 1:
                end = leading(blocks) if blocks & blocks + 1 else blocks.bit_length()
                if end >= count:
                    through |= 1 << holder
                elif end:
                    scores[names[holder]] = depth + end
                    settled += 1
        passes.append(through)
        ended = alive ^ through
        if ended and depth and ended.bit_count() != settled:
            for name in _select(names, ended):
                scores.setdefault(name, depth)
        alive = through
        depth += count
        if not alive:
            passes.extend([0] * (len(path) - len(passes)))
            return scores, passes
    scores.update(dict.fromkeys(_select(names, alive), depth))
    return scores, passes


def _continue(
    path: Path, tier: Tier, names: Sequence[Holder], alive: int, before: Scores, passed: Sequence[int]
) -> tuple[Scores, list[int]]:
    """Scores when the blocks of a tier continue those of the tiers before it.

    `before` and `passed` are the result for the tiers before it: scores, and for each run those who get through it.
    A holder leaves `alive` in the run where its blocks end.
    """
    scores = dict(before)
    passes = []
    depth = 0
    for (run, count), already in zip(path, passed, strict=True):
        cover = run.cover(tier)
        through = already | (alive & cover.full)
        ends = []
        for holder, blocks in cover.partial.items():
            if alive >> holder & 1 and not through >> holder & 1:
                start = max(0, before.get(names[holder], 0) - depth)
                end = start + leading(blocks >> start)
                if end >= count:
                    through |= 1 << holder
                elif end > start:
                    ends.append((names[holder], depth + end))
        ended = alive & ~through
        if ended and depth:
            _raise_to(scores, depth, _select(names, ended))
        scores.update(ends)
        passes.append(through)
        alive = through
        depth += count
        if not alive:
            break
    _raise_to(scores, depth, _select(names, alive))
    passes.extend([0] * (len(path) - len(passes)))
    return scores, passes


def _raise_to(scores: Scores, depth: int, holders: Iterable[Holder]) -> None:
    for holder in holders:
        if depth > scores.get(holder, 0):
            scores[holder] = depth


def _select(names: Sequence[Holder], holders: int) -> Iterable[Holder]:
    """The names of a set of holders."""
    if not holders & holders - 1:
        return (names[holders.bit_length() - 1],) if holders else ()
    if holders.bit_count() <= _FEW:
        return [names[holder] for holder in members(holders)]
    return compress(names, f"{holders:b}".encode().translate(_BITS)[::-1])
