"""The audit log: chat requests as they were received, with their answers, handed to a writer beside the work.

It exists only where the settings ask for it: nothing else writes down what requests say.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec
import trio

from appliance.core.generation import GenerationRequest
from appliance.core.identity import RequestId
from appliance.frontend.audit_tape import TapedFormat
from appliance.frontend.streams.outcome import Usage
from appliance.frontend.streams.seams import AnswerFormat

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
HELD_BYTES = 64 * 1024 * 1024
"""Bodies that wait to be written, all together."""
FLUSH_S = 2.0

Decode = Callable[[bytes, RequestId], GenerationRequest]
MakeFormat = Callable[[GenerationRequest], AnswerFormat]
Sink = Callable[[bytes], None]
"""Writes one line; blocks, and raises `OSError`. Called in one thread at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One chat request that has ended."""

    timestamp_ms: int
    """Since the log was begun."""
    request: GenerationRequest
    body: bytes
    response: Callable[[], bytes] | None
    """Makes the answer in one piece; None: there was none, because the request failed or its client went away."""

    def line(self) -> bytes:
        """The record as one line of JSON."""
        event: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "request_id": self.request.id,
            "requested_streaming": self.request.stream,
            "model": self.request.model,
            "request": _on_one_line(self.body),
        }
        if self.response is not None:
            event["response"] = msgspec.Raw(self.response())
        return msgspec.json.encode({"timestamp": self.timestamp_ms, "event": event}) + b"\n"


class AuditLog:
    """Takes records and has them written in a thread. What cannot be kept or written is counted and said once."""

    def __init__(self, sinks: Sequence[Sink], *, capacity: int, force: bool, count: Callable[[str, int], None]) -> None:
        """`force`: take every chat request. `count` hears what became of how many records: `written`, `dropped`."""
        self._sinks, self._capacity, self._force, self._count = sinks, capacity, force, count
        self._began = time.monotonic()
        self._records: deque[AuditRecord] = deque()
        self._held_bytes = 0
        self._wake = trio.Event()
        self._writing = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self._full = False
        self._failure = ""

    def begin(self, body: bytes) -> "AuditEntry | None":
        """What writes a chat request down; None for one that is not to be."""
        return AuditEntry(self, body) if self._force or _wants_storing(body) else None

    def post(self, request: GenerationRequest, body: bytes, response: Callable[[], bytes] | None) -> None:
        """A request has ended. Never waits and never fails: without room its record is dropped."""
        if len(self._records) >= self._capacity or self._held_bytes + len(body) > HELD_BYTES:
            self._count("dropped", 1)
            if not self._full:
                self._full = True
                log.warning("audit records are dropped: %d wait to be written", len(self._records))
            return
        since_ms = int((time.monotonic() - self._began) * 1e3)
        self._records.append(AuditRecord(timestamp_ms=since_ms, request=request, body=body, response=response))
        self._held_bytes += len(body)
        self._wake.set()

    async def run(self) -> None:
        """Write for ever. Cancelling waits for the records that are just being written."""
        while True:
            await self._wake.wait()  # no deadline: nothing to write
            self._wake = trio.Event()
            await self._write_all()

    async def flush(self) -> None:
        """Write what is left before the process ends, for `FLUSH_S`; a write that hangs is waited for."""
        with trio.move_on_after(FLUSH_S, shield=True):  # shield: what has ended must be on record
            await self._write_all()
        if left := len(self._records):
            self._count("dropped", left)
            log.warning("audit records are lost: %d were not written in time", left)

    async def _write_all(self) -> None:
        async with self._writing:
            while self._records:
                batch, self._records, self._held_bytes = list(self._records), deque(), 0
                written, failure = await trio.to_thread.run_sync(self._write, batch, limiter=self._thread)
                self._count("written", written)
                self._count("dropped", len(batch) - written)
                self._full = False
                self._say(failure)

    def _write(self, batch: list[AuditRecord]) -> tuple[int, str]:
        """Runs in the thread: how many records reached every sink, and why others did not."""
        written, failure = 0, ""
        for record in batch:
            fault = self._write_one(record)
            written += not fault
            failure = fault or failure
        return written, failure

    def _write_one(self, record: AuditRecord) -> str:
        try:
            line = record.line()
        except Exception as error:  # of one odd request; the others must not suffer
            return f"any sink: {type(error).__name__} in a record"
        fault = ""
        for sink in self._sinks:
            try:
                sink(line)
            except OSError as error:
                fault = f"{error.filename or 'a sink'}: {error.strerror or error}"
        return fault

    def _say(self, failure: str) -> None:
        if failure and not self._failure:
            log.error("cannot write audit records to %s", failure)
        elif self._failure and not failure:
            log.info("audit records are written again")
        self._failure = failure


class AuditEntry:
    """One request on its way: wraps how it is decoded and answered, and posts its record when the block is left.

    What was never a valid request leaves no record.
    """

    def __init__(self, log: AuditLog, body: bytes) -> None:
        self._log, self._body = log, body
        self._request: GenerationRequest | None = None
        self._tape: TapedFormat | None = None

    def decoding(self, decode: Decode) -> Decode:
        """The same decoder."""

        def decode_and_keep(body: bytes, id: RequestId) -> GenerationRequest:
            self._request = decode(body, id)
            return self._request

        return decode_and_keep

    def taping(self, make: MakeFormat) -> MakeFormat:
        """The same format, with what goes through it kept."""

        def make_taped(request: GenerationRequest) -> AnswerFormat:
            self._tape = TapedFormat(make(request))
            return self._tape

        return make_taped

    def used(self, usage: Usage) -> None:
        """The answer has ended, and has come to this."""
        if self._tape is not None:
            self._tape.usage = usage

    def __enter__(self) -> "AuditEntry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._request is not None:
            self._log.post(self._request, self._body, None if self._tape is None else self._tape.response())


class _Stored(msgspec.Struct):
    store: Any = None


def _wants_storing(body: bytes) -> bool:
    if b'"store"' not in body:
        return False
    try:
        return msgspec.json.decode(body, type=_Stored).store is True
    except (msgspec.DecodeError, RecursionError):
        return False  # it will be refused


def _on_one_line(body: bytes) -> msgspec.Raw:
    # Strings that nobody has decoded may hold bytes that are no UTF-8.
    return msgspec.Raw(msgspec.json.format(body, indent=-1).decode("utf-8", "replace").encode())
