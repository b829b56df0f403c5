"""Bodies of the indexer's HTTP interface, in and out."""

from typing import Annotated

import msgspec

from appliance.core.errors import InvalidRequest, Unprocessable
from appliance.events.zmq_subscriber import Source
from appliance.events.zmq_wire import Dialect
from appliance.roles.indexer.registry import ModelKey
from appliance.routing.overlap import Overlaps, Scores

Natural = Annotated[int, msgspec.Meta(ge=0)]
_U64_END = 2**64
_I64_END = 2**63


class ForModel(msgspec.Struct, kw_only=True):
    """What every call about a model names."""

    model_name: str
    tenant_id: str = "default"

    @property
    def key(self) -> ModelKey:
        """The index it is about."""
        return ModelKey(self.model_name, self.tenant_id)


class Register(ForModel):
    """POST /register."""

    instance_id: Natural
    endpoint: str
    block_size: Annotated[int, msgspec.Meta(ge=1)]
    dp_rank: Natural = 0
    replay_endpoint: str | None = None
    topic: str = ""
    dialect: Dialect = Dialect.VLLM
    """Field order of events in array form."""

    @property
    def source(self) -> Source:
        """Where to listen. Raises `InvalidRequest` for endpoints that are none."""
        replay = self.replay_endpoint or None
        return Source(endpoint=self.endpoint, replay_endpoint=replay, topic=self.topic, dialect=self.dialect)


class Unregister(ForModel):
    """POST /unregister."""

    instance_id: Natural
    dp_rank: Natural | None = None


class Query(ForModel):
    """POST /query."""

    token_ids: list[Natural]
    lora_name: str | None = None


class QueryByHash(ForModel):
    """POST /query_by_hash; the hashes are signed."""

    block_hashes: list[int]

    @property
    def local_hashes(self) -> list[int]:
        """The hashes as we keep them, unsigned. Raises `Unprocessable`."""
        if any(not -_I64_END <= value < _I64_END for value in self.block_hashes):
            raise Unprocessable("block_hashes must be signed 64-bit numbers", param="block_hashes")
        return [value % _U64_END for value in self.block_hashes]


class Peer(msgspec.Struct):
    """POST /register_peer and /deregister_peer."""

    url: str


class ListenerId(msgspec.Struct):
    """POST /test/pause_listener and /test/resume_listener."""

    instance_id: Natural
    dp_rank: Natural = 0


class InstanceScore(msgspec.Struct):
    """How much of a prompt an instance holds, in tokens: the best of its ranks, tier upon tier."""

    longest_matched: int = 0
    gpu: int = 0
    dp: dict[str, int] = msgspec.field(default_factory=dict)
    cpu: int = 0
    disk: int = 0


class Answer(msgspec.Struct):
    """The answer to both queries, in tokens."""

    scores: dict[str, dict[str, int]]
    instances: dict[str, InstanceScore]
    frequencies: list[int] = []


def read_body(data: bytes, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """A JSON body of this kind. Raises `InvalidRequest` for what is no JSON, `Unprocessable` for wrong fields."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"cannot use the request body: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"cannot read the request body as JSON: {error}") from None


def answer_query(found: Overlaps, block_size: int) -> Answer:
    """Overlaps in blocks as an answer in tokens."""
    scores: dict[str, dict[str, int]] = {}
    for holder, blocks in found.device.items():
        scores.setdefault(holder.worker, {})[str(holder.rank)] = blocks * block_size
    instances: dict[str, InstanceScore] = {}
    for holder in found.disk:
        one = instances.setdefault(holder.worker, InstanceScore())
        gpu, cpu, disk = (tier.get(holder, 0) * block_size for tier in _tiers(found))
        one.dp[str(holder.rank)] = gpu
        one.gpu, one.cpu, one.disk = max(one.gpu, gpu), max(one.cpu, cpu), max(one.disk, disk)
        one.longest_matched = max(one.longest_matched, disk)
    return Answer(scores, instances)


def _tiers(found: Overlaps) -> tuple[Scores, Scores, Scores]:
    return found.device, found.host_pinned, found.disk
