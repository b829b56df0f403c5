"""Binding, sharing and inheriting listening sockets."""

import os
import socket

import pytest

from appliance.core.errors import Conflict, UsageError
from appliance.web.sockets import adopt, bind_public, close_all, share


def test_port_zero_is_resolved_and_shared_by_a_second_set() -> None:
    first = bind_public("127.0.0.1", 0)
    port = first[0].getsockname()[1]
    second = share(first)
    try:
        assert port != 0
        assert second[0].getsockname() == first[0].getsockname()
        assert os.get_inheritable(first[0].fileno())
        for _ in range(20):
            socket.create_connection(("127.0.0.1", port)).close()
    finally:
        close_all([*first, *second])


def test_taken_port_is_named_even_if_its_owner_shares() -> None:
    first = bind_public("127.0.0.1", 0)
    port = first[0].getsockname()[1]
    try:
        with pytest.raises(Conflict, match=f"port {port}"):
            bind_public("127.0.0.1", port)
    finally:
        close_all(first)


def test_localhost_listens_on_every_local_address_with_one_port() -> None:
    sockets = bind_public("localhost", 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        assert sockets[0].family == socket.AF_INET
    finally:
        close_all(sockets)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 1), ("127.0.0.1", 70_000), ("203.0.113.1", 0)])
def test_wrong_addresses_are_usage_errors(host: str, port: int) -> None:
    with pytest.raises(UsageError, match="cannot listen"):
        bind_public(host, port)


def test_adopt_takes_only_listening_sockets() -> None:
    (sock,) = bind_public("127.0.0.1", 0)
    fd = os.dup(sock.fileno())
    (adopted,) = adopt([fd])
    assert adopted.getsockname() == sock.getsockname()
    assert not os.get_inheritable(fd)
    close_all([sock, adopted])
    with socket.socket() as plain, open(os.devnull) as file:
        for bad in (plain.fileno(), file.fileno(), 99_999):
            with pytest.raises(UsageError, match="descriptor"):
                adopt([bad])
        assert plain.fileno() >= 0
