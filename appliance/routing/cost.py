"""What it costs to place a prompt on each of several slots: prefill to do, less what is cached, plus blocks in use."""

import math
from collections.abc import Mapping, Sequence
from random import Random

import msgspec

from appliance.routing.index_events import Holder
from appliance.routing.overlap import NO_OVERLAPS, Overlaps
from appliance.routing.slots import Slot
from appliance.routing.weights import Weights

_NOBODY: Mapping[Holder, float] = {}


class Prompt(msgspec.Struct):
    """What the cost function needs to know of a request's prompt."""

    isl: int
    """Tokens."""
    blocks: int
    """Complete blocks."""
    hashes: Sequence[int] = ()
    """Sequence hashes of the complete blocks; empty when blocks are not shared."""
    overlaps: Overlaps = NO_OVERLAPS
    shared_blocks: int = 0
    """Blocks from the first on in a cache that every worker reads."""


class Scores(msgspec.Struct):
    """The parts of the costs, slot by slot."""

    costs: list[float]
    prefill_tokens: list[int]
    """Tokens to compute before this request."""
    decode_blocks: list[int]
    """Blocks in use with this request."""


def credits(prompt: Prompt, weights: Weights) -> Mapping[Holder, float]:
    """Prefill blocks that each holder saves, over all tiers; holders that save none may be absent."""
    overlaps = prompt.overlaps
    device, host, disk = overlaps.device, overlaps.host_pinned, overlaps.disk
    first = weights.overlap_credit
    if disk is device:
        return device if first == 1.0 else {holder: first * blocks for holder, blocks in device.items()}
    return {
        holder: first * device.get(holder, 0)
        + weights.host_credit * (host.get(holder, 0) - device.get(holder, 0))
        + weights.disk_credit * (blocks - host.get(holder, 0))
        for holder, blocks in disk.items()
    }


def score(
    slots: Sequence[Slot], prompt: Prompt, weights: Weights, block_size: int, now: float, changing: bool = True
) -> Scores:
    """The cost of every slot, in blocks. Without `changing`, loads only change by bookings, which is faster to read."""
    blocks = prompt.blocks if weights.track_active_blocks else 0
    hashes = prompt.hashes
    first = hashes[0] if hashes else None
    scale, isl = weights.prefill_scale, prompt.isl
    per_token = scale / block_size
    alone = isl * per_token
    tracked = weights.track_prefill_tokens
    known = tracked and (prompt.shared_blocks or prompt.overlaps.disk)
    saved = _saved(slots, prompt, weights) if known else _NOBODY
    costs: list[float] = []
    prefills: list[int] = []
    decodes: list[int] = []
    for slot in slots:  # one loop over all parts, because this is done for every slot and request
        load = slot.load
        if changing:
            tokens, decode = load.prefill_at(now), load.blocks_now() + blocks
        else:
            tokens, decode = load.prefill_tokens, load.decode_blocks + blocks
        if first in load.starts:
            decode -= load.shared_blocks(hashes)
        prefills.append(tokens)
        decodes.append(decode)
        if tracked:
            cost = (tokens + isl) * per_token if tokens else alone
            if saved:
                cost -= scale * saved.get(slot.holder, 0.0)
            costs.append(cost + decode if cost > 0.0 else float(decode))
    if not tracked:
        costs = [float(decode) for decode in decodes]
    return Scores(costs, prefills, decodes)


def prefer(costs: Sequence[float], slots: Sequence[Slot], preferred: Mapping[str, float]) -> list[float]:
    """The costs, lower for slots with preferred taints: times e to the minus tanh of the sum of their weights."""
    return [
        cost * math.exp(-math.tanh(sum(preferred.get(taint, 0.0) for taint in slot.card.taints)))
        for cost, slot in zip(costs, slots, strict=True)
    ]


def choose(costs: Sequence[float], temperature: float, random: Random) -> int:
    """The number of the cheapest, any of the cheapest with equal chance; with a temperature others at times too."""
    lowest = min(costs)
    if temperature > 0:
        spread = max(costs) - lowest
        if spread == 0:
            return int(random.random() * len(costs))
        # The lowest cost's exponent is 0, so nothing overflows and the sum is at least 1.
        chances = [math.exp((lowest - cost) / (spread * temperature)) for cost in costs]
        return random.choices(range(len(costs)), chances)[0]
    chosen = costs.index(lowest)
    equal = costs.count(lowest)
    if equal > 1:
        passed_over = random.random() * equal
        while passed_over >= 1:
            chosen = costs.index(lowest, chosen + 1)
            passed_over -= 1
    return chosen


def cached_tokens(holder: Holder, prompt: Prompt, weights: Weights, block_size: int) -> int:
    """Tokens of the prompt that a holder need not compute; slower tiers and a shared cache count by their weights."""
    overlaps = prompt.overlaps
    device = overlaps.device.get(holder, 0)
    blocks: float = device
    if overlaps.disk is not overlaps.device:
        host = overlaps.host_pinned.get(holder, 0)
        blocks += weights.host_credit * (host - device) + weights.disk_credit * (overlaps.disk.get(holder, 0) - host)
    if prompt.shared_blocks > device:
        blocks += weights.shared_credit * (prompt.shared_blocks - device)
    return min(prompt.isl, int(blocks * block_size))


def _saved(slots: Sequence[Slot], prompt: Prompt, weights: Weights) -> Mapping[Holder, float]:
    if prompt.shared_blocks and weights.shared_credit:
        own = credits(prompt, weights)
        beyond = weights.shared_credit
        device = prompt.overlaps.device
        return {
            slot.holder: own.get(slot.holder, 0.0) + beyond * max(0, prompt.shared_blocks - device.get(slot.holder, 0))
            for slot in slots
        }
    return credits(prompt, weights) if prompt.overlaps.disk else _NOBODY
