"""Requests to one server over connections that are kept and used again."""

import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from appliance.core.errors import EngineFailed, WorkerTimeout
from appliance.engines.http.address import ServerAddress
from appliance.engines.http.connection import HttpConnection, ServerLost
from appliance.engines.http.sse import SseReader

CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
CONNECT_S = 5.0
MOST_IDLE = 32  # connections kept for later; servers close them after a while by themselves
LARGEST_BODY = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. Raises `EngineFailed` when it is none."""
        return read_json(self.body)


class StreamedAnswer:
    """An answer whose head has come; the body is still arriving."""

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection

    @property
    def status(self) -> int:
        return self._connection.status

    @property
    def is_event_stream(self) -> bool:
        return self._connection.headers.get("content-type", "").startswith("text/event-stream")

    async def read_all(self) -> Answer:
        """The whole body. Raises `ServerLost`, and `EngineFailed` for one that never ends."""
        parts: list[bytes] = []
        size = 0
        while data := await self._connection.read_some():
            parts.append(data)
            size += len(data)
            if size > LARGEST_BODY:
                raise EngineFailed("the engine sent an answer that is too long")
        return Answer(status=self.status, headers=self._connection.headers, body=b"".join(parts))

    async def read_events(self, reader: SseReader) -> list[bytes] | None:
        """The data of the next server-sent events, all that came in one read; None at the end of the stream."""
        while data := await self._connection.read_some():
            if events := reader.push(data):
                return events
        return None


class HttpClient:
    """Talks to one server. Requests may overlap: each has a connection of its own while it runs.

    Cancelling a request, or leaving the block of a streamed answer early, closes its connection, so the server sees a
    disconnect. Every failure to reach the server is `ServerLost`.
    """

    def __init__(self, address: ServerAddress, headers: Mapping[str, str] | None = None) -> None:
        self.address = address
        self._headers = dict(headers or {})
        self._tls = _trusting_context() if address.scheme == "https" else None
        self._idle: list[HttpConnection] = []
        self._closed = False

    async def request(
        self, method: str, path: str, body: Any = None, *, deadline_s: float, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One whole exchange; any status is an answer. Raises `ServerLost`, and `WorkerTimeout` at the deadline."""
        with trio.move_on_after(deadline_s):
            async with self.stream(method, path, body, headers=headers) as answer:
                return await answer.read_all()
        raise WorkerTimeout(f"{self.address.url} gave no answer within {deadline_s:g} s")

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[StreamedAnswer]:
        """An exchange whose body is read while it comes. The head has no deadline but the caller's: a queue is long."""
        data = self._encode(method, path, body, headers or {})
        connection = await self._exchange(data)
        try:
            yield StreamedAnswer(connection)
        finally:
            await self._put_back(connection)

    async def close(self) -> None:
        """Close the idle connections; those in use close when their exchange ends."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()

    async def _exchange(self, data: bytes) -> HttpConnection:
        """A connection on which the request was sent and the answer's head has come."""
        while True:
            used = bool(self._idle)
            connection = self._idle.pop() if used else await self._connect()
            try:
                await connection.send(data)
                await connection.read_head()
            except ServerLost:
                await connection.close()
                if used and connection.was_silent:
                    continue  # it was closed while idle, and nothing has been done with the request
                raise
            except BaseException:
                await connection.close()
                raise
            return connection

    async def _connect(self) -> HttpConnection:
        with trio.move_on_after(CONNECT_S):
            return await HttpConnection.open(self.address, self._tls)
        raise ServerLost(f"cannot reach {self.address.url}: no connection within {CONNECT_S:g} s")

    async def _put_back(self, connection: HttpConnection) -> None:
        if connection.reusable and len(self._idle) < MOST_IDLE and not self._closed:
            self._idle.append(connection)
        else:
            await connection.close()

    def _encode(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> bytes:
        data = b"" if body is None else msgspec.json.encode(body)
        fields = {"host": self.address.authority, "accept": "*/*", **self._headers, **headers}
        if body is not None:
            fields["content-type"] = "application/json"
        if body is not None or method == "POST":
            fields["content-length"] = str(len(data))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {self.address.prefix}{path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + data


def _trusting_context() -> ssl.SSLContext:
    """Trusts what the system trusts; the one-file build looks where its own build machine kept that."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        found = next((path for path in CA_FILES if os.path.exists(path)), None)
        if found is not None:
            context.load_verify_locations(found)
    return context


def read_json(data: bytes) -> Any:
    """Decoded JSON of an engine. Raises `EngineFailed` when it is none."""
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        raise EngineFailed("the engine answered with something that is no JSON") from None
