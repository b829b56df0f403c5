"""What an engine says about its KV cache: blocks stored, blocks removed, everything cleared. One rank's view.

These values cross links, so they are positional and fields may only be added at the end. Forms of other systems (ZMQ
publishers, router dumps) are turned into these by the adapters that receive them.
"""

from collections.abc import Callable
from enum import IntEnum

import msgspec


class Tier(IntEnum):
    """Where a block is kept, the fastest place first. Storage outside the machine counts as disk."""

    DEVICE = 0
    HOST_PINNED = 1
    DISK = 2


class StoredBlocks(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """Blocks that can be reused from now on, each the successor of the one before; the first one follows `parent`."""

    block_ids: list[int]
    """The engine's own unsigned 64-bit names of the blocks."""
    local_hashes: list[int]
    """One per block: `routing.block_hash.local_hashes` of its tokens."""
    parent: int | None = None
    """Block id; None: the first block starts a prompt."""
    tier: Tier = Tier.DEVICE


class RemovedBlocks(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """Blocks that are gone from a tier."""

    block_ids: list[int]
    tier: Tier = Tier.DEVICE


class ClearedBlocks(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """Every block of every tier is gone, on all ranks of the worker."""


KvEvent = StoredBlocks | RemovedBlocks | ClearedBlocks


class ReplyForm(IntEnum):
    """What kind of answer a worker gives to a question about its cache."""

    TREE = 0
    """All that the rank holds, as events without ids; nothing that was known of it before counts any more."""
    EVENTS = 1
    """The events that were asked for."""
    TOO_NEW = 2
    """The first event that was asked for has not happened yet."""
    INVALID_RANGE = 3
    """No event ever has the id that was asked for."""


class KvReply(msgspec.Struct, array_like=True, frozen=True):
    """A piece of the answer to a question about one rank's cache; a long answer comes in several, in order."""

    form: ReplyForm
    newest_id: int
    """With `TREE`: the last event that the tree takes in. Else the newest event that there is; 0 before the first."""
    first_id: int = 0
    """With `EVENTS`: the id of the first event here."""
    events: list[KvEvent] = []
    last: bool = True
    """No other piece follows."""


TakeKvEvents = Callable[[int, list[KvEvent]], None]
"""Called on the trio thread with a data-parallel rank and its events, in the order in which they happened."""
