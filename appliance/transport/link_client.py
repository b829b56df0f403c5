"""The front end's end of one link to one worker, with the pump that feeds the sinks of its streams.

Nothing here waits per token: `_take` runs from a read to the last flush of it without a task switch.
"""

import logging
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import trio

from appliance.core.errors import (
    ApplianceError,
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    LinkBroken,
    NotFound,
    WorkerLost,
    WorkerTimeout,
)
from appliance.core.identity import Digest, WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.ports import StreamSink
from appliance.core.records import RankLoad
from appliance.core.requests import EngineRequest, ModelCard
from appliance.transport.connection import Connection
from appliance.transport.error_codes import error_from
from appliance.transport.limits import LinkLimits
from appliance.transport.link_calls import LinkCalls
from appliance.transport.open_stream import OpenStream
from appliance.wire.framing import UNREADABLE, Buffer, MessageDecoder, broken_by, encode, to_frontend_decoder
from appliance.wire.link_messages import (
    PROTOCOL,
    Cancel,
    Draining,
    Failed,
    FilePart,
    Hello,
    KvAnswer,
    KvEvents,
    LoadReport,
    Ping,
    Pong,
    Request,
    Step,
    Text,
    ToFrontend,
    Tokens,
    Vector,
)
from appliance.wire.streams import ByteStream

LOG = logging.getLogger(__name__)
TakeNumberedEvents = Callable[[int, int, list[KvEvent]], None]
"""Called with a rank, the id of the first event, and events of the worker's cache. Must not raise."""
TakeLoads = Callable[[list[RankLoad]], None]
"""Called with what the ranks of the worker have to do. Must not raise."""
HEARTBEAT = 0  # number of the pings that nobody waits for, and of no stream


