"""The kernel deals new connections as told."""

import socket
from collections.abc import Iterator

import pytest

from appliance.web.sockets import bind_public, close_all, share
from appliance.web.steering import steer


@pytest.fixture
def group() -> Iterator[list[socket.socket]]:
    first = bind_public("127.0.0.1", 0)
    sockets = [*first, *share(first), *share(first), *share(first)]
    yield sockets
    close_all(sockets)


def deal(group: list[socket.socket], count: int) -> list[int]:
    """How many of so many connections arrive at each member."""
    clients = [socket.create_connection(group[0].getsockname(), timeout=5) for _ in range(count)]
    found = [len(list(waiting(sock))) for sock in group]
    close_all(clients)
    return found


def waiting(sock: socket.socket) -> Iterator[None]:
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return
        yield


@pytest.mark.parametrize("places", [(0,), (3,), (0, 2), (1, 2, 3), (0, 1, 2, 3)])
def test_only_the_members_that_are_named_get_connections(group: list[socket.socket], places: tuple[int, ...]) -> None:
    assert steer(group[0], places)
    found = deal(group, 80)
    assert sum(found) == 80
    assert {place for place, count in enumerate(found) if count} == set(places)


def test_a_place_that_nobody_has_loses_nothing(group: list[socket.socket]) -> None:
    assert steer(group[0], (7,))
    assert sum(deal(group, 40)) == 40


def test_a_socket_that_takes_no_program_is_said_to() -> None:
    with socket.socket(socket.AF_UNIX) as plain:
        assert not steer(plain, (0,))
