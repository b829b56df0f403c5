"""What workers say about their caches, as the prefix index takes it: blocks stored, blocks removed, all cleared.

The forms in which engines and other routers send these belong to the adapters that receive them.
"""

from enum import Enum, IntEnum
from typing import NamedTuple, NewType

import msgspec

from appliance.core.identity import WorkerId
from appliance.routing.block_hash import LocalHash

BlockId = NewType("BlockId", int)
"""A worker's own unsigned 64-bit name of a block it holds; says nothing about the content."""


class Tier(IntEnum):
    """Where a worker keeps a block, the fastest place first. Storage outside the machine counts as disk."""

    DEVICE = 0
    HOST_PINNED = 1
    DISK = 2


class Holder(NamedTuple):
    """One cache: a worker and its data-parallel rank."""

    worker: WorkerId
    rank: int = 0


class BlocksStored(msgspec.Struct, frozen=True, tag="stored"):
    """A holder now has these blocks, each the successor of the one before; the first one follows `parent`."""

    holder: Holder
    block_ids: list[BlockId]
    local_hashes: list[LocalHash]
    parent: BlockId | None = None
    """None: the first block starts a prompt."""
    tier: Tier = Tier.DEVICE


class BlocksRemoved(msgspec.Struct, frozen=True, tag="removed"):
    """A holder no longer has these blocks in this tier."""

    holder: Holder
    block_ids: list[BlockId]
    tier: Tier = Tier.DEVICE


class WorkerCleared(msgspec.Struct, frozen=True, tag="cleared"):
    """A worker has dropped everything: all tiers, and all ranks unless one is named."""

    worker: WorkerId
    rank: int | None = None


IndexEvent = BlocksStored | BlocksRemoved | WorkerCleared


class Outcome(Enum):
    """What became of an event; the values are those of the metric that counts applied events."""

    APPLIED = "ok"
    PARENT_UNKNOWN = "parent_block_not_found"
    """The holder does not have the block that the new ones were to follow; nothing was stored."""
    BLOCK_UNKNOWN = "block_not_found"
    """The holder does not have some of the blocks; the others were removed."""
