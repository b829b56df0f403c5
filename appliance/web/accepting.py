"""The accept loop of one listening socket."""

import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from appliance.web.sockets import BACKLOG

_LOG = logging.getLogger(__name__)
_BATCH = 64  # accepts between two turns of other tasks
_RETRY_S = 0.1
_FULL = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

Welcome = Callable[[socket.socket, str], None]
"""Takes an accepted non-blocking socket and the client's address; owns the socket from then on."""


class Acceptor:
    """Accepts from one socket. Out of descriptors it closes the waiting clients and tries again, and says so once."""

    def __init__(self, sock: socket.socket, welcome: Welcome) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._welcome = welcome
        self._reserve: int | None = _open_reserve()
        self._full = False

    async def run(self) -> None:
        """Accept until cancelled. Waits without deadline: a client comes or it does not."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            if not self.accept_waiting():
                await trio.sleep(_RETRY_S)

    def accept_waiting(self) -> bool:
        """Accept what waits, up to a batch. False: the process or the machine is out of descriptors or memory."""
        for _ in range(_BATCH):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno not in _FULL:
                    continue  # that client is gone already
                self._shed(error)
                return False
            self._full = False
            sock.setblocking(False)
            peer = ""
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = address[0]
            self._welcome(sock, peer)
        return True

    def accept_all(self) -> None:
        """Accept everything that waits."""
        for _ in range(BACKLOG // _BATCH):
            self.accept_waiting()

    def close(self) -> None:
        """Close the listening socket."""
        self._sock.close()
        self._drop_reserve()

    def _shed(self, error: OSError) -> None:
        """Use the reserve descriptor to close waiting clients: unanswered ones would keep the socket readable."""
        if not self._full:
            self._full = True
            _LOG.warning("cannot accept connections: %s", error.strerror)
        self._drop_reserve()
        with suppress(OSError):
            while True:
                self._sock.accept()[0].close()
        with suppress(OSError):
            self._reserve = _open_reserve()

    def _drop_reserve(self) -> None:
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None


def _open_reserve() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
