"""The listening sockets of the public port: one per front-end process, all on the same port, held by the supervisor.

A front end that dies leaves its socket here, so that connections wait for its successor instead of being refused.
One that is no longer wanted must not: the kernel would go on to give it a share of the connections.
"""

import socket

from appliance.web.sockets import bind_public, close_all, share


class PublicSockets:
    """Binds at once. The first set proves that the port was free; further front ends share it (SO_REUSEPORT)."""

    def __init__(self, host: str, port: int) -> None:
        self._sets: list[list[socket.socket]] = [bind_public(host, port)]

    @property
    def port(self) -> int:
        """The bound port, also when any free one was asked for."""
        return int(self._sets[0][0].getsockname()[1])

    def of(self, index: int) -> tuple[int, ...]:
        """Descriptors for the front end of this number; made when it is started for the first time."""
        while len(self._sets) <= index:
            self._sets.append(share(self._sets[0]))
        return tuple(one.fileno() for one in self._sets[index])

    def keep(self, count: int) -> None:
        """Let go of the sockets beyond the first `count` front ends (at least one); those that leave hold their own."""
        while len(self._sets) > max(count, 1):
            close_all(self._sets.pop())

    def close(self) -> None:
        """Give the port back; children keep what they inherited."""
        for sockets in self._sets:
            close_all(sockets)
