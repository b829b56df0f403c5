"""A worker transport without links: each test says which workers answer, and with which files."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import trio

from appliance.core.errors import Conflict, NotFound, NotImplementedHere, WorkerLost
from appliance.core.identity import Digest, WorkerId
from appliance.core.kv_events import KvReply
from appliance.core.ports import KvEventLog, StreamSink
from appliance.core.requests import EngineRequest, ModelCard


class FakeTransport:
    """Connects to the workers in `cards`; `files` takes `file_s` virtual seconds each."""

    def __init__(self) -> None:
        self.cards: dict[WorkerId, ModelCard] = {}
        self.files: dict[Digest, bytes] = {}
        self.file_s = 1.0
        self.linked: set[WorkerId] = set()
        self.kv_logs: dict[WorkerId, KvEventLog] = {}
        self.connects = 0

    async def connect(self, worker: WorkerId, address: str) -> ModelCard:
        await trio.lowlevel.checkpoint()
        self.connects += 1
        if worker in self.linked:
            raise Conflict(f"there is a link to {worker}")
        if worker not in self.cards:
            raise WorkerLost(f"no worker {worker}")
        self.linked.add(worker)
        return self.cards[worker]

    async def disconnect(self, worker: WorkerId) -> None:
        self.linked.discard(worker)
        await trio.lowlevel.checkpoint()

    def open(self, worker: WorkerId, request: EngineRequest, sink: StreamSink) -> AbstractContextManager[None]:
        raise NotImplementedError

    async def embed(self, worker: WorkerId, request: EngineRequest) -> list[float]:
        raise NotImplementedError

    async def read_file(self, worker: WorkerId, digest: Digest) -> bytes:
        await trio.sleep(self.file_s)
        if digest not in self.files:
            raise NotFound(f"no file {digest}")
        return self.files[digest]

    async def tokenize(self, worker: WorkerId, text: str, *, special: bool) -> list[int]:
        raise NotImplementedError

    async def ask_kv_events(
        self, worker: WorkerId, rank: int, start_id: int | None, take: Callable[[KvReply], None]
    ) -> None:
        await trio.lowlevel.checkpoint()
        if worker not in self.linked:
            raise WorkerLost(f"no link to {worker}")
        if worker not in self.kv_logs:
            raise NotImplementedHere("the worker's engine does not say")
        for reply in self.kv_logs[worker].answer(rank, start_id):
            await trio.lowlevel.checkpoint()
            take(reply)

    async def probe(self, worker: WorkerId) -> float:
        raise NotImplementedError
