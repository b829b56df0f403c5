"""The rooms in which the halves of split requests meet on a prefill worker. Either half may come first. No sockets."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from appliance.core.errors import EngineFailed

ARRIVE_S = 30.0
"""Longest wait of a decode half for its prefill half to begin."""
KEEP_S = 30.0
"""How long a computed prompt is kept for a decode half that has not come yet."""


class Room:
    """One meeting. The prefill half sets `tokens` once the prompt's cache can be fetched."""

    __slots__ = ("arrived", "ended", "ended_at", "tokens")

    def __init__(self) -> None:
        self.arrived = trio.Event()
        """The prefill half has begun."""
        self.ended = trio.Event()
        """The prefill half has ended, one way or the other."""
        self.ended_at = 0.0
        self.tokens = 0
        """Prompt tokens whose keys and values are there; 0 after a failure."""


class Rooms:
    """All rooms of one worker, by their number."""

    def __init__(self) -> None:
        self._rooms: dict[int, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    @contextmanager
    def hold(self, number: int) -> Iterator[Room]:
        """Be the prefill half: leaving the block, by any way, tells the other half. Raises `EngineFailed` if taken."""
        self._forget_unfetched()
        room = self._rooms.setdefault(number, Room())
        if room.arrived.is_set():
            raise EngineFailed(f"bootstrap room {number} is taken")
        room.arrived.set()
        try:
            yield room
        finally:
            room.ended_at = trio.current_time()
            room.ended.set()

    async def wait(self, number: int) -> int | None:
        """Be the decode half: prompt tokens that can be fetched, 0 when the prefill half failed, None when none came.

        What was answered is forgotten. Cancelling leaves the room as it is.
        """
        room = self._rooms.setdefault(number, Room())
        with trio.move_on_after(ARRIVE_S):
            await room.arrived.wait()
        if room.arrived.is_set():
            await room.ended.wait()  # no deadline: a prefill half ends by itself, or with its stream
        if self._rooms.get(number) is room:
            del self._rooms[number]
        return room.tokens if room.arrived.is_set() else None

    def _forget_unfetched(self) -> None:
        oldest = trio.current_time() - KEEP_S
        for number in [at for at, room in self._rooms.items() if room.ended.is_set() and room.ended_at < oldest]:
            del self._rooms[number]
