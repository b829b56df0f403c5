"""Tells connections that their client has sent, hung up, or takes bytes again, with one epoll for all of them.

Waiting through trio would cost an `epoll_ctl` per request; this costs one per connection and none per request. An epoll
descriptor can itself be waited on, so trio waits on this one.
"""

import select
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import trio

_BATCH = 256
_GONE = select.EPOLLHUP | select.EPOLLERR
# Edge-triggered: one report per change, nothing to disarm. Writability is asked for only after a send came up short.
_INPUT = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_INPUT_OR_ROOM = _INPUT | select.EPOLLOUT


class Watched(Protocol):
    """A connection as the watcher knows it. Its methods must not block, raise, or close the socket."""

    def on_readable(self) -> None:
        """There is something to receive that was not there before: bytes, the end, or an error."""

    def on_hangup(self, *, gone: bool) -> None:
        """The client closed its sending side; `gone`: both sides, or the connection was reset."""

    def on_writable(self) -> None:
        """The kernel takes bytes again."""


class SocketWatcher:
    """Watches sockets between `add` and `forget`. A context manager that owns the epoll descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Watched] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._epoll.close()

    def add(self, fd: int, watched: Watched) -> None:
        """Start to report what comes in and hang-ups. What is there already is reported as well."""
        self._watched[fd] = watched
        self._epoll.register(fd, _INPUT)

    def want_room(self, fd: int) -> None:
        """Also report, from now on, when the socket becomes writable after it was full."""
        self._epoll.modify(fd, _INPUT_OR_ROOM)

    def forget(self, fd: int) -> None:
        """Stop reporting; call before the socket is closed."""
        if self._watched.pop(fd, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(fd)

    async def run(self) -> None:
        """Report until cancelled. Waits without deadline: it has nothing to do until a socket changes."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, flags in self._epoll.poll(0, _BATCH):
                watched = self._watched.get(fd)
                if watched is None:
                    continue
                if flags != select.EPOLLOUT:
                    watched.on_readable()
                    if flags == select.EPOLLIN:
                        continue  # nearly always
                if flags & select.EPOLLOUT and not flags & _GONE:
                    watched.on_writable()
                if flags & (select.EPOLLRDHUP | _GONE):
                    watched.on_hangup(gone=bool(flags & _GONE))
