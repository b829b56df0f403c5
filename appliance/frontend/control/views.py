"""What the control apps ask of the node: small protocols that the supervisor implements.

Plain data in and out. Every method may raise an `ApplianceError`, which becomes the answer.
"""

from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Literal, Protocol

import msgspec

from appliance.core.records import BusyThreshold, ModelRecord

Object = dict[str, Any]
"""A manifest: apiVersion, kind, metadata, spec, status."""


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """One live worker endpoint, in upstream's shape."""

    namespace: str
    component: str
    endpoint: str
    instance_id: int
    transport: dict[str, str] = {}
    device_type: str = "cpu"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests can be served; only `healthy` is answered with 200."""

    status: Literal["healthy", "starting", "draining"]
    message: str = ""
    """Why not, in words."""
    instances: list[InstanceView] = []


Tokens = Annotated[int, msgspec.Meta(le=2**63 - 1)]
"""What fits the messages to the front ends."""


class BusyThresholdOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /busy_threshold: what is left out stays, null turns a test off."""

    model: str
    active_decode_blocks_threshold: float | msgspec.UnsetType | None = msgspec.UNSET
    active_prefill_tokens_threshold: Tokens | msgspec.UnsetType | None = msgspec.UNSET
    active_prefill_tokens_threshold_frac: float | msgspec.UnsetType | None = msgspec.UNSET


class MeasuredEngine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker whose engine has metrics of its own."""

    worker: str
    graph: str
    component: str
    model: str
    engine: str


class ControlView(Protocol):
    """What the public control app shows."""

    def health(self) -> Health:
        """The state of now."""
        ...

    def models(self) -> list[ModelRecord]:
        """All served names, ready or not."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text of all processes. Cancelling gives the collection up."""
        ...

    async def engine_metrics(self, worker: str) -> bytes:
        """What the engine of a worker writes of itself, unchanged. Raises `NotFound`, `WorkerLost`, `WorkerTimeout`."""
        ...

    async def measured_engines(self) -> list[MeasuredEngine]:
        """Workers that serve and whose engine has metrics of its own."""
        ...

    def busy_thresholds(self) -> list[BusyThreshold]:
        """Those in force, of every model."""
        ...

    async def set_busy_threshold(self, order: BusyThresholdOrder) -> BusyThreshold:
        """Set the members that are there and return the result. Raises `ModelNotFound`."""
        ...


class ObjectAdmin(Protocol):
    """Stored objects. A cancelled change may or may not have been made, never half."""

    async def list_objects(self, kind: str) -> list[Object]:
        """All objects of a kind, by its name or short name. Raises `NotFound` for an unknown kind."""
        ...

    async def read_object(self, kind: str, name: str) -> Object:
        """One object. Raises `NotFound`."""
        ...

    async def apply_objects(self, manifests: list[Object]) -> list[Object]:
        """Create or change all of them, or none. Raises `Unprocessable`, `Conflict`."""
        ...

    async def delete_object(self, kind: str, name: str) -> Object:
        """Delete and return what it was. Raises `NotFound`."""
        ...

    async def scale(self, component: str, replicas: int, graph: str | None) -> Object:
        """Set the replicas of a component; `graph` may be left out when only one graph has it. Raises `NotFound`."""
        ...


class KeyAdmin(Protocol):
    """API keys. Secrets leave this interface once, at creation."""

    async def list_keys(self) -> list[Object]:
        """Name and creation time of each."""
        ...

    async def create_key(self, name: str) -> Object:
        """Make a key; `secret` in the answer is the only copy. Raises `Conflict` when the name is taken."""
        ...

    async def delete_key(self, name: str) -> Object:
        """Revoke a key. Raises `NotFound`."""
        ...


class Diagnosis(Protocol):
    """What is and what was."""

    async def status(self) -> Object:
        """Components, workers, devices, models, queue, last decisions."""
        ...

    async def events(self, subject: str | None, limit: int) -> list[Object]:
        """Ledger rows, newest first."""
        ...

    async def find_logs(self, component: str) -> str:
        """The full name of a component or worker, dead or alive, that has logs. Raises `NotFound`."""
        ...

    def logs(self, name: str, lines: int, follow: bool) -> AbstractAsyncContextManager[AsyncIterable[str]]:
        """The last lines of a full name; with `follow`, then new ones until the block is left."""
        ...

    async def config(self) -> Object:
        """The settings in force, without secrets."""
        ...

    async def change_config(self, changes: dict[str, str]) -> Object:
        """Change settings by key, texts as in the environment, until the next start; old and new values by key.

        Raises `UsageError` for an unknown key, a value that cannot be used, and a setting that needs a restart; then
        nothing is changed.
        """
        ...

    async def decisions(self, request: str) -> Object:
        """What front ends remember of a request, by its id or its client's: `placements` and `requests`."""
        ...


class AdminService(ObjectAdmin, KeyAdmin, Diagnosis, Protocol):
    """Everything that the admin API offers."""

    async def restart(self, component: str, graph: str | None) -> Object:
        """Replace the processes of a component one after the other; returns at once, with how many there are.

        `graph` may be left out when only one graph has it, and for the front ends, which all share. Raises `NotFound`.
        """
        ...

    async def load_model(self, name: str) -> Object:
        """Load a model as if a request waited for it; returns at once. Raises `NotFound`, `Conflict`."""
        ...

    async def unload_model(self, name: str) -> Object:
        """Let a model end its requests and unload it; returns at once. Raises `NotFound`, and `Conflict` for a pin."""
        ...

    async def list_adapters(self) -> list[Object]:
        """Name, base model and folder of each LoRA adapter, its `phase`, the `workers` that have it, and the `reason`
        why others have not."""
        ...

    async def load_adapter(self, model: str, name: str, path: str) -> Object:
        """Load an adapter on all ready workers of a model, and on later ones.

        Raises `NotFound`, `Conflict`, what an engine refuses.
        """
        ...

    async def unload_adapter(self, name: str) -> Object:
        """Unload it everywhere, for good. Raises `NotFound`, naming those that are loaded."""
        ...

    def backup(self, with_models: bool) -> AbstractAsyncContextManager[AsyncIterable[bytes]]:
        """A backup of the state in blocks; leaving the block gives it up. Reading raises when it cannot go on."""
        ...

    async def stop(self) -> None:
        """Begin an orderly stop; returns at once."""
        ...
