"""A state store in memory: for tests, and for roles whose truth lies elsewhere (the API server in a cluster)."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

import msgspec
import trio

from appliance.core.errors import StateUnavailable
from appliance.core.ports import StateReader, StateWriter
from appliance.core.records import LedgerEvent, ObjectChange, StoredObject
from appliance.state.versions import (
    EVENT_ROWS,
    apply_put,
    apply_status,
    copy_object,
    deletion,
    stamp_event,
    subject_matches,
)
from appliance.state.watching import WATCH_BUFFER, WatchHub

T = TypeVar("T")


class MemoryStateStore:
    """`StateStore` in the memory of one process. Calls are checkpoints; functions run on the trio thread."""

    def __init__(
        self, *, buffer: int = WATCH_BUFFER, event_rows: int = EVENT_ROWS, clock: Callable[[], float] = time.time
    ) -> None:
        self._facts = _Facts({}, deque(maxlen=event_rows))
        self._hub = WatchHub(buffer)
        self._clock = clock
        self._closed = False

    async def read(self, query: Callable[[StateReader], T]) -> T:
        """See `StateStore.read`."""
        await self._enter()
        return query(_Transaction(self._facts.copy(), self._clock))

    async def write(self, change: Callable[[StateWriter], T]) -> T:
        """See `StateStore.write`. A cancelled call was not applied."""
        await self._enter()
        draft = _Transaction(self._facts.copy(), self._clock)
        result = change(draft)
        self._facts = draft.facts
        self._hub.publish(draft.changes)
        return result

    @asynccontextmanager
    async def watch(self, kind: str) -> AsyncIterator[trio.MemoryReceiveChannel[ObjectChange]]:
        """See `StateStore.watch`."""
        await self._enter()
        present = _Transaction(self._facts, self._clock).list_all(kind)
        with self._hub.subscribe(kind, present) as changes:
            yield changes

    def close(self) -> None:
        """End every watch and refuse further calls. Safe to call twice."""
        self._closed = True
        self._hub.close()

    async def _enter(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise StateUnavailable("the state store is closed")


class _Facts:
    """What is stored. Objects are kept as bytes, so that no caller can edit them from outside."""

    def __init__(self, objects: dict[tuple[str, str], bytes], events: deque[LedgerEvent]) -> None:
        self.objects = objects
        self.events = events
        self.version = 0
        self.last_event = 0

    def copy(self) -> "_Facts":
        twin = _Facts(dict(self.objects), self.events.copy())
        twin.version, twin.last_event = self.version, self.last_event
        return twin


class _Transaction:
    """Reader and writer over a private copy of the facts."""

    def __init__(self, facts: _Facts, clock: Callable[[], float]) -> None:
        self.facts = facts
        self.changes: list[ObjectChange] = []
        self._clock = clock

    def get(self, kind: str, name: str) -> StoredObject | None:
        kept = self.facts.objects.get((kind, name))
        return None if kept is None else msgspec.json.decode(kept, type=StoredObject)

    def list_all(self, kind: str) -> list[StoredObject]:
        names = sorted(name for of, name in self.facts.objects if of == kind)
        return [obj for name in names if (obj := self.get(kind, name)) is not None]

    def events(self, subject: str | None = None, limit: int = 100) -> list[LedgerEvent]:
        found = [event for event in reversed(self.facts.events) if subject_matches(event.subject, subject)]
        return found[: max(limit, 0)]

    def put(self, obj: StoredObject) -> StoredObject:
        stored = self.get(obj.kind, obj.name)
        made = apply_put(stored, obj, self.facts.version + 1, self._clock())
        if made is not stored:
            self._keep(made, "MODIFIED" if stored else "ADDED")
        return made

    def put_status(self, kind: str, name: str, status: dict[str, object]) -> StoredObject | None:
        stored = self.get(kind, name)
        if stored is None:
            return None
        made = apply_status(stored, status, self.facts.version + 1)
        if made is not stored:
            self._keep(made, "MODIFIED")
        return made

    def delete(self, kind: str, name: str) -> StoredObject | None:
        stored = self.get(kind, name)
        if stored is None:
            return None
        del self.facts.objects[kind, name]
        self.facts.version += 1
        self.changes.append(deletion(stored, self.facts.version))
        return stored

    def record(self, event: LedgerEvent) -> None:
        self.facts.last_event += 1
        self.facts.events.append(stamp_event(event, self.facts.last_event, self._clock()))

    def _keep(self, obj: StoredObject, change: Literal["ADDED", "MODIFIED"]) -> None:
        self.facts.version = obj.resource_version
        self.facts.objects[obj.kind, obj.name] = msgspec.json.encode(obj)
        self.changes.append(ObjectChange(change, copy_object(obj)))
