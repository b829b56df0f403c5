"""Whose cache an event speaks of, and what became of it. The events themselves are those of `core.kv_events`."""

from enum import Enum
from typing import NamedTuple, NewType

from appliance.core.identity import WorkerId

BlockId = NewType("BlockId", int)
"""A worker's own unsigned 64-bit name of a block it holds; says nothing about the content."""


class Holder(NamedTuple):
    """One cache: a worker and its data-parallel rank."""

    worker: WorkerId
    rank: int = 0


class Outcome(Enum):
    """What became of an event; the values are those of the metric that counts applied events."""

    APPLIED = "ok"
    PARENT_UNKNOWN = "parent_block_not_found"
    """The holder does not have the block that the new ones were to follow; nothing was stored."""
    BLOCK_UNKNOWN = "block_not_found"
    """The holder does not have some of the blocks; the others were removed."""
