"""ZMQ sockets for trio, and the rules for endpoints.

The descriptor of a ZMQ socket is readable when the socket has news of any kind, and only the change is signalled. So a
reader must take messages until there are none and ask for the socket's state again before it waits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio
import zmq
from zmq.utils.monitor import parse_monitor_message

from appliance.core.errors import ApplianceError, InvalidRequest

ZmqContext = zmq.Context["zmq.Socket[bytes]"]
"""What sockets are made from; one a process."""

SCHEMES = ("tcp", "ipc", "inproc")
MESSAGES_PER_TURN = 64
"""Read at most so many before other tasks get a turn."""
QUEUE_MESSAGES = 100_000
"""What the engines use as their own limit; fewer would lose batches while a replay is read."""
MESSAGE_BYTES = 64 << 20
HEARTBEAT_MS = 15_000
RECONNECT_MS = 100
RECONNECT_MAX_MS = 5_000


class EndpointUnusable(ApplianceError):
    """A well-formed ZMQ endpoint on which the system will not bind or connect."""

    code, status, kind = "endpoint_unusable", 409, "invalid_request_error"


def check_endpoint(endpoint: str, *, bind: bool = False) -> None:
    """Raise `InvalidRequest` for what is no endpoint that can be connected to, or bound with `bind`."""
    scheme, mark, address = endpoint.partition("://")
    problem = None
    if not mark:
        problem = "missing scheme"
    elif scheme not in SCHEMES:
        problem = f"unknown scheme `{scheme}`"
    elif not address:
        problem = "missing address"
    elif scheme == "tcp":
        problem = _tcp_problem(address, bind)
    if problem:
        raise InvalidRequest(f"invalid ZMQ endpoint `{endpoint}`: {problem}", param="endpoint")


def _tcp_problem(address: str, bind: bool) -> str | None:
    host, mark, port = address.rpartition(":")
    if not mark or not host:
        return "missing port"
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535 and (bind or int(port))) and not (
        bind and port == "*"
    ):
        return f"no port `{port}`"
    if not bind and host in ("*", "0.0.0.0", "[::]"):
        return "a wildcard can be bound but not connected to"
    return None


@contextmanager
def zmq_context() -> Iterator[ZmqContext]:
    """A context whose I/O thread, with any socket left open, is gone at the end."""
    context: ZmqContext = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


class TrioSocket:
    """One ZMQ socket, used from one trio task at a time. Close it, or use it in a `with` block of `opened`."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self.raw = socket
        self._fd = _number(socket, zmq.FD)
        self._turn = 0

    async def receive(self) -> list[bytes]:
        """The next message's frames. Cancelling loses nothing.

        Gives other tasks a turn when it waits and every `MESSAGES_PER_TURN` messages, not at each call.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._turn == MESSAGES_PER_TURN:
            self._turn = 0
            await trio.lowlevel.checkpoint()
        while True:
            frames = self.receive_nowait()
            if frames is None:
                self._turn = 0
                await trio.lowlevel.wait_readable(self._fd)
                continue
            self._turn += 1
            return frames

    def receive_nowait(self) -> list[bytes] | None:
        """The frames of a message that is there; None: there is none, and the descriptor will tell of the next."""
        if not _number(self.raw, zmq.EVENTS) & zmq.POLLIN:
            return None
        try:
            return self.raw.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def send_nowait(self, frames: Sequence[bytes]) -> bool:
        """Queue a message; False when the peer's queue is full. Look for messages before waiting after it."""
        try:
            self.raw.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True


@contextmanager
def opened(context: ZmqContext, kind: int, **options: int | bytes) -> Iterator[TrioSocket]:
    """A socket with our limits and these options (names of ZMQ's, lower case); closed at once at the end."""
    socket = context.socket(kind)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES)
        socket.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
        socket.setsockopt(zmq.SNDHWM, QUEUE_MESSAGES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name.upper()), value)
        yield TrioSocket(socket)
    finally:
        socket.close(linger=0)


@contextmanager
def connections_of(socket: TrioSocket) -> Iterator[TrioSocket]:
    """A socket that receives a message for every peer that comes or goes; read them with `is_connected`."""
    wanted = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
    monitor: zmq.Socket[bytes] = socket.raw.get_monitor_socket(wanted)
    try:
        yield TrioSocket(monitor)
    finally:
        socket.raw.disable_monitor()
        monitor.close(linger=0)


def is_connected(message: list[bytes]) -> bool:
    """Whether a message of `connections_of` says that a peer has come; else one has gone."""
    return bool(parse_monitor_message(message)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED)


def attach(socket: TrioSocket, endpoint: str, *, bind: bool) -> str:
    """Bind or connect; the endpoint with the port that the system chose. Raises `EndpointUnusable`."""
    try:
        if not bind:
            socket.raw.connect(endpoint)
            return endpoint
        socket.raw.bind(endpoint)
    except zmq.ZMQError as error:
        act = "listen on" if bind else "connect to"
        raise EndpointUnusable(f"cannot {act} {endpoint}: {error.strerror or error}") from None
    bound = socket.raw.getsockopt(zmq.LAST_ENDPOINT)
    return bound.rstrip(b"\0").decode() if isinstance(bound, bytes) else endpoint


def _number(socket: "zmq.Socket[bytes]", option: int) -> int:
    value = socket.getsockopt(option)
    assert isinstance(value, int)
    return value
