"""Calls over a link that wait for one answer: embeddings, files, the worker's tokenizer, probes."""

import hashlib
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio

from appliance.core.errors import ApplianceError, LinkBroken, NotFound, WorkerTimeout
from appliance.core.identity import Digest, WorkerId
from appliance.core.kv_events import KvReply
from appliance.core.requests import EngineRequest
from appliance.transport.limits import LinkLimits
from appliance.wire.link_messages import (
    DetokenizeCall,
    FileCall,
    FilePart,
    KvAnswer,
    KvQuery,
    Ping,
    Pong,
    Request,
    Text,
    TokenizeCall,
    Tokens,
    Vector,
)

Reply = Pong | FilePart | Tokens | Text | Vector | KvAnswer
R = TypeVar("R", bound=Reply)
Post = Callable[[int, Any], None]
"""Sends the message under a number of the link; raises `WorkerLost` when the link is gone."""

FLOAT_BYTES = 4


class LinkCalls:
    """Matches answers to the calls that wait for them. Calls and streams of a link share their numbers.

    Every call raises `WorkerLost` when the link ends, and what the worker reported when it could not answer.
    """

    def __init__(
        self,
        worker: WorkerId,
        limits: LinkLimits,
        next_number: Callable[[], int],
        post: Post,
        cancel: Callable[[int], None],
    ) -> None:
        self._worker = worker
        self._limits = limits
        self._next_number = next_number
        self._post = post
        self._cancel = cancel
        self._waiting: dict[int, _Inbox] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def on_reply(self, number: int, reply: Reply | ApplianceError) -> None:
        """Hand an answer to its call; answers that nobody waits for are dropped."""
        if inbox := self._waiting.get(number):
            inbox.put(reply)

    def fail_all(self, error_for: Callable[[], ApplianceError]) -> None:
        """The link ended: no call gets an answer any more."""
        for inbox in self._waiting.values():
            inbox.put(error_for())

    async def embed(self, request: EngineRequest) -> list[float]:
        """The embedding of a request. No deadline but the request's own. Cancelling cancels the work."""
        with self._call() as (number, inbox):
            self._post(number, Request(number, request))
            try:
                vector = await inbox.take(Vector)
            except trio.Cancelled:
                self._cancel(number)
                raise
        return _floats(vector.values)

    async def read_file(self, digest: Digest, size_bytes: int) -> bytes:
        """A file of the worker's card, verified. Raises `NotFound`, `WorkerTimeout` for a pause of `call_s`."""
        content, hasher = bytearray(), hashlib.sha256()
        with self._call() as (number, inbox):
            self._post(number, FileCall(number, digest))
            last = False
            while not last:
                part = await self._soon(inbox, FilePart)
                if part.missing:
                    raise NotFound(f"cannot read file {digest}: worker {self._worker} does not have it")
                content += part.data
                hasher.update(part.data)
                last = part.last
                if len(content) > size_bytes:
                    raise LinkBroken(f"cannot read file {digest}: it has more than the {size_bytes} bytes on the card")
        if hasher.hexdigest() != digest:
            raise LinkBroken(f"cannot read file {digest}: what worker {self._worker} sent has another digest")
        return bytes(content)

    async def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text by the worker's own tokenizer. Raises `WorkerTimeout`."""
        with self._call() as (number, inbox):
            self._post(number, TokenizeCall(number, text, special))
            return (await self._soon(inbox, Tokens)).token_ids

    async def detokenize(self, token_ids: list[int]) -> bytes:
        """Bytes of tokens by the worker's own tokenizer. Raises `WorkerTimeout`."""
        with self._call() as (number, inbox):
            self._post(number, DetokenizeCall(number, token_ids))
            return (await self._soon(inbox, Text)).data

    async def ask_kv_events(self, rank: int, start_id: int | None, take: Callable[[KvReply], None]) -> None:
        """See `KvEventHistory`. Raises `WorkerTimeout` for a pause of `call_s`. A checkpoint before each piece."""
        with self._call() as (number, inbox):
            self._post(number, KvQuery(number, rank, start_id))
            last = False
            while not last:
                await trio.lowlevel.checkpoint()  # a long answer must not keep the streams from going on
                reply = (await self._soon(inbox, KvAnswer)).reply
                last = reply.last
                take(reply)

    async def probe(self) -> float:
        """Seconds until a ping came back. Raises `WorkerTimeout`."""
        asked_at = trio.current_time()
        with self._call() as (number, inbox):
            self._post(number, Ping(number))
            await self._soon(inbox, Pong)
        return trio.current_time() - asked_at

    @contextmanager
    def _call(self) -> "Iterator[tuple[int, _Inbox]]":
        number, inbox = self._next_number(), _Inbox(self._worker)
        self._waiting[number] = inbox
        try:
            yield number, inbox
        finally:
            del self._waiting[number]

    async def _soon(self, inbox: "_Inbox", kind: type[R]) -> R:
        with trio.move_on_after(self._limits.call_s):
            return await inbox.take(kind)
        raise WorkerTimeout(f"cannot get an answer from worker {self._worker} within {self._limits.call_s:g} s")


class _Inbox:
    """Answers to one call, in order."""

    def __init__(self, worker: WorkerId) -> None:
        self._worker = worker
        self._replies: deque[Reply | ApplianceError] = deque()
        self._arrived = trio.Event()

    def put(self, reply: Reply | ApplianceError) -> None:
        self._replies.append(reply)
        self._arrived.set()

    async def take(self, kind: type[R]) -> R:
        """The next answer. Raises it when it is an error, `LinkBroken` when it is of another kind."""
        if not self._replies:
            self._arrived = trio.Event()
            await self._arrived.wait()  # bounded by the caller, by heartbeats and by the request's own deadline
        reply = self._replies.popleft()
        if isinstance(reply, ApplianceError):
            raise reply
        if not isinstance(reply, kind):
            raise LinkBroken(f"cannot use the answer of worker {self._worker}: it answers another call")
        return reply


def _floats(values: bytes) -> list[float]:
    """Floats from little-endian float32 bytes. Raises `LinkBroken` for a cut value."""
    if len(values) % FLOAT_BYTES:
        raise LinkBroken("cannot read an embedding: it ends inside a value")
    vector = array("f", values)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector.tolist()
