"""The worker's end of one link to one front end: requests and calls in, steps and answers out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from appliance.core.errors import ApplianceError, LinkBroken, NotFound, NotImplementedHere, Overloaded
from appliance.core.identity import Digest, WorkerId
from appliance.core.ports import Engine, FileSource, KvEventLog, TokenizeSource
from appliance.core.requests import EngineRequest, EngineUsage, ModelCard, TokenChunk
from appliance.transport.connection import Connection
from appliance.transport.error_codes import code_and_message
from appliance.transport.limits import LinkLimits
from appliance.transport.worker_load import WorkerLoad
from appliance.transport.worker_stream import CANCELLED, WorkerStream
from appliance.wire.framing import Buffer, to_worker_decoder
from appliance.wire.link_messages import (
    PROTOCOL,
    Cancel,
    DetokenizeCall,
    Draining,
    Failed,
    FileCall,
    FilePart,
    Hello,
    KvAnswer,
    KvQuery,
    Ping,
    Pong,
    Request,
    Step,
    Text,
    TokenizeCall,
    Tokens,
    ToWorker,
)
from appliance.wire.streams import ByteStream

OnEnded = Callable[[EngineRequest, float, EngineUsage | None, str], None]
"""Called when a stream has ended: its request, the `perf_counter` of its start, what it used if it came to its end,
and the code of its error, `cancelled`, or nothing."""

FILE_PART_BYTES = 64 * 1024
GATHER_LIMIT = 4096  # chunks held for one Step; an engine that emits more in one pass gives several


@dataclass(frozen=True, kw_only=True)
class WorkerSide:
    """What all links of one worker share."""

    worker: WorkerId
    card: ModelCard
    engine: Engine
    files: FileSource | None = None
    kv_log: KvEventLog | None = None
    """None: the engine does not say what its cache holds."""
    limits: LinkLimits = field(default_factory=LinkLimits)
    load: WorkerLoad
    on_ended: OnEnded | None = None


class WorkerLink:
    """One link. All chunks that its streams emit in one pass of the scheduler go out as one Step."""

    def __init__(self, stream: ByteStream, side: WorkerSide) -> None:
        self._side = side
        self._connection = Connection(stream, side.limits, self._send_gathered)
        self._decode = to_worker_decoder().decode
        self._streams: dict[int, WorkerStream] = {}
        self._calls = 0
        self._gathered: list[TokenChunk] = []
        self.follows_cache = False
        """The front end has asked what the cache holds, and is told of every change since."""

    async def run(self) -> ApplianceError:
        """Say Hello and serve the front end until the link ends; returns why. Cancelling cancels its streams."""
        self._post(Hello(PROTOCOL, self._side.worker, self._side.card))
        if self._side.load.draining:
            self.tell_draining()
        return await self._connection.run(self._take)

    def tell_draining(self) -> None:
        """Let the front end know that new streams are refused from now on."""
        self._post(Draining())

    def post_frame(self, frame: bytes) -> None:
        """Send a frame that was encoded once for all links."""
        self._send_gathered()
        self._connection.outbox.post(frame)

    def evict_all(self) -> None:
        """End every stream with `worker_lost`."""
        for stream in self._streams.values():
            stream.evict()

    def end(self, reason: str) -> None:
        """End the link, and its streams."""
        self._connection.end(LinkBroken(reason))

    async def sent(self) -> None:
        """Return when everything was handed to the front end, or the link ended."""
        await self._connection.outbox.sent()

    def _take(self, frames: list[Buffer]) -> None:
        for frame in frames:
            self._take_message(self._decode(frame))

    def _take_message(self, message: ToWorker) -> None:
        match message:
            case Request(stream=number, request=request):
                self._begin_stream(number, request)
            case Cancel(stream=number):
                if stream := self._streams.get(number):  # else it has just ended
                    stream.cancel()
            case Ping(call=number):
                self._post(Pong(number, self._side.load.running, self._side.load.waiting))
            case FileCall(call=number, digest=digest):
                self._begin_call(number, lambda: self._send_file(number, digest))
            case TokenizeCall(call=number):
                self._begin_call(number, lambda: self._tokenize(message))
            case DetokenizeCall(call=number):
                self._begin_call(number, lambda: self._detokenize(message))
            case KvQuery(call=number):
                self.follows_cache = True
                self._begin_call(number, lambda: self._tell_cache(message))

    def _begin_stream(self, number: int, request: EngineRequest) -> None:
        if number in self._streams:
            raise LinkBroken(f"cannot open stream {number}: it is open")
        if self._side.load.draining:
            self._fail(number, Overloaded("cannot take the request: the worker is draining"))
        elif self._is_full():
            self._fail(number, Overloaded("cannot take the request: too many streams are open"))
        else:
            stream = WorkerStream(number, request, self._connection.outbox, self._add_chunk, self._post)
            self._streams[number] = stream
            self._side.load.enter()
            self._connection.start(lambda: self._run_stream(number, stream))

    async def _run_stream(self, number: int, stream: WorkerStream) -> None:
        started, outcome, on_ended = perf_counter(), CANCELLED, self._side.on_ended
        try:
            outcome = await stream.run(self._side.engine)
        finally:
            del self._streams[number]
            self._side.load.leave(perf_counter() - started, outcome)
            if on_ended is not None:
                on_ended(stream.request, started, stream.usage, outcome)

    def _begin_call(self, number: int, answer: Callable[[], Awaitable[None]]) -> None:
        if self._is_full():
            self._fail(number, Overloaded("cannot take the call: too many are open"))
        else:
            self._calls += 1
            self._connection.start(lambda: self._run_call(number, answer))

    async def _run_call(self, number: int, answer: Callable[[], Awaitable[None]]) -> None:
        try:
            await answer()
        except Exception as fault:
            self._fail(number, fault)
        finally:
            self._calls -= 1

    async def _send_file(self, number: int, digest: Digest) -> None:
        try:
            content = memoryview(self._files().read_file(digest))
        except NotFound:
            self._post(FilePart(number, b"", last=True, missing=True))
            return
        for at in range(0, max(len(content), 1), FILE_PART_BYTES):
            await self._connection.outbox.room()  # a checkpoint: steps go out between the parts
            stop = at + FILE_PART_BYTES
            self._post(FilePart(number, bytes(content[at:stop]), last=stop >= len(content)))

    async def _tokenize(self, call: TokenizeCall) -> None:
        self._post(Tokens(call.call, await self._tokenizer().tokenize(call.text, special=call.special)))

    async def _detokenize(self, call: DetokenizeCall) -> None:
        self._post(Text(call.call, await self._tokenizer().detokenize(call.token_ids)))

    async def _tell_cache(self, query: KvQuery) -> None:
        if self._side.kv_log is None:
            raise NotImplementedHere("cannot tell what the cache holds: the worker's engine does not say")
        for reply in self._side.kv_log.answer(query.rank, query.start_id):
            self._post(KvAnswer(query.call, reply))
            await self._connection.outbox.room()  # a checkpoint: steps go out between the pieces

    def _files(self) -> FileSource:
        if self._side.files is None:
            raise NotFound("the worker has no files")
        return self._side.files

    def _tokenizer(self) -> TokenizeSource:
        if not isinstance(self._side.engine, TokenizeSource):
            raise NotImplementedHere("cannot tokenize: the worker's engine does not offer it")
        return self._side.engine

    def _is_full(self) -> bool:
        return len(self._streams) + self._calls >= self._side.limits.max_streams

    def _fail(self, number: int, fault: Exception) -> None:
        self._post(Failed(number, *code_and_message(fault)))

    def _add_chunk(self, chunk: TokenChunk) -> None:
        self._side.load.chunks += 1
        self._gathered.append(chunk)
        if len(self._gathered) == 1:
            self._connection.outbox.wake()
        elif len(self._gathered) >= GATHER_LIMIT:
            self._send_gathered()

    def _send_gathered(self) -> None:
        if self._gathered:
            chunks, self._gathered = self._gathered, []
            self._connection.post(Step(chunks))

    def _post(self, message: Any) -> None:
        """Send a message behind the chunks that were emitted before it."""
        self._send_gathered()
        self._connection.post(message)
