"""The watch hub: hands each committed change to every watcher of its kind, in commit order, and never waits for one."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import trio

from appliance.core.records import ObjectChange, StoredObject

WATCH_BUFFER = 256  # changes a consumer may fall behind; a burst of one reconcile over a full box is far below


class WatchHub:
    """Watchers by kind. All calls are made on the trio thread and none of them waits.

    The objects in changes are shared by all watchers: read them, do not edit them.
    """

    def __init__(self, buffer: int = WATCH_BUFFER) -> None:
        self._buffer = buffer
        self._watchers: dict[str, set[trio.MemorySendChannel[ObjectChange]]] = {}

    @contextmanager
    def subscribe(
        self, kind: str, present: Sequence[StoredObject]
    ) -> Iterator[trio.MemoryReceiveChannel[ObjectChange]]:
        """A channel that starts with one `ADDED` per present object. Leaving the block ends the watch.

        The caller makes sure that nothing is committed between reading `present` and this call.
        """
        send, receive = trio.open_memory_channel[ObjectChange](len(present) + self._buffer)
        for obj in present:
            send.send_nowait(ObjectChange("ADDED", obj))
        self._watchers.setdefault(kind, set()).add(send)
        try:
            with send, receive:
                yield receive
        finally:
            self._forget(kind, send)

    def publish(self, changes: Iterable[ObjectChange]) -> None:
        """Queue changes for their watchers. A watcher without room is closed after what it already has."""
        for change in changes:
            kind = change.object.kind
            for send in list(self._watchers.get(kind, ())):
                try:
                    send.send_nowait(change)
                except (trio.WouldBlock, trio.BrokenResourceError):
                    send.close()
                    self._forget(kind, send)

    def close(self) -> None:
        """End every watch; consumers find their channel closed."""
        for watchers in self._watchers.values():
            for send in watchers:
                send.close()
        self._watchers.clear()

    def _forget(self, kind: str, send: trio.MemorySendChannel[ObjectChange]) -> None:
        watchers = self._watchers.get(kind, set())
        watchers.discard(send)
        if not watchers:
            self._watchers.pop(kind, None)
