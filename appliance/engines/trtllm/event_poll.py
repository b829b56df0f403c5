"""Asks a server for its cache events again and again. Asking empties its queue, so nobody else may ask."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from appliance.core.errors import ApplianceError
from appliance.core.kv_events import ClearedBlocks, TakeKvEvents
from appliance.engines.trtllm.cache_events import CacheEvents

POLL_S = 0.1  # a request that comes sooner after another one does not see its blocks
RANK = 0


class EventPoll:
    """Cache events from the first answer on; what came before somebody listens is kept for them."""

    def __init__(self, ask: Callable[[], Awaitable[list[Any]]], events: CacheEvents, first: list[Any]) -> None:
        """`ask` empties the server's queue; raises `ApplianceError` when it does not answer. `first`: what it held."""
        self._ask, self._events = ask, events
        self._waiting = events.convert(first)
        self._take: TakeKvEvents | None = None
        self._is_wanted = trio.Event()

    def publish(self, take: TakeKvEvents) -> None:
        """Give every event to `take` from now on."""
        self._take = take
        if self._waiting:
            take(RANK, self._waiting)
        self._is_wanted.set()

    def clear(self) -> None:
        """The cache is empty, and the server does not say so."""
        if self._take is not None:
            self._take(RANK, [ClearedBlocks()])

    async def run(self) -> None:
        """Poll for ever once somebody listens. A server that does not answer is asked again; its health is others' to
        watch."""
        await self._is_wanted.wait()  # no deadline: nobody may ever listen
        assert self._take is not None
        while True:
            try:
                found = self._events.convert(await self._ask())
            except ApplianceError:
                found = []
            if found:
                self._take(RANK, found)
            await trio.sleep(POLL_S)
