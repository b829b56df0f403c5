"""A change counter that tasks wait on: level, not edge, so that no change between two looks is lost."""

import trio


class Changes:
    """Counts changes; a waiter says which count it has already seen."""

    def __init__(self) -> None:
        self.version = 0
        self._moved = trio.Event()

    def bump(self) -> None:
        """Count one change and wake every waiter."""
        self.version += 1
        self._moved.set()
        self._moved = trio.Event()

    async def wait(self, seen: int) -> int:
        """Return the count as soon as it differs from `seen`; cancelling loses nothing."""
        if seen == self.version:
            await self._moved.wait()
        else:
            await trio.lowlevel.checkpoint()
        return self.version
