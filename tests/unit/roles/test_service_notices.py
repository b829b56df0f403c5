"""Notices to the service manager, over both kinds of socket address."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.roles.node.service_notices import ServiceNotices, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket and the address that it puts into the environment."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name if request.param == "path" else "\0" + name[-60:])
        sock.settimeout(5)
        yield sock, name if request.param == "path" else "@" + name[-60:]


def test_states(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    notices = ServiceNotices({"NOTIFY_SOCKET": address})
    notices.ready("two\nlines")
    notices.reloading()
    notices.stopping("draining")
    notices.status("fine")
    got = [sock.recv(4096).decode().split("\n") for _ in range(4)]
    assert got[0] == ["READY=1", "STATUS=two lines"]
    assert got[1][0] == "RELOADING=1"
    assert got[1][1].startswith("MONOTONIC_USEC=")
    assert got[2] == ["STOPPING=1", "STATUS=draining"]
    assert got[3] == ["STATUS=fine"]


async def test_signs_of_life_come_at_half_the_limit(
    manager: tuple[socket.socket, str], autojump_clock: trio.testing.MockClock
) -> None:
    sock, address = manager
    notices = ServiceNotices({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
    with trio.move_on_after(31):
        await notices.run_watchdog()
    assert [sock.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(100)


async def test_without_a_manager_nothing_happens() -> None:
    notices = ServiceNotices({})
    notices.ready("x")
    await notices.run_watchdog()
    ServiceNotices({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("x")


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "10"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "9"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_whose_watchdog(environ: dict[str, str], interval: float | None) -> None:
    assert watchdog_interval_s(environ, 10, 9) == interval
