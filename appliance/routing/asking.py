"""What the router is asked, and what it answers: the request, the request while it waits, and the grant."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from appliance.core.errors import ApplianceError
from appliance.core.generation import NO_HINTS, NO_PINS, Pins, RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.routing.block_hash import LocalHash, SequenceHash
from appliance.routing.cost import Prompt
from appliance.routing.slots import Slot
from appliance.routing.weights import Role, Weights


class RoutingRequest(msgspec.Struct, kw_only=True):
    """One stream that wants a place."""

    id: RequestId
    model: ModelName
    token_ids: Sequence[int] = ()
    """The prompt; empty when it is not tokenized here. Then prefixes do not count."""
    lora: str = ""
    """Adapter whose blocks these are; empty: that of the model's card."""
    media: Mapping[int, Iterable[int]] | None = None
    """Hashes of images and the like by block number, where the prompt has any."""
    pins: Pins = NO_PINS
    avoid: Collection[WorkerId] = ()
    """Workers that just failed this request; they are taken only when there is no other."""
    hints: RoutingHints = NO_HINTS
    role: Role = "aggregated"
    """A prefill goes to the model's prefill workers, everything else to the others."""
    spares_decode: bool = False
    """Decode workers will not do. The router says so of whole requests, for `enforce_disagg`."""
    remember: bool | None = None
    """Whether a guessing index takes the placement as cached; None: when the stream is placed, not only asked about."""
    shared_blocks: int = 0
    """Blocks of the prompt, from the first on, that a cache shared by all workers has."""

    @property
    def pinned(self) -> int | None:
        """Instance number of the only worker that will do."""
        return self.pins.prefill if self.role == "prefill" else self.pins.worker

    @property
    def pinned_rank(self) -> int | None:
        return self.pins.prefill_dp_rank if self.role == "prefill" else self.pins.dp_rank


class Ask(msgspec.Struct, eq=False):
    """A request on its way through a scheduler."""

    request: RoutingRequest
    prompt: Prompt
    weights: Weights
    arrived: float
    local: Sequence[LocalHash] = ()
    sequence: Sequence[SequenceHash] = ()
    waiting: bool = False
    outcome: "Grant | ApplianceError | None" = None
    """What became of it; None while it waits."""


class Grant(msgspec.Struct, eq=False):
    """A place for one stream. It counts as load until the scheduler is told that the stream has ended."""

    request: RoutingRequest
    slot: Slot
    candidates: int
    key: int
    granted_at: float
    isl: int
    isl_blocks: int = 0
    overlap_blocks: int = 0
    """Blocks of the prompt in the slot's device memory."""
    cached_tokens: int = 0
    """Tokens that need not be computed, slower tiers counted by their weights."""
    waited_s: float = 0.0
    counted: bool = False
    """The stream counts as load; not so when only the choice was wanted."""
    booked: bool = False
    """Its tokens and blocks are counted, not only the stream."""
    in_prefill: bool = False
    session: bool = False
    ended: bool = False
