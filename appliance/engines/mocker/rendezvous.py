"""Where the halves of split requests meet over TCP: a decode half connects, names its room, and is told the outcome.

Nothing else crosses the connection: a mocked KV cache has no bytes, and its transfer is part of the prefill half.
"""

import struct
from enum import IntEnum

import msgspec
import trio

from appliance.core.errors import EngineFailed, WorkerLost, WorkerTimeout
from appliance.core.requests import EngineRequest, KvTransfer
from appliance.engines.admission import CLOSED
from appliance.engines.mocker.rooms import Rooms

HOST = "127.0.0.1"
CONNECT_S = 5.0
ASK_S = 5.0
"""Longest wait for a peer that has connected to say which room it wants, or to take the answer."""
MAGIC = b"KVR1"
QUESTION = struct.Struct(">4sQ")
"""Magic and room."""
ANSWER = struct.Struct(">4sBI")
"""Magic, outcome, prompt tokens."""


class Outcome(IntEnum):
    """What became of a prefill half."""

    DONE = 1
    FAILED = 2
    ABSENT = 3


class Rendezvous:
    """The meeting point of a prefill worker, and the way of a decode worker to that of another one."""

    def __init__(self) -> None:
        self.rooms = Rooms()
        self._listeners: list[trio.SocketListener] = []
        self._fetching: set[trio.CancelScope] = set()

    async def open(self, port: int) -> int:
        """Listen on a port, 0 for any; the port that it became. Raises `EngineFailed`."""
        try:
            self._listeners = await trio.open_tcp_listeners(port, host=HOST)
        except OSError as error:
            raise EngineFailed(f"cannot listen on bootstrap port {port}: {error.strerror}") from None
        number: int = self._listeners[0].socket.getsockname()[1]
        return number

    async def serve(self) -> None:
        """Answer decode halves until cancelled; returns at once when nothing was opened."""
        listeners, self._listeners = self._listeners, []  # they are closed at the end of this
        if listeners:
            await trio.serve_listeners(self.answer, listeners)

    async def answer(self, stream: trio.abc.Stream) -> None:
        """One decode half on its connection. A stranger is hung up on."""
        async with stream:
            try:
                question = b""
                with trio.move_on_after(ASK_S):
                    question = await _receive(stream, QUESTION.size)
                if not question.startswith(MAGIC):
                    return
                tokens = await self.rooms.wait(QUESTION.unpack(question)[1])
                outcome = Outcome.ABSENT if tokens is None else Outcome.DONE if tokens else Outcome.FAILED
                with trio.move_on_after(ASK_S):
                    await stream.send_all(ANSWER.pack(MAGIC, outcome, tokens or 0))
            except (trio.BrokenResourceError, EOFError):
                return  # it has gone; its own side says why

    async def fetch(self, request: EngineRequest, transfer: KvTransfer) -> EngineRequest:
        """Wait for the prefill half of a request; the request with its prompt present.

        Raises `WorkerLost` and `WorkerTimeout`, with which a front end tries again, and `EngineFailed` once closed.
        Cancelling hangs up.
        """
        with trio.CancelScope() as scope:
            self._fetching.add(scope)
            try:
                tokens = await _fetch(transfer)
            finally:
                self._fetching.discard(scope)
        if scope.cancelled_caught:
            raise EngineFailed(CLOSED)
        if tokens != len(request.token_ids):
            raise WorkerLost(f"{_cannot(transfer)}: it has {tokens} tokens and the prompt {len(request.token_ids)}")
        present = KvTransfer(phase="decode", params={"mocker": {"request": request.id, "tokens": tokens}})
        return msgspec.structs.replace(request, kv_transfer=present)

    async def close(self) -> None:
        """Give up what is being fetched, and listeners that were never served. Safe to call twice."""
        for scope in self._fetching:
            scope.cancel()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.aclose()


async def _fetch(transfer: KvTransfer) -> int:
    where = _cannot(transfer)
    try:
        with trio.fail_after(CONNECT_S):
            stream = await trio.open_tcp_stream(transfer.bootstrap_host, transfer.bootstrap_port)
    except trio.TooSlowError:
        raise WorkerTimeout(f"{where}: no connection within {CONNECT_S:g} s") from None
    except OSError as error:
        raise WorkerLost(f"{where}: {error.strerror or 'no connection'}") from None
    return await ask(stream, transfer)


async def ask(stream: trio.abc.Stream, transfer: KvTransfer) -> int:
    """Ask for the request's room on a connection, which is closed then; the tokens that are there.

    Raises `WorkerLost` when the peer goes, is none of ours or says that prefill failed; `WorkerTimeout` when no prefill
    half came. No deadline for the answer: the peer gives one when its half ends or does not come, and front ends give
    up streams that are silent for too long.
    """
    where = _cannot(transfer)
    async with stream:
        try:
            await stream.send_all(QUESTION.pack(MAGIC, transfer.bootstrap_room or 0))
            magic, outcome, tokens = ANSWER.unpack(await _receive(stream, ANSWER.size))
        except (trio.BrokenResourceError, EOFError):
            raise WorkerLost(f"{where}: the prefill worker is gone") from None
    if magic != MAGIC or outcome not in list(Outcome):
        raise WorkerLost(f"{where}: its answer cannot be read")
    if outcome == Outcome.ABSENT:
        raise WorkerTimeout(f"{where}: no prefill began there in time")
    if outcome == Outcome.FAILED:
        raise WorkerLost(f"{where}: prefill failed")
    return int(tokens)


async def _receive(stream: trio.abc.Stream, size: int) -> bytes:
    """Exactly so many bytes. Raises `EOFError`."""
    found = b""
    while len(found) < size:
        part = await stream.receive_some(size - len(found))
        if not part:
            raise EOFError
        found += bytes(part)
    return found


def _cannot(transfer: KvTransfer) -> str:
    where = f"{transfer.bootstrap_host}:{transfer.bootstrap_port}"
    return f"cannot fetch the KV cache of bootstrap room {transfer.bootstrap_room} from {where}"