class _AnyHello(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The part of Hello that every protocol has."""

    protocol: int


_read_any_hello: MessageDecoder[_AnyHello] = MessageDecoder(_AnyHello)


class LinkClient:
    """One link. `run` keeps it alive; streams and calls may be opened between its `started` and its end."""

    def __init__(
        self,
        worker: WorkerId,
        stream: ByteStream,
        limits: LinkLimits | None = None,
        on_draining: Callable[[], None] | None = None,
        on_kv_events: TakeNumberedEvents | None = None,
        on_load: TakeLoads | None = None,
    ) -> None:
        self.worker = worker
        self.card: ModelCard | None = None
        """What the worker serves; None until it said Hello."""
        self.running = 0
        """Streams that ran in the worker, of all front ends, at the last heartbeat."""
        self.waiting = 0
        """Streams that waited in the worker at the last heartbeat."""
        self._limits = limits or LinkLimits()
        self._on_draining = on_draining
        self._on_kv_events = on_kv_events
        self._on_load = on_load
        self._connection = Connection(stream, self._limits)
        self._read = to_frontend_decoder().read
        self._next_number = count(HEARTBEAT + 1).__next__
        self._sinks: dict[int, StreamSink] = {}
        self.calls = LinkCalls(worker, self._limits, self._next_number, self._post, self._cancel)
        self._welcomed = trio.Event()
        self._reads = 0
        self._over = False

    @property
    def open_streams(self) -> int:
        """Streams whose end has not come yet."""
        return len(self._sinks)

    async def run(self, *, task_status: trio.TaskStatus[ModelCard] = trio.TASK_STATUS_IGNORED) -> ApplianceError:
        """Keep the link; `started` gives the worker's card. Returns why the link ended.

        Raises `WorkerLost` or `WorkerTimeout` when it ended before the card came. At the end, and when cancelled,
        every open stream and call gets `WorkerLost`, once.
        """
        try:
            fault = await self._connection.run(self._take, lambda: self._stay(task_status))
        finally:
            self._lose_all()
        if self.card is not None:
            return fault
        if isinstance(fault, WorkerTimeout):
            raise fault
        raise WorkerLost(f"cannot connect to worker {self.worker}: {fault.message}")

    def end(self, reason: str) -> None:
        """End the link now; `run` returns soon after."""
        self._connection.end(WorkerLost(reason))

    def open(self, request: EngineRequest, sink: StreamSink) -> OpenStream:
        """See `WorkerTransport.open`. Entering and leaving it need no task of their own.

        Raises on entry, beside `WorkerLost`, `BodyTooLarge` and `InvalidRequest` for what does not fit a frame.
        """
        return OpenStream(self, request, sink)

    async def read_file(self, digest: Digest) -> bytes:
        """See `WorkerTransport.read_file`. The card bounds the size."""
        for ref in self.card.files.values() if self.card is not None else ():
            if ref.digest == digest:
                return await self.calls.read_file(digest, ref.size_bytes)
        raise NotFound(f"cannot read file {digest}: it is not on the card of worker {self.worker}")

    def begin_stream(self, request: EngineRequest, sink: StreamSink) -> int:
        """Send the request; the number of its stream. See `open_stream.Link`."""
        number = self._next_number()
        self._post(number, Request(number, request))
        self._sinks[number] = sink
        return number

    def leave_stream(self, number: int) -> None:
        """Forget the stream; cancel it when it has not ended."""
        if self._sinks.pop(number, None) is not None:
            self._cancel(number)

    def _cancel(self, number: int) -> None:
        self._connection.post(Cancel(number))

    def _post(self, number: int, message: Any) -> None:
        """Send what belongs to a stream or a call."""
        if self._over or self.card is None:
            raise WorkerLost(f"cannot reach worker {self.worker}: there is no link to it")
        try:
            frame = encode(message)
        except (TypeError, ValueError, OverflowError) as fault:
            raise InvalidRequest("cannot send the request: it holds a value that has no wire form") from fault
        if len(frame) > self._limits.max_frame_bytes:
            raise BodyTooLarge(f"cannot send the request: it has {len(frame)} bytes, more than a frame holds")
        self._connection.outbox.post(frame)

    def _take(self, frames: list[Buffer]) -> None:
        """Hand all frames of one read to the sinks, then flush each touched sink once."""
        self._reads += 1
        if self.card is None and frames:
            self._welcome(frames.pop(0))
        read, sinks = self._read, self._sinks
        touched: dict[int, StreamSink] = {}
        try:
            for frame in frames:
                try:
                    message = read(frame)
                except UNREADABLE as fault:
                    raise broken_by(fault) from fault
                if type(message) is not Step:
                    self._take_other(message, touched)
                    continue
                for chunk in message.chunks:
                    number = chunk.stream
                    sink = sinks.get(number)
                    if sink is None:
                        continue  # cancelled, and this chunk was already under way
                    touched[number] = sink
                    if chunk.finish is not None:
                        del sinks[number]
                    try:
                        sink.on_chunk(chunk)
                    except Exception:
                        self._drop_sink(number, sink)
        finally:
            for number, sink in touched.items():
                try:
                    sink.flush()
                except Exception:
                    self._drop_sink(number, sink)

    def _take_other(self, message: ToFrontend, touched: dict[int, StreamSink]) -> None:
        match message:
            case Failed(stream=number):
                fault = error_from(message.code, message.message)
                if (sink := self._sinks.pop(number, None)) is None:
                    self.calls.on_reply(number, fault)
                else:
                    touched[number] = sink
                    self._tell(sink, fault)
            case Pong():
                self.running, self.waiting = message.running, message.waiting
                self.calls.on_reply(message.call, message)
            case Vector():
                self.calls.on_reply(message.stream, message)
            case KvEvents(rank, first_id, events):
                if self._on_kv_events is not None:
                    self._on_kv_events(rank, first_id, events)
            case LoadReport(loads):
                if self._on_load is not None:
                    self._on_load(loads)
            case FilePart() | Tokens() | Text() | KvAnswer():
                self.calls.on_reply(message.call, message)
            case Draining():
                if self._on_draining is not None:
                    self._on_draining()
            case _:
                raise LinkBroken(f"cannot use a {type(message).__name__} message here")

    def _welcome(self, frame: Buffer) -> None:
        """Check the first frame of the worker."""
        protocol = _read_any_hello.decode(frame).protocol
        if protocol != PROTOCOL:
            raise LinkBroken(f"it speaks link protocol {protocol}, this front end {PROTOCOL}")
        hello = to_frontend_decoder().decode(frame)
        if not isinstance(hello, Hello) or hello.worker != self.worker:
            raise LinkBroken("another worker answers at its address")
        self.card = hello.card
        self._welcomed.set()

    async def _stay(self, task_status: trio.TaskStatus[ModelCard]) -> None:
        """Wait for the card, then ask for a sign of life now and then. Raises when there is none."""
        limits = self._limits
        with trio.move_on_after(limits.hello_s):
            await self._welcomed.wait()
        if self.card is None:
            raise WorkerTimeout(f"cannot connect to worker {self.worker}: no card within {limits.hello_s:g} s")
        task_status.started(self.card)
        heard_at, reads = trio.current_time(), self._reads
        while True:
            self._connection.post(Ping(HEARTBEAT))
            await trio.sleep(limits.heartbeat_s)
            if self._reads != reads:
                heard_at, reads = trio.current_time(), self._reads
            elif trio.current_time() - heard_at >= limits.silence_s:
                raise LinkBroken(f"it was silent for {limits.silence_s:g} s")

    def _drop_sink(self, number: int, sink: StreamSink) -> None:
        """A sink raised, which sinks must not: end its stream, and nothing else."""
        LOG.exception("stream sink failed")
        if self._sinks.pop(number, None) is not None:
            self._cancel(number)
            self._tell(sink, InternalError("a fault of ours ended the stream"))

    def _tell(self, sink: StreamSink, fault: ApplianceError) -> None:
        try:
            sink.on_error(fault)
        except Exception:
            LOG.exception("stream sink failed at the end of its stream")

    def _lose_all(self) -> None:
        self._over = True
        sinks, self._sinks = self._sinks, {}
        why = self._connection.fault.message if self._connection.fault else "the link was closed"
        self.calls.fail_all(lambda: WorkerLost(f"cannot go on: worker {self.worker} was lost: {why}"))
        for number, sink in sinks.items():
            self._tell(sink, WorkerLost(f"cannot finish the stream: worker {self.worker} was lost: {why}"))
            try:
                sink.flush()
            except Exception:
                self._drop_sink(number, sink)
