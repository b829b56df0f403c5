"""All links of one front end, by worker: the `WorkerTransport` of a node."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from appliance.core.errors import ApplianceError, Conflict, NotRunning, WorkerLost
from appliance.core.identity import Digest, WorkerId
from appliance.core.kv_events import KvEvent, KvReply
from appliance.core.ports import StreamSink
from appliance.core.records import RankLoad
from appliance.core.requests import EngineRequest, ModelCard
from appliance.transport.limits import LinkLimits
from appliance.transport.link_client import LinkClient
from appliance.transport.nurseries import open_inner_nursery
from appliance.transport.open_stream import OpenStream
from appliance.wire.sockets import connect_unix
from appliance.wire.streams import ByteStream

OnLost = Callable[[WorkerId, str], None]
OnDraining = Callable[[WorkerId], None]
OnKvEvents = Callable[[WorkerId, int, int, list[KvEvent]], None]
"""A worker, a rank, the id of the first event, and changes of that rank's cache."""

OnLoad = Callable[[WorkerId, list[RankLoad]], None]


class Links:
    """The links that were connected and not lost since. Implements `WorkerTransport`.

    `on_lost` is called once per connected link that ended without `disconnect`, after its streams were told.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        limits: LinkLimits | None = None,
        on_lost: OnLost | None = None,
        on_draining: OnDraining | None = None,
        on_kv_events: OnKvEvents | None = None,
        on_load: OnLoad | None = None,
    ) -> None:
        self._nursery = nursery
        self._limits = limits or LinkLimits()
        self._on_lost = on_lost
        self._on_draining = on_draining
        self._on_kv_events = on_kv_events
        self._on_load = on_load
        self._links: dict[WorkerId, LinkClient] = {}

    async def connect(self, worker: WorkerId, address: str) -> ModelCard:
        """Connect to a worker's unix socket; returns its card once streams can be opened.

        Raises `WorkerLost` or `WorkerTimeout` when the worker cannot be used, `Conflict` when a link to it exists
        or is being made. Cancelling leaves nothing behind.
        """
        self._refuse_twin(worker)
        try:
            stream = await connect_unix(Path(address), deadline_s=self._limits.hello_s)
        except NotRunning as fault:
            raise WorkerLost(f"cannot connect to worker {worker}: {fault.message}") from fault
        return await self.attach(worker, stream)

    async def attach(self, worker: WorkerId, stream: ByteStream) -> ModelCard:
        """As `connect`, over a stream that is connected already. The stream is closed at the end, by any way."""
        try:
            self._refuse_twin(worker)
            card: ModelCard = await self._nursery.start(self._keep, worker, stream)
        except BaseException:
            stream.close()
            raise
        return card

    async def disconnect(self, worker: WorkerId) -> None:
        """End the link to a worker, if there is one. Its open streams get `WorkerLost`. A checkpoint."""
        if link := self._links.pop(worker, None):
            link.end("it was disconnected")
        await trio.lowlevel.checkpoint()

    def workers(self) -> dict[WorkerId, LinkClient]:
        """The live links."""
        return {worker: link for worker, link in self._links.items() if link.card is not None}

    def open(self, worker: WorkerId, request: EngineRequest, sink: StreamSink) -> AbstractContextManager[None]:
        """See `WorkerTransport` and `LinkClient.open`."""
        link = self._links.get(worker) or self._link(worker)
        return OpenStream(link, request, sink)

    async def embed(self, worker: WorkerId, request: EngineRequest) -> list[float]:
        """See `WorkerTransport`."""
        return await self._link(worker).calls.embed(request)

    async def read_file(self, worker: WorkerId, digest: Digest) -> bytes:
        """See `WorkerTransport`. Raises `WorkerTimeout` too."""
        return await self._link(worker).read_file(digest)

    async def tokenize(self, worker: WorkerId, text: str, *, special: bool) -> list[int]:
        """Token ids by the worker's own tokenizer. Raises `WorkerLost`, `WorkerTimeout`, `NotImplementedHere`."""
        return await self._link(worker).calls.tokenize(text, special=special)

    async def detokenize(self, worker: WorkerId, token_ids: list[int]) -> bytes:
        """Bytes by the worker's own tokenizer. Raises `WorkerLost`, `WorkerTimeout`, `NotImplementedHere`."""
        return await self._link(worker).calls.detokenize(token_ids)

    async def ask_kv_events(
        self, worker: WorkerId, rank: int, start_id: int | None, take: Callable[[KvReply], None]
    ) -> None:
        """See `KvEventHistory`."""
        await self._link(worker).calls.ask_kv_events(rank, start_id, take)

    async def probe(self, worker: WorkerId) -> float:
        """See `WorkerTransport`."""
        return await self._link(worker).calls.probe()

    def _link(self, worker: WorkerId) -> LinkClient:
        if (link := self._links.get(worker)) is None:
            raise WorkerLost(f"cannot reach worker {worker}: there is no link to it")
        return link

    def _refuse_twin(self, worker: WorkerId) -> None:
        if worker in self._links:
            raise Conflict(f"cannot connect to worker {worker}: there is a link to it")

    async def _keep(
        self,
        worker: WorkerId,
        stream: ByteStream,
        *,
        task_status: trio.TaskStatus[ModelCard] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run one link from its entry in the table to its removal."""
        link = LinkClient(
            worker,
            stream,
            self._limits,
            on_draining=lambda: self._tell_draining(worker),
            on_kv_events=None if self._on_kv_events is None else partial(self._on_kv_events, worker),
            on_load=None if self._on_load is None else partial(self._on_load, worker),
        )
        self._links[worker] = link
        try:
            fault: ApplianceError = await link.run(task_status=task_status)
        finally:
            lost = self._links.get(worker) is link
            if lost:
                del self._links[worker]
        if lost and self._on_lost is not None:
            self._on_lost(worker, fault.message)

    def _tell_draining(self, worker: WorkerId) -> None:
        if self._on_draining is not None:
            self._on_draining(worker)


@asynccontextmanager
async def open_links(
    *,
    limits: LinkLimits | None = None,
    on_lost: OnLost | None = None,
    on_draining: OnDraining | None = None,
    on_kv_events: OnKvEvents | None = None,
) -> AsyncIterator[Links]:
    """Links in a nursery of their own; leaving the block ends them all. Exceptions of the block pass as they are."""
    async with open_inner_nursery() as nursery:
        yield Links(nursery, limits=limits, on_lost=on_lost, on_draining=on_draining, on_kv_events=on_kv_events)
        nursery.cancel_scope.cancel()
