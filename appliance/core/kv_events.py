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

TakeKvEvents = Callable[[int, list[KvEvent]], None]
"""Called on the trio thread with a data-parallel rank and its events, in the order in which they happened."""
