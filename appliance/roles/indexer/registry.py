"""Who publishes for which model, and the prefix index of each model and tenant. No HTTP.

An index appears with its first instance and goes with its last one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.core.errors import ApplianceError, NotFound
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent
from appliance.events.zmq_subscriber import EventFeed, Source
from appliance.roles.indexer.listeners import Listener, ListenerStatus
from appliance.routing.index_events import Holder
from appliance.routing.prefix_index import PrefixIndex, new_index

Applied = Counter[tuple[str, str]]
"""Events by kind and outcome."""


class AlreadyRegistered(ApplianceError):
    """An instance and rank that is followed already, or an index with another block size."""

    code, status, kind = "already_registered", 409, "invalid_request_error"


class ModelKey(NamedTuple):
    """What an index is for."""

    model: str
    tenant: str = "default"

    def __str__(self) -> str:
        return f"{self.model}:{self.tenant}"


@dataclass
class Instance:
    """One engine of a model, with a subscription for each rank."""

    id: int
    listeners: dict[int, Listener] = field(default_factory=dict)

    @property
    def status(self) -> ListenerStatus:
        """The worst of its ranks: failed, pending, paused, active."""
        found = {listener.status for listener in self.listeners.values()}
        order = (ListenerStatus.FAILED, ListenerStatus.PENDING, ListenerStatus.PAUSED)
        return next((status for status in order if status in found), ListenerStatus.ACTIVE)


@dataclass
class ModelIndex:
    """The index of one model and tenant."""

    block_size: int
    index: PrefixIndex = field(default_factory=new_index)
    instances: dict[int, Instance] = field(default_factory=dict)


class IndexFeed:
    """Feeds one rank's events into an index."""

    def __init__(self, index: PrefixIndex, holder: Holder, applied: Applied) -> None:
        self._index = index
        self._holder = holder
        self._applied = applied

    def take(self, events: list[KvEvent]) -> None:
        """Apply, in order; what cannot be applied is counted."""
        for event in events:
            outcome = self._index.apply(self._holder, event)
            self._applied[event_kind(event), outcome.value] += 1

    def forget(self) -> None:
        """Drop all blocks of this rank."""
        self._index.clear(*self._holder)


Start = Callable[[Source, int, EventFeed], Listener]
"""Begins a subscription: source, block size, feed."""
Close = Callable[[Listener], None]


class Registry:
    """All indexes and instances of an indexer."""

    def __init__(self, start: Start, close: Close) -> None:
        self.models: dict[ModelKey, ModelIndex] = {}
        self.applied: Applied = Counter()
        self._start = start
        self._close = close

    def register(self, key: ModelKey, instance_id: int, rank: int, source: Source, block_size: int) -> None:
        """Follow one rank of an instance. Raises `AlreadyRegistered`."""
        model = self.model_of(key, block_size)
        instance = model.instances.get(instance_id) or Instance(instance_id)
        if rank in instance.listeners:
            raise AlreadyRegistered(f"instance {instance_id} dp_rank {rank} already registered")
        self.models[key] = model
        model.instances[instance_id] = instance
        feed = IndexFeed(model.index, holder_of(instance_id, rank), self.applied)
        instance.listeners[rank] = self._start(source, block_size, feed)

    def unregister(self, key: ModelKey, instance_id: int, rank: int | None) -> None:
        """Forget an instance, or one rank of it (nothing happens when it has no such rank). Raises `NotFound`."""
        model = self.models.get(key)
        if model is None or instance_id not in model.instances:
            raise NotFound(f"instance {instance_id} not found")
        instance = model.instances[instance_id]
        for gone in [one for one in instance.listeners if rank in (None, one)]:
            self._close(instance.listeners.pop(gone))
            model.index.clear(*holder_of(instance_id, gone))
        if not instance.listeners:
            model.index.clear(WorkerId(str(instance_id)))
            del model.instances[instance_id]
        if not model.instances:
            del self.models[key]

    def find(self, key: ModelKey) -> ModelIndex:
        """The index for a model and tenant. Raises `NotFound`."""
        model = self.models.get(key)
        if model is None:
            raise NotFound(f"no indexer for model={key.model} tenant={key.tenant}")
        return model

    def instances(self) -> Iterator[tuple[ModelKey, Instance]]:
        """All instances."""
        for key, model in self.models.items():
            for instance in model.instances.values():
                yield key, instance

    def listeners(self, instance_id: int, rank: int) -> list[Listener]:
        """The subscriptions of an instance's rank; several when it serves several models. Raises `NotFound`."""
        found = [
            instance.listeners[rank]
            for _, instance in self.instances()
            if instance.id == instance_id and rank in instance.listeners
        ]
        if not found:
            raise NotFound(f"instance {instance_id} dp_rank {rank} not found")
        return found

    def model_of(self, key: ModelKey, block_size: int) -> ModelIndex:
        """The index for a key, or a new one that is not kept yet. Raises `AlreadyRegistered` for another block size."""
        model = self.models.get(key) or ModelIndex(block_size)
        if model.block_size != block_size:
            raise AlreadyRegistered(
                f"block_size mismatch for model={key.model} tenant={key.tenant}: "
                f"existing={model.block_size}, requested={block_size}"
            )
        return model


def holder_of(instance_id: int, rank: int) -> Holder:
    """What an index calls a rank of an instance."""
    return Holder(WorkerId(str(instance_id)), rank)


def event_kind(event: KvEvent) -> str:
    """The name of an event's kind in metrics."""
    return type(event).__name__.removesuffix("Blocks").lower()
