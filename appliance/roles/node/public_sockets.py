"""The listening sockets of the public port: one per front-end process, all on the same port, held by the supervisor.

A front end that dies leaves its socket here, so that the connections that wait at it wait for its successor instead of
being reset; new ones go to front ends that serve. The socket of one that is no longer wanted gets nothing new from the
moment that this is known, and is closed when its process has gone: by then that has taken everything out of it.
"""

import socket
from collections.abc import Collection

from appliance.web.sockets import bind_public, close_all, share
from appliance.web.steering import steer


class PublicSockets:
    """Binds at once. The first set proves that the port was free; further front ends share it (SO_REUSEPORT).

    Sets are made in order and closed in the reverse order: the kernel knows them by their place in the group.
    """

    def __init__(self, host: str, port: int) -> None:
        self._sets: list[list[socket.socket]] = [bind_public(host, port)]
        self._wanted = 1
        self._places: tuple[int, ...] = ()
        self._steers = True

    @property
    def port(self) -> int:
        """The bound port, also when any free one was asked for."""
        return int(self._sets[0][0].getsockname()[1])

    def of(self, index: int) -> tuple[int, ...]:
        """Descriptors for the front end of this number; made when it is started for the first time."""
        while len(self._sets) <= index:
            self._sets.append(share(self._sets[0]))
        return tuple(one.fileno() for one in self._sets[index])

    def want(self, count: int) -> None:
        """So many front ends are wanted (at least one): the others get nothing new, before they are told to leave."""
        self._wanted = max(count, 1)
        self._deal([place for place in self._places if place < self._wanted])
        if not self._steers:
            self._close_beyond(self._wanted)  # the kernel would go on to give them a share; they hold their own

    def follow(self, present: Collection[int], ready: Collection[int]) -> None:
        """Which front ends have a process, and which serve: new connections go to those, or wait for the first one."""
        last = max(present, default=0)
        if self._steers:
            self._close_beyond(max(self._wanted, last + 1))
        self._deal([place for place in sorted(ready) if place < self._wanted])

    def close(self) -> None:
        """Give the port back; children keep what they inherited."""
        for sockets in self._sets:
            close_all(sockets)

    def _close_beyond(self, count: int) -> None:
        while len(self._sets) > count:
            close_all(self._sets.pop())

    def _deal(self, places: list[int]) -> None:
        wanted = tuple(place for place in places if place < len(self._sets)) or (0,)
        if self._steers and wanted != self._places:
            self._places = wanted
            for sock in self._sets[0]:
                self._steers = steer(sock, wanted) and self._steers
