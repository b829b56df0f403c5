"""One request and its answer: what a handler is given."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import msgspec

from appliance.core.errors import InternalError
from appliance.web.heads import LAST_CHUNK, Headers, encode_headers, has_no_body, head_start
from appliance.web.outbox import Outbox
from appliance.web.request import HttpRequest


class Line(Protocol):
    """What an exchange needs of its connection."""

    def take_over(self) -> None:
        """Leave reading to the handler."""

    async def receive(self) -> bytes:
        """The next bytes, once taken over; empty at the end. Cancelling loses nothing."""
        ...


class RawStream:
    """The bytes of a connection that speaks another protocol after a 101."""

    __slots__ = ("drained", "receive", "send")

    def __init__(self, line: Line, outbox: Outbox) -> None:
        self.receive = line.receive
        """Await it for the next bytes; empty at the end. Cancelling loses nothing."""
        self.send = outbox.send
        """Hand bytes over. Never blocks or raises."""
        self.drained = outbox.drained
        """Await it until the kernel has taken everything. Raises `ClientStalled`."""


class Exchange(msgspec.Struct, eq=False):
    """Answers one request: `respond`, or `start_stream`, then any `write`, `flush`, and one `end`.

    All methods but `drained` may be called from any task of the trio thread. They never block, and never raise
    because of the client: once it is gone (`broken`) they do nothing. Calls after the end do nothing either, so that
    a late one cannot reach the next request's answer. When the client goes away, the handler is cancelled.
    """

    _line: Line
    _outbox: Outbox
    request: HttpRequest
    _date_line: bytes
    keep_alive: bool
    """The connection can serve another request after this answer."""
    started: bool = False
    """A status was chosen: too late for another answer."""
    finished: bool = False
    """The whole answer is with the connection."""
    status: int = 0
    """Of the answer; 0 before one is chosen."""
    extra_headers: bytes = b""
    """Header lines for any answer, such as CORS; set before it starts."""
    _queue: list[bytes] = []
    """Body pieces of the next chunk."""
    _out: bytes = b""
    """The head of a stream, until the first send."""
    _chunked: bool = False
    _bare: bool = False
    """HEAD, 204, 304: no body is sent."""
    _sent: bool = False

    @property
    def broken(self) -> bool:
        """The client is gone or was cut off."""
        return self._outbox.broken

    @property
    def pending(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._outbox.pending

    def respond(self, status: int, body: bytes, content_type: str = "application/json", headers: Headers = ()) -> None:
        """The whole answer in one send. Raises `InternalError` when an answer was already started."""
        if self.started:
            raise InternalError("cannot answer a request twice")
        self.started = self.finished = self._sent = True
        self.status = status
        if has_no_body(status):
            self._outbox.send(self._head(status, content_type if body else "", headers, b""))
            return
        head = self._head(status, content_type, headers, b"content-length: %d\r\n" % len(body))
        self._outbox.send(head if self.request.method == "HEAD" else head + body)

    def start_stream(self, status: int = 200, content_type: str = "text/event-stream", headers: Headers = ()) -> None:
        """Begin an answer of unknown length; the head goes out with the first flush.

        Raises `InternalError` when an answer was already started.
        """
        if self.started:
            raise InternalError("cannot answer a request twice")
        self.started = True
        self.status = status
        self._bare = self.request.method == "HEAD" or has_no_body(status)
        framing = b""
        if has_no_body(status):
            pass
        elif self.request.http10:
            self.keep_alive = False  # the end of the connection is the end of the body
        else:
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        self._out = self._head(status, content_type, headers, framing)

    def write(self, data: bytes) -> None:
        """Queue one piece of the body. No system call."""
        if data and not self.finished:
            self._queue.append(data)

    def flush(self) -> None:
        """Send everything queued as one HTTP chunk in one direct send; what the kernel refuses stays buffered."""
        if self.finished:
            return
        data = self._take_queue()
        if data:
            self._sent = True
            self._outbox.send(data)

    def end(self) -> None:
        """Send what is queued together with the end of the body."""
        if self.finished or not self.started:
            return
        self.finished = self._sent = True
        data = self._take_queue()
        if self._chunked and not self._bare:
            data += LAST_CHUNK
        if data:
            self._outbox.send(data)

    def abort(self) -> None:
        """Close the connection hard and cancel the handler: the client must not take the answer for complete."""
        self.finished = True
        self._queue.clear()
        self._outbox.break_off()

    def drained(self) -> Coroutine[Any, Any, None]:
        """Await it until the kernel has taken everything; no checkpoint when it already has.

        Raises `ClientStalled` when the client was cut off (no byte taken for `send_stall_s`, or `send_buffer_bytes`
        behind) or has gone. Cancelling loses nothing.
        """
        return self._outbox.drained()

    def rewind(self) -> bool:
        """Take back a stream of which nothing was sent, so that an error can be answered. False: too late."""
        if self._sent:
            return False
        self.started = False
        self._chunked = self._bare = False
        self._queue.clear()
        self._out = b""
        return True

    def switch_protocols(self, headers: Headers) -> RawStream:
        """Answer 101 and hand over the connection's bytes; it is closed when the handler returns."""
        if self.started:
            raise InternalError("cannot answer a request twice")
        self.started = self.finished = self._sent = True
        self.status = 101
        self.keep_alive = False
        self._line.take_over()
        self._outbox.send(head_start(101, "") + encode_headers(headers) + b"\r\n")
        return RawStream(self._line, self._outbox)

    def _take_queue(self) -> bytes:
        queue, out = self._queue, self._out
        if out:
            self._out = b""
        if not queue:
            return out
        body = queue[0] if len(queue) == 1 else b"".join(queue)
        queue.clear()
        if self._bare:
            return out
        if self._chunked:
            return b"%s%x\r\n%s\r\n" % (out, len(body), body)
        return out + body

    def _head(self, status: int, content_type: str, headers: Headers, framing: bytes) -> bytes:
        request = self.request
        extra = self.extra_headers
        if headers:
            extra += encode_headers(headers)
        request_id = request.headers.get(b"x-request-id")
        if request_id is not None:
            extra += b"x-request-id: %s\r\n" % request_id
        if not self.keep_alive:
            extra += b"connection: close\r\n"
        elif request.http10:
            extra += b"connection: keep-alive\r\n"
        return b"".join((head_start(status, content_type), self._date_line, framing, extra, b"\r\n"))


Handler = Callable[[Exchange], Awaitable[None]]
"""Answers one exchange. May raise any `ApplianceError` before the answer starts; it becomes the answer."""
