"""Unix sockets of links and the bus: listening, accepting, connecting, and a socket as a `ByteStream`."""

import os
import socket
import stat
from pathlib import Path
from types import TracebackType

import trio

from appliance.core.errors import Conflict, LinkBroken, NotRunning, UsageError
from appliance.wire.framing import Buffer

READ_BYTES = 256 * 1024  # more than a unix socket holds: one read takes all that is ready
BACKLOG = 128
KERNEL_PATH_LIMIT = 107  # bytes of sun_path, less the ending zero
RETRY_S = 0.02  # pause before asking a listener again whose backlog is full
ACCEPT_PAUSE_S = 0.1  # accept fails when descriptors or memory have run out; connections must end first


class SocketStream:
    """A connected stream socket; a `ByteStream`. Owns the socket and makes it non-blocking."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._closed = False
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)

    async def receive(self) -> Buffer:
        """See `ByteStream`. The bytes lie in one buffer that the next call uses again."""
        self._refuse_closed()
        try:
            while True:
                await trio.lowlevel.wait_readable(self._sock)  # no deadline: links have heartbeats
                try:
                    count = self._sock.recv_into(self._buffer)
                except BlockingIOError:
                    continue
                return self._view[:count]
        except (OSError, trio.ClosedResourceError) as fault:
            raise LinkBroken(f"cannot read: {_reason(fault)}") from fault

    def send_now(self, data: Buffer) -> int:
        """See `ByteStream`."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as fault:
            raise LinkBroken(f"cannot send: {_reason(fault)}") from fault

    async def wait_sendable(self) -> None:
        """See `ByteStream`."""
        self._refuse_closed()
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except (OSError, trio.ClosedResourceError) as fault:
            raise LinkBroken(f"cannot send: {_reason(fault)}") from fault

    def close(self) -> None:
        """See `ByteStream`."""
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LinkBroken("cannot use the link: it is closed")


class UnixListener:
    """A listening unix socket; as a context manager it closes and removes its file, if that is still its own."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self._sock = sock
        self._path = path
        self._inode = path.stat().st_ino

    async def accept(self) -> SocketStream:
        """The next connection. Waits without a deadline, as listeners do; cancelling loses no connection."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError:
                await trio.sleep(ACCEPT_PAUSE_S)
                continue
            return SocketStream(sock)

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        if self._sock.fileno() < 0:
            return
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError:
            pass  # someone removed it before us

    def __enter__(self) -> "UnixListener":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def listen_unix(path: Path, *, mode: int = 0o600) -> UnixListener:
    """Listen at `path`, replacing the file of a listener that died.

    Raises `Conflict` when another process listens there or the file is no socket, `UsageError` when the path is
    too long or cannot be bound.
    """
    _check_length(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        path.chmod(mode)  # nobody can connect before listen(), so no umask is needed, which all threads share
        sock.listen(BACKLOG)
        return UnixListener(sock, path)
    except OSError as fault:
        sock.close()
        raise UsageError(f"cannot listen at {path}: {_reason(fault)}") from fault
    except BaseException:
        sock.close()
        raise


async def connect_unix(path: Path, *, deadline_s: float) -> SocketStream:
    """Connect to `path`. Raises `NotRunning` when nothing takes the connection within the deadline, `UsageError`
    when the path is too long. Cancelling leaves no socket behind.
    """
    _check_length(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with trio.fail_after(deadline_s):
            while True:
                await trio.lowlevel.checkpoint()
                try:
                    sock.connect(str(path))
                except BlockingIOError:  # the listener's backlog is full
                    await trio.sleep(RETRY_S)
                else:
                    return SocketStream(sock)
    except (OSError, trio.TooSlowError) as fault:
        sock.close()
        raise NotRunning(f"cannot connect to {path}: {_reason(fault)}") from fault
    except BaseException:
        sock.close()
        raise


def _check_length(path: Path) -> None:
    size = len(os.fsencode(path))
    if size > KERNEL_PATH_LIMIT:
        raise UsageError(
            f"cannot use {path} as a socket: {size} bytes are too long, the kernel takes {KERNEL_PATH_LIMIT}"
        )


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"cannot listen at {path}: a file that is no socket lies there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as asker:
        try:
            asker.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # alive, with a full backlog
    raise Conflict(f"cannot listen at {path}: another process does")


def _reason(fault: BaseException) -> str:
    if isinstance(fault, trio.TooSlowError):
        return "no answer in time"
    if isinstance(fault, trio.ClosedResourceError):
        return "the link is closed"
    return getattr(fault, "strerror", None) or type(fault).__name__
