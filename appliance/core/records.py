"""Facts about workers and models that discovery hands round, and objects and events that the state store keeps."""

from typing import Any, Literal

import msgspec

from appliance.core.identity import ModelName, WorkerId
from appliance.core.requests import ModelCard

WorkerPhase = Literal["starting", "ready", "draining", "backoff", "stopping", "failed", "stopped"]
ModelPhase = Literal["ready", "starting", "asleep", "cold", "failed"]


class WorkerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process as others need to know it."""

    id: WorkerId
    model: ModelName
    phase: WorkerPhase
    address: str
    """Path of the unix socket of the worker's link server."""
    graph: str = ""
    component: str = ""
    card: ModelCard | None = None
    """Known once the worker was ready."""


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One served name. Models stay listed while they are cold or starting."""

    name: ModelName
    phase: ModelPhase
    created: int
    """Unix time in seconds of the first registration."""
    reason: str = ""
    """Why it is not ready, in words for a client."""
    ready_at: float | None = None
    """Unix time at which it will probably be ready; None when that cannot be said."""
    context_length: int | None = None
    base: ModelName | None = None
    """Of a LoRA adapter: the model whose workers compute it."""


class BusyThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """Load above which a model's workers count as busy; None: never."""

    model: str
    active_decode_blocks_threshold: float | None = None
    """Share of KV blocks, 0 to 1."""
    active_prefill_tokens_threshold: int | None = None
    active_prefill_tokens_threshold_frac: float | None = None
    """Times the token budget of one engine step."""


class RankLoad(msgspec.Struct, array_like=True, frozen=True):
    """What a rank of a worker has to do, as its engine says."""

    rank: int
    decode_blocks: int
    """Blocks of its cache that running streams use."""
    prefill_tokens: int
    """Prompt tokens still to be computed."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as it is stored: never the secret, only its hash."""

    name: str
    sha256: str
    created: int


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of the store, in the Kubernetes sense."""

    kind: str
    name: str
    spec: dict[str, Any]
    status: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    """Labels, annotations and what else `metadata` of a manifest held, without name, generation, resourceVersion."""
    api_version: str = ""
    generation: int = 0
    """Rises by one with each change of `spec`. 0: not stored yet."""
    resource_version: int = 0
    """Rises with each change of anything, over the whole store. 0: not stored yet."""
    created_at: float = 0.0
    """Unix time in seconds."""


class ObjectChange(msgspec.Struct, frozen=True):
    """One entry of a watch: what happened to which object."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: StoredObject


class LedgerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the decision ledger: what was decided about what, why, and from which inputs."""

    id: int = 0
    at: float = 0.0
    """Unix time in seconds; 0: the store fills it in."""
    subject: str
    """`worker/ID`, `model/NAME`, `dgd/NAME`, `key/NAME`, `appliance`."""
    action: str
    """A verb: `start`, `stop`, `ready`, `crash`, `scale`, `apply`, `delete`, `refuse`."""
    reason: str
    inputs: dict[str, Any] = {}
