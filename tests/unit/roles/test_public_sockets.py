"""The sockets of the public port over changes of the number of front ends."""

import socket
from collections.abc import Iterator

import pytest

from appliance.roles.node.public_sockets import PublicSockets


@pytest.fixture
def sockets() -> Iterator[PublicSockets]:
    made = PublicSockets("127.0.0.1", 0)
    yield made
    made.close()


def accepting(sockets: PublicSockets, fds: tuple[int, ...], tries: int) -> int:
    """How many of so many connections arrive at these descriptors."""
    clients = [socket.create_connection(("127.0.0.1", sockets.port), timeout=5) for _ in range(tries)]
    found = 0
    listener = socket.socket(fileno=fds[0])
    try:
        while True:
            peer, _ = listener.accept()
            peer.close()
            found += 1
    except BlockingIOError:
        return found
    finally:
        listener.detach()
        for client in clients:
            client.close()


def test_connections_spread_over_all_front_ends(sockets: PublicSockets) -> None:
    first = sockets.of(0)
    sockets.of(2)
    assert 0 < accepting(sockets, first, 60) < 60


def test_sockets_of_front_ends_no_longer_wanted_get_no_connection(sockets: PublicSockets) -> None:
    first = sockets.of(0)
    sockets.of(2)
    sockets.keep(1)
    assert accepting(sockets, first, 60) == 60


def test_the_port_is_kept_without_any_front_end(sockets: PublicSockets) -> None:
    first = sockets.of(0)
    sockets.keep(0)
    assert accepting(sockets, first, 3) == 3


def test_a_front_end_that_comes_back_gets_sockets_again(sockets: PublicSockets) -> None:
    sockets.of(1)
    sockets.keep(1)
    again = sockets.of(1)
    assert 0 < accepting(sockets, again, 60) < 60
