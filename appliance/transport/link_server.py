"""The worker's side of the transport: a listener, one `WorkerLink` per front end, and draining them."""

import logging
from pathlib import Path

import trio

from appliance.core.errors import InternalError
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.ports import Engine, FileSource, KvEventLog
from appliance.core.records import RankLoad
from appliance.core.requests import ModelCard
from appliance.transport.limits import LinkLimits
from appliance.transport.worker_link import OnEnded, WorkerLink, WorkerSide
from appliance.transport.worker_load import WorkerLoad
from appliance.wire.framing import encode
from appliance.wire.link_messages import KvEvents, LoadReport
from appliance.wire.sockets import listen_unix
from appliance.wire.streams import ByteStream

LOG = logging.getLogger(__name__)
LAST_WORDS_S = 1.0  # for evicted streams to unwind and their last frames to leave


class LinkServer:
    """Serves one started engine to any number of front ends."""

    def __init__(
        self,
        engine: Engine,
        card: ModelCard,
        path: Path | None = None,
        *,
        worker: str,
        files: FileSource | None = None,
        kv_log: KvEventLog | None = None,
        on_ended: OnEnded | None = None,
        limits: LinkLimits | None = None,
    ) -> None:
        """`path` is the unix socket to listen at. `files`: where the card's files are, by default the engine itself.

        `kv_log` answers front ends that missed what `publish_kv_events` sent. `on_ended` hears of every stream's end.
        """
        if files is None and isinstance(engine, FileSource):
            files = engine
        self._path = path
        self.load = WorkerLoad(card.max_num_seqs)
        """Streams running, waiting and served."""
        self._side = WorkerSide(
            worker=WorkerId(worker),
            card=card,
            engine=engine,
            files=files,
            kv_log=kv_log,
            limits=limits or LinkLimits(),
            load=self.load,
            on_ended=on_ended,
        )
        self._links: set[WorkerLink] = set()

    @property
    def links(self) -> int:
        """Front ends connected."""
        return len(self._links)

    async def run(self, *, task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen at the unix socket until cancelled; `started` once front ends can connect.

        Raises `Conflict` or `UsageError` when it cannot listen there. Cancelling ends every link and its streams.
        """
        if self._path is None:
            raise InternalError("cannot listen: the link server has no path")
        with listen_unix(self._path) as listener:
            task_status.started(self._path)
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self.serve, await listener.accept())

    async def serve(self, stream: ByteStream) -> None:
        """Serve one front end over a connected stream until the link ends; raises nothing but `Cancelled`."""
        link = WorkerLink(stream, self._side)
        self._links.add(link)
        try:
            fault = await link.run()
            LOG.info("link ended", extra={"reason": fault.message})
        finally:
            self._links.discard(link)

    def publish_kv_events(self, rank: int, first_id: int, events: list[KvEvent]) -> None:
        """Send changes of a rank's cache to every front end that has ever asked: encoded once, without waiting."""
        if followers := [link for link in self._links if link.follows_cache]:
            frame = encode(KvEvents(rank, first_id, events))
            for link in followers:
                link.post_frame(frame)

    def publish_loads(self, loads: list[RankLoad]) -> None:
        """Tell every front end what the ranks have to do: encoded once, without waiting."""
        frame = encode(LoadReport(loads))
        for link in self._links:
            link.post_frame(frame)

    async def drain(self, deadline_s: float) -> None:
        """Refuse new streams on every link and let running ones end, at most `deadline_s` seconds.

        After that they are evicted: their front ends hear `worker_lost` and may place them again. Returns when the
        last frames were handed over. Cancelling leaves the worker draining.
        """
        self.load.draining = True
        for link in self._links:
            link.tell_draining()
        with trio.move_on_after(deadline_s):
            await self.load.idle()
        for link in self._links:
            link.evict_all()
        with trio.move_on_after(LAST_WORDS_S):
            await self.load.idle()
            for link in tuple(self._links):
                await link.sent()

    def reopen(self) -> None:
        """Take streams again after a drain. Links that were told of the drain end: their front ends connect anew."""
        self.load.draining = False
        for link in tuple(self._links):
            link.end("the worker serves again, connect anew")
