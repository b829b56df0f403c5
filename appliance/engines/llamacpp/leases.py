"""Waiting for a slot and holding it: the trio side of the slot table."""

import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from appliance.core.errors import EngineFailed
from appliance.engines.llamacpp.slots import Grant, SlotTable


@dataclass
class Lease:
    """A slot held by one stream. The holder says, before it lets go, what the slot then contains."""

    slot: int
    content: list[int] = field(default_factory=list)
    ran_on: int | None = None
    """The slot that the engine reported."""


@dataclass
class _Waiter:
    granted: trio.Event = field(default_factory=trio.Event)
    slot: int | None = None


class SlotPool:
    """Leases of slots, first come, first served."""

    def __init__(self, count: int) -> None:
        self.table = SlotTable(count)
        self._keys = itertools.count()
        self._waiters: dict[int, _Waiter] = {}
        self._closed = False

    @asynccontextmanager
    async def lease(self, prompt: Sequence[int]) -> AsyncGenerator[Lease, None]:
        """Hold the best slot for a prompt. Raises `EngineFailed` when the pool closes first; cancelling gives up.

        The wait has no deadline of its own: it ends with the streams ahead, and the caller's scope bounds it.
        """
        key = next(self._keys)
        lease = Lease(await self._obtain(key, prompt))
        try:
            yield lease
        finally:
            self._pass_on(self.table.release(key, lease.slot, lease.content, lease.ran_on))

    def close(self) -> None:
        """Send every waiting stream away."""
        self._closed = True
        for waiter in self._waiters.values():
            waiter.granted.set()

    async def _obtain(self, key: int, prompt: Sequence[int]) -> int:
        if (slot := self.table.request(key, prompt)) is not None:
            return slot
        waiter = self._waiters[key] = _Waiter()
        try:
            await waiter.granted.wait()
        except trio.Cancelled:
            self._give_back(key, waiter)
            raise
        finally:
            del self._waiters[key]
        if waiter.slot is None or self._closed:
            self._give_back(key, waiter)
            raise EngineFailed("the engine was closed before the request could start")
        return waiter.slot

    def _give_back(self, key: int, waiter: _Waiter) -> None:
        """A grant may have come in the same moment as the cancellation: pass it on."""
        if waiter.slot is None:
            self.table.withdraw(key)
            return
        self._pass_on(self.table.release(key, waiter.slot, self.table.content(waiter.slot)))

    def _pass_on(self, grants: list[Grant]) -> None:
        for grant in grants:
            self._waiters[grant.key].slot = grant.slot
            self._waiters[grant.key].granted.set()
