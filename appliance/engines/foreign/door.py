"""Lets streams in while the engine runs, and ends those inside when it is closed."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from appliance.core.errors import EngineFailed
from appliance.engines.admission import CLOSED, DRAINING, Admission


class StreamDoor:
    """The streams of one engine. Shut until `open`."""

    def __init__(self) -> None:
        self._admission = Admission()
        self._scopes: set[trio.CancelScope] = set()
        self._opened = False
        self._why = CLOSED

    def open(self) -> None:
        """Let streams in from now on."""
        self._opened = True
        self._admission.open()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Around one stream. Raises `EngineFailed` when the door is shut, or is closed meanwhile."""
        with self._admission.enter():
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    yield
                finally:
                    self._scopes.discard(scope)
            if scope.cancelled_caught:
                raise EngineFailed(self._why)

    async def drain(self) -> None:
        """Refuse new streams; return when none is inside."""
        if self._opened:
            self._admission.shut(DRAINING)
        await self._admission.wait_empty()

    async def close(self, why: str = CLOSED) -> None:
        """Refuse new streams, end those inside with this reason; return when they are gone."""
        self._why = why
        if self._opened:
            self._admission.shut(why)
        for scope in self._scopes:
            scope.cancel()
        await self._admission.wait_empty()
