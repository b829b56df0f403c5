"""Bodies of the selection service's HTTP interface."""

from typing import Annotated

import msgspec

from appliance.core.errors import Unprocessable
from appliance.core.generation import RouterOverrides
from appliance.roles.indexer.registry import ModelKey

Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
_U64_END = 2**64
_I64_END = 2**63


class Worker(msgspec.Struct, kw_only=True, frozen=True):
    """POST /workers, and a row of GET /workers."""

    worker_id: Natural
    model_name: str = "default"
    routing_group: str = "default"
    endpoint: str = ""
    """Where the caller finds it; handed back as it is."""
    block_size: Positive
    data_parallel_start_rank: Natural = 0
    data_parallel_size: Positive = 1
    kv_events_endpoints: dict[str, str] = {}
    """ZMQ publisher by rank; without any, the cache is guessed from reservations."""
    replay_endpoint: str | None = None
    """Of the first rank; following ranks have the following ports."""
    total_kv_blocks: Natural = 0
    max_num_batched_tokens: Natural = 0
    taints: tuple[str, ...] = ()

    @property
    def key(self) -> ModelKey:
        """The group it belongs to."""
        return ModelKey(self.model_name, self.routing_group)

    @property
    def ranks(self) -> range:
        """Its data-parallel ranks."""
        return range(self.data_parallel_start_rank, self.data_parallel_start_rank + self.data_parallel_size)


class WorkerChange(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """PATCH /workers/ID: what is absent stays."""

    endpoint: str | msgspec.UnsetType = msgspec.UNSET
    data_parallel_start_rank: Natural | msgspec.UnsetType = msgspec.UNSET
    data_parallel_size: Positive | msgspec.UnsetType = msgspec.UNSET
    kv_events_endpoints: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    replay_endpoint: str | msgspec.UnsetType | None = msgspec.UNSET
    total_kv_blocks: Natural | msgspec.UnsetType = msgspec.UNSET
    max_num_batched_tokens: Natural | msgspec.UnsetType = msgspec.UNSET
    taints: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Selection(msgspec.Struct, kw_only=True):
    """POST /select, /select_and_reserve, /potential_loads, /overlap_scores, /best_worker_id.

    The prompt is given by its tokens, or by the hashes of its blocks and its length.
    """

    selection_id: str = ""
    model_name: str = "default"
    routing_group: str = "default"
    token_ids: list[Natural] = []
    lora_name: str = ""
    block_hashes: list[int] = []
    """Local hashes, signed or unsigned."""
    sequence_hashes: list[int] = []
    """Made from the local ones when absent."""
    isl_tokens: Natural = 0
    expected_output_tokens: Natural | None = None
    allowed_worker_ids: list[Natural] | None = None
    router_config_override: RouterOverrides | None = None

    @property
    def key(self) -> ModelKey:
        """The group it is for."""
        return ModelKey(self.model_name, self.routing_group)


class Reservation(Selection, kw_only=True):
    """POST /reservations: count a prompt as load of a worker that the caller has chosen."""

    worker_id: Natural
    dp_rank: Natural = 0


class OutputBlock(msgspec.Struct, kw_only=True):
    """POST /reservations/ID/output_block."""

    decay_fraction: Fraction | None = None
    """What is left of the output: the weight of the blocks that only this request uses. None: all."""


def unsigned(hashes: list[int], param: str) -> list[int]:
    """64-bit numbers, signed or not, as unsigned ones. Raises `Unprocessable`."""
    if any(not -_I64_END <= value < _U64_END for value in hashes):
        raise Unprocessable(f"{param} must be 64-bit numbers", param=param)
    return [value % _U64_END for value in hashes]
