"""What routers of one model tell each other about their placements. Prefixes need no telling: all hear the workers."""

from collections.abc import Callable

import msgspec

from appliance.core.identity import ModelName, RequestId, WorkerId


class BookingAdded(msgspec.Struct, frozen=True, tag="add", array_like=True):
    """A router has placed a stream."""

    router: str
    key: int
    """The router's own number of the booking."""
    model: ModelName
    prefill_pool: bool
    request: RequestId
    worker: WorkerId
    rank: int
    isl: int
    cached_tokens: int = 0
    booked: bool = False
    """False: only the stream counts, not its tokens and blocks."""
    hashes: list[int] = []
    """Sequence hashes of the prompt's complete blocks, where they may be shared."""
    own_blocks: int = 0
    """Blocks that are counted for this stream alone instead."""
    track_prefill: bool = True
    expected_output: int | None = None


class PrefillCompleted(msgspec.Struct, frozen=True, tag="prefill", array_like=True):
    """The first token of a stream is there."""

    router: str
    key: int
    model: ModelName
    prefill_pool: bool


class BookingFreed(msgspec.Struct, frozen=True, tag="free", array_like=True):
    """A stream has ended."""

    router: str
    key: int
    model: ModelName
    prefill_pool: bool


ReplicaEvent = BookingAdded | PrefillCompleted | BookingFreed
Report = Callable[[ReplicaEvent], None]
"""Takes an event to the other routers; called on the request path, so it must not wait."""
