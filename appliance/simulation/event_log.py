"""Collects what happens in a cache as KV events, neighbours joined into one event."""

from appliance.core.kv_events import KvEvent, RemovedBlocks, StoredBlocks


class EventLog:
    """The events since the last `drain`, in the order in which they happened."""

    def __init__(self) -> None:
        self.wanted = False
        """Without a reader nothing is collected."""
        self._events: list[KvEvent] = []

    def stored(self, block_id: int, local_hash: int, parent: int | None) -> None:
        """A block can be reused from now on."""
        if not self.wanted:
            return
        last = self._events[-1] if self._events else None
        if isinstance(last, StoredBlocks) and parent == last.block_ids[-1]:
            last.block_ids.append(block_id)
            last.local_hashes.append(local_hash)
        else:
            self._events.append(StoredBlocks([block_id], [local_hash], parent))

    def removed(self, block_id: int) -> None:
        """A block is gone."""
        if not self.wanted:
            return
        last = self._events[-1] if self._events else None
        if isinstance(last, RemovedBlocks):
            last.block_ids.append(block_id)
        else:
            self._events.append(RemovedBlocks([block_id]))

    def drain(self) -> list[KvEvent]:
        """The events so far; the log is empty afterwards."""
        events, self._events = self._events, []
        return events
