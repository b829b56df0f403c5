"""Router events: the JSON form in which routers and indexers of other makes tell each other what a worker holds.

Read and written for dumps; the numbers that order live events are not used.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.core.identity import WorkerId
from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks, Tier
from appliance.routing.index_events import Holder

TIERS: dict[str, Tier] = {
    "device": Tier.DEVICE,
    "host_pinned": Tier.HOST_PINNED,
    "disk": Tier.DISK,
    "external": Tier.DISK,
}
_NAMES = {Tier.DEVICE: "device", Tier.HOST_PINNED: "host_pinned", Tier.DISK: "disk"}
_U64_END = 2**64

Natural = Annotated[int, msgspec.Meta(ge=0)]


class Block(msgspec.Struct, frozen=True):
    """One block: the worker's name of it and the hash of its tokens."""

    block_hash: Natural
    tokens_hash: Natural
    mm_extra_info: Any = None


class Stored(msgspec.Struct, frozen=True):
    """Blocks that follow a parent, or begin a prompt."""

    parent_hash: Natural | None
    blocks: list[Block]
    start_position: int | None = None


class Removed(msgspec.Struct, frozen=True):
    """Blocks that are gone."""

    block_hashes: list[Natural]


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Exactly one of both."""

    stored: Stored | None = None
    removed: Removed | None = None


class Event(msgspec.Struct, frozen=True):
    """One event of one rank."""

    event_id: Natural
    dp_rank: Natural
    data: Change | Literal["cleared"]


class RouterEvent(msgspec.Struct, frozen=True):
    """An event, whose it is, and the tier it is about."""

    worker_id: Natural
    event: Event
    storage_tier: str = "device"


def write_router_events(events: Iterable[tuple[Holder, KvEvent]]) -> Iterator[RouterEvent]:
    """Router events with fresh numbers from 0; the ids of the workers must be numbers."""
    for number, (holder, event) in enumerate(events):
        tier, data = _write(event)
        yield RouterEvent(int(holder.worker), Event(number, holder.rank, data), _NAMES[tier])


def read_router_event(event: RouterEvent) -> tuple[Holder, KvEvent]:
    """What a router event says. Raises `InvalidRequest` for one that says nothing, and for numbers over 64 bits."""
    holder = Holder(WorkerId(str(event.worker_id)), event.event.dp_rank)
    data = event.event.data
    tier = TIERS.get(event.storage_tier, Tier.DEVICE)
    if isinstance(data, str):
        return holder, ClearedBlocks()
    if (data.stored is None) == (data.removed is None):
        raise InvalidRequest("cannot read a router event that is not exactly one of stored and removed")
    if data.removed is not None:
        return holder, RemovedBlocks(_checked(data.removed.block_hashes), tier)
    assert data.stored is not None
    blocks, parent = data.stored.blocks, data.stored.parent_hash
    ids = _checked([block.block_hash for block in blocks])
    hashes = _checked([block.tokens_hash for block in blocks])
    return holder, StoredBlocks(ids, hashes, None if parent is None else _checked([parent])[0], tier)


def _write(event: KvEvent) -> tuple[Tier, Change | Literal["cleared"]]:
    match event:
        case StoredBlocks():
            blocks = [Block(name, tokens) for name, tokens in zip(event.block_ids, event.local_hashes, strict=True)]
            return event.tier, Change(stored=Stored(event.parent, blocks))
        case RemovedBlocks():
            return event.tier, Change(removed=Removed(event.block_ids))
        case ClearedBlocks():
            return Tier.DEVICE, "cleared"


def _checked(numbers: list[int]) -> list[int]:
    if any(number >= _U64_END for number in numbers):
        raise InvalidRequest("cannot read a block hash that is no unsigned 64-bit number")
    return numbers
