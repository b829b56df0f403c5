"""Waiting for a slot and holding it: the trio side of the slot table."""

import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from appliance.core.errors import EngineFailed
from appliance.core.kv_events import KvEvent
from appliance.core.records import RankLoad
from appliance.engines.llamacpp.slot_blocks import SlotBlocks
from appliance.engines.llamacpp.slots import Grant, SlotTable, common_prefix


@dataclass
class Lease:
    """A slot held by one stream. The holder says, before it lets go, what the slot then contains."""

    slot: int
    content: list[int] = field(default_factory=list)
    ran_on: int | None = None
    """The slot that the engine reported."""


@dataclass
class _Waiter:
    prompt: Sequence[int]
    granted: trio.Event = field(default_factory=trio.Event)
    slot: int | None = None


class SlotPool:
    """Leases of slots, first come, first served."""

    def __init__(self, count: int) -> None:
        self.table = SlotTable(count)
        self._keys = itertools.count()
        self._waiters: dict[int, _Waiter] = {}
        self._closed = False
        self._held: dict[int, int] = {}
        """Prompt tokens of the stream on each slot."""
        self._blocks = SlotBlocks(count)
        self._take: Callable[[list[KvEvent]], None] | None = None

    def load(self, block_tokens: int) -> RankLoad:
        """Blocks of the prompts that hold a slot, and the tokens of those that wait for one."""
        blocks = sum(-(-tokens // block_tokens) for tokens in self._held.values())
        return RankLoad(0, blocks, sum(len(waiter.prompt) for waiter in self._waiters.values()))

    def report_blocks(self, take: Callable[[list[KvEvent]], None]) -> None:
        """Tell of every later change of the blocks that the slots hold. To be called before the first lease."""
        self._take = take

    def report_computed(self, slot: int, tokens: Sequence[int]) -> None:
        """The engine has computed these tokens for the stream on a slot: its prompt, so far."""
        if self._take is not None:
            self._report(self._blocks.hold(slot, tokens))

    def report_replaced(self, slot: int, tokens: Sequence[int]) -> None:
        """A held slot has these tokens now, whatever it had before."""
        if self._take is not None:
            self._report(self._blocks.keep(slot, common_prefix(self.table.content(slot), tokens)))
            self._report(self._blocks.hold(slot, tokens))

    @asynccontextmanager
    async def lease(self, prompt: Sequence[int]) -> AsyncGenerator[Lease, None]:
        """Hold the best slot for a prompt. Raises `EngineFailed` when the pool closes first; cancelling gives up.

        The wait has no deadline of its own: it ends with the streams ahead, and the caller's scope bounds it.
        """
        key = next(self._keys)
        lease = Lease(await self._obtain(key, prompt))
        self._held[lease.slot] = len(prompt)
        try:
            yield lease
        finally:
            del self._held[lease.slot]
            self._release(key, lease.slot, lease.content, lease.ran_on)

    def close(self) -> None:
        """Send every waiting stream away."""
        self._closed = True
        for waiter in self._waiters.values():
            waiter.granted.set()

    async def _obtain(self, key: int, prompt: Sequence[int]) -> int:
        if (slot := self.table.request(key, prompt)) is not None:
            self._report_taken(slot, prompt)
            return slot
        waiter = self._waiters[key] = _Waiter(prompt)
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
        self._release(key, waiter.slot, self.table.content(waiter.slot))

    def _release(self, key: int, slot: int, content: Sequence[int], ran_on: int | None = None) -> None:
        grants = self.table.release(key, slot, content, ran_on)
        if self._take is not None:
            self._report(self._blocks.hold(slot, self.table.content(slot)))
            if ran_on is not None and ran_on != slot:  # its content is not known any more
                self._report(self._blocks.keep(ran_on, 0))
        self._pass_on(grants)

    def _pass_on(self, grants: list[Grant]) -> None:
        for grant in grants:
            waiter = self._waiters[grant.key]
            waiter.slot = grant.slot
            waiter.granted.set()
            self._report_taken(grant.slot, waiter.prompt)

    def _report_taken(self, slot: int, prompt: Sequence[int]) -> None:
        """A stream begins on a slot: the engine throws away what does not belong to its prompt."""
        if self._take is not None:
            self._report(self._blocks.keep(slot, common_prefix(self.table.content(slot), prompt)))

    def _report(self, events: list[KvEvent]) -> None:
        if self._take is not None and events:
            self._take(events)
