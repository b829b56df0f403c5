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


def test_connections_spread_over_all_front_ends_that_serve(sockets: PublicSockets) -> None:
    sockets.want(3)
    first, _, third = sockets.of(0), sockets.of(1), sockets.of(2)
    sockets.follow({0, 1, 2}, {0, 2})
    at_first = accepting(sockets, first, 60)
    assert 0 < at_first < 60
    assert accepting(sockets, third, 0) == 60 - at_first


def test_connections_wait_for_the_first_front_end_while_none_serves(sockets: PublicSockets) -> None:
    sockets.want(2)
    first = sockets.of(0)
    sockets.of(1)
    sockets.follow({0, 1}, {0, 1})
    sockets.follow({0, 1}, set())
    assert accepting(sockets, first, 60) == 60


def test_one_that_shall_leave_gets_nothing_new_and_keeps_what_waits(sockets: PublicSockets) -> None:
    sockets.want(2)
    first, second = sockets.of(0), sockets.of(1)
    sockets.follow({0, 1}, {1})
    clients = [socket.create_connection(("127.0.0.1", sockets.port), timeout=5) for _ in range(5)]
    sockets.want(1)
    sockets.follow({0, 1}, {0, 1})
    assert accepting(sockets, first, 60) == 60
    assert accepting(sockets, second, 0) == 5
    for client in clients:
        client.close()


def test_the_port_is_kept_without_any_front_end(sockets: PublicSockets) -> None:
    first = sockets.of(0)
    sockets.want(0)
    sockets.follow((), ())
    assert accepting(sockets, first, 3) == 3


def test_a_front_end_that_comes_back_gets_sockets_again(sockets: PublicSockets) -> None:
    sockets.want(2)
    before = sockets.of(1)
    sockets.want(1)
    sockets.follow({0, 1}, {0})
    assert sockets.of(1) == before, "its process is still there: the place in the group is taken"
    sockets.follow({0}, {0})
    sockets.want(2)
    again = sockets.of(1)
    sockets.follow({0, 1}, {0, 1})
    assert 0 < accepting(sockets, again, 60) < 60
