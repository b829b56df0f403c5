"""Cancelled streams that the server has yet to be told of by name: a cancelled task cannot wait for that itself."""

from collections.abc import Awaitable, Callable

import trio

from appliance.core.errors import ApplianceError

MOST_WAITING = 4096


class AbortQueue:
    """Names of streams that nobody wants any more."""

    def __init__(self, tell: Callable[[str], Awaitable[None]]) -> None:
        """`tell` tells the server of one; its `ApplianceError`s are passed over, as the server saw the disconnect."""
        self._tell = tell
        self._into, self._out_of = trio.open_memory_channel[str](MOST_WAITING)

    def note(self, name: str) -> None:
        """Have the server told, unless so many wait that the disconnects must do. Never waits."""
        try:
            self._into.send_nowait(name)
        except trio.WouldBlock:
            return

    async def run(self) -> None:
        """Tell the server of one after the other, until cancelled."""
        async for name in self._out_of:
            try:
                await self._tell(name)
            except ApplianceError:
                continue
