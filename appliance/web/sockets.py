"""Listening sockets: bound by the supervisor, inherited by the front ends."""

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from appliance.core.errors import Conflict, UsageError

BACKLOG = 1024


def bind_public(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host`; port 0 takes a free one, the same for all. Children inherit the descriptors.

    The sockets are bound without SO_REUSEPORT, so that a taken port is an error, and get it before they listen, so that
    `share` works. Raises `Conflict` for a taken port and `UsageError` for a host that is not this machine's.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            with_port = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
            try:
                sockets.append(_listen(family, with_port, shared=False))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and sockets:
                    continue  # `localhost` has ::1 in the hosts file, but the machine has no IPv6
                raise _bind_error(error, host, with_port[1]) from None
    except BaseException:
        close_all(sockets)
        raise
    return sockets


def share(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """One more set of sockets on the same addresses, for one more process; the kernel spreads new connections."""
    return [_listen(sock.family, sock.getsockname(), shared=True) for sock in sockets]


def adopt(fds: Iterable[int]) -> list[socket.socket]:
    """Inherited descriptors as sockets, no longer inheritable. Raises `UsageError` for what is no listening socket."""
    return [_adopt_one(fd) for fd in fds]


def bind_unix(path: Path, mode: int = 0o600) -> socket.socket:
    """Listen on a unix socket file, replacing a stale one. Raises `Conflict` when a process still answers on it."""
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(path))
            raise Conflict(f"cannot listen on {path}: another process does")
        path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX)
    old_mask = os.umask(0o777 & ~mode)  # the file must never be open to more, not even for a moment
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on {path}: {error.strerror}") from None
    finally:
        os.umask(old_mask)
    sock.setblocking(False)
    return sock


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close every socket."""
    for sock in sockets:
        sock.close()


def _adopt_one(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        raise UsageError(f"cannot serve on descriptor {fd}: it is no socket") from None
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()  # not ours to close
        raise UsageError(f"cannot serve on descriptor {fd}: it is no listening socket")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    if not 0 <= port <= 65535:
        raise UsageError(f"cannot listen on port {port}: ports are 0 to 65535")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"cannot listen on {host}: no such host") from None
    unique = dict.fromkeys((int(family), address) for family, _, _, _, address in found)
    return sorted(unique, key=lambda entry: entry[0] != socket.AF_INET)  # type: ignore[arg-type]  # address tuples differ by family


def _listen(family: int, address: tuple[str, int], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        sock.set_inheritable(True)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_error(error: OSError, host: str, port: int) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"cannot listen on {host} port {port}: another program uses it; choose one with --port")
    if error.errno == errno.EACCES:
        return UsageError(f"cannot listen on {host} port {port}: ports below 1024 need privileges")
    return UsageError(f"cannot listen on {host} port {port}: {error.strerror}")
