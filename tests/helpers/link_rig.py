"""A worker's link server and a front end's links in one process, joined by a unix socket or an in-process pair."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import trio

from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.ports import KvEventLog
from appliance.core.requests import EngineRequest, ModelCard, StopConditions, Task
from appliance.transport.limits import LinkLimits
from appliance.transport.link_server import LinkServer
from appliance.transport.links import Links
from appliance.transport.nurseries import open_inner_nursery
from appliance.wire.pair import open_pair
from appliance.wire.sockets import connect_unix
from appliance.wire.streams import ByteStream
from tests.fakes.stream_sinks import RecordingSink
from tests.fakes.token_engine import TokenEngine, make_card
from tests.helpers.faulty_stream import FaultyStream
from tests.helpers.waiting import until

Medium = Literal["unix", "pair"]
WORKER = WorkerId("w")
SHORT_LIMITS = LinkLimits(heartbeat_s=0.05, silence_s=0.2, stall_s=0.3, hello_s=0.3, call_s=0.3)


@dataclass
class LinkRig:
    """Both ends of a transport, and what the front end was told."""

    medium: Medium
    engine: TokenEngine
    server: LinkServer
    links: Links
    path: Path
    nursery: trio.Nursery
    lost: list[tuple[WorkerId, str]] = field(default_factory=list)
    draining: list[WorkerId] = field(default_factory=list)
    kv_events: list[tuple[WorkerId, int, int, list[KvEvent]]] = field(default_factory=list)
    dialed: list[FaultyStream] = field(default_factory=list)

    async def dial(self) -> FaultyStream:
        """A fresh connection to the server, with switches."""
        if self.medium == "unix":
            stream: ByteStream = await connect_unix(self.path, deadline_s=1)
        else:
            stream, far = open_pair()
            self.nursery.start_soon(self.server.serve, far)
        self.dialed.append(FaultyStream(stream))
        return self.dialed[-1]

    async def connect(self) -> FaultyStream:
        """Link the front end to the worker; the switches of its end."""
        stream = await self.dial()
        await self.links.attach(WORKER, stream)
        return stream

    async def settle(self) -> None:
        """Wait until no stream is open on either side; fails when one leaks."""
        with trio.fail_after(2):
            await self.server.load.idle()
        await until(lambda: not self.engine.running)
        links = self.links.workers().values()
        await until(lambda: not any(link.open_streams or len(link.calls) for link in links))


@asynccontextmanager
async def open_link_rig(
    medium: Medium,
    folder: Path,
    engine: TokenEngine | None = None,
    *,
    card: ModelCard | None = None,
    limits: LinkLimits | None = None,
    kv_log: KvEventLog | None = None,
) -> AsyncIterator[LinkRig]:
    """A rig with no link yet."""
    engine = engine or TokenEngine()
    path = folder / "w.sock"
    server = LinkServer(engine, card or make_card(), path, worker=WORKER, kv_log=kv_log, limits=limits)
    async with open_inner_nursery() as nursery:
        if medium == "unix":
            await nursery.start(server.run)
        lost: list[tuple[WorkerId, str]] = []
        draining: list[WorkerId] = []
        kv_events: list[tuple[WorkerId, int, int, list[KvEvent]]] = []
        links = Links(
            nursery,
            limits=limits,
            on_lost=lambda worker, reason: lost.append((worker, reason)),
            on_draining=draining.append,
            on_kv_events=lambda *batch: kv_events.append(batch),
        )
        rig = LinkRig(medium, engine, server, links, path, nursery, lost, draining, kv_events)
        try:
            yield rig
        finally:
            for stream in rig.dialed:
                stream.close()
        nursery.cancel_scope.cancel()


def make_request(tokens: int = 5, *, task: Task = "generate", deadline_s: float | None = None) -> EngineRequest:
    """A request for so many tokens."""
    return EngineRequest(
        id=RequestId("r"),
        model=ModelName("m"),
        token_ids=[1, 2, 3],
        task=task,
        stop=StopConditions(max_tokens=tokens),
        deadline_s=deadline_s,
    )


async def run_stream(rig: LinkRig, sink: RecordingSink, tokens: int = 5) -> None:
    """A stream of so many tokens, from its start to its end."""
    with rig.links.open(WORKER, make_request(tokens), sink):
        with trio.fail_after(5):
            await sink.ended.wait()
