"""The decision ledger: supervision notes its decisions without waiting, one task writes them, all are logged too."""

from functools import partial

import structlog
import trio

from appliance.core.errors import ApplianceError
from appliance.core.ports import StateStore, StateWriter
from appliance.core.records import LedgerEvent

log = structlog.get_logger(__name__)

BACKLOG = 1000  # decisions that wait for the disk; more than a crash loop makes in minutes


class Ledger:
    """Takes decisions at once; `run` brings them into the store, several in one transaction."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._send, self._receive = trio.open_memory_channel[LedgerEvent](BACKLOG)

    def note(self, event: LedgerEvent) -> None:
        """Log a decision and queue it for the store. Never waits; over the backlog it is only logged."""
        log.info(event.action, subject=event.subject, reason=event.reason)
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            log.warning("decision not stored", subject=event.subject)

    async def run(self) -> None:
        """Write for ever. A store that cannot be written costs the entries, not the service."""
        async for first in self._receive:
            batch = [first]
            while True:
                try:
                    batch.append(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            try:
                await self._store.write(partial(_record_all, batch))
            except ApplianceError as error:
                log.error("cannot write the ledger", error=str(error))


def _record_all(events: list[LedgerEvent], writer: StateWriter) -> None:
    for event in events:
        writer.record(event)
