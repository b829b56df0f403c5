"""Unix sockets: files left behind, taken paths, modes."""

import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from appliance.core.errors import Conflict, NotRunning, UsageError
from appliance.wire.sockets import connect_unix, listen_unix


async def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with listen_unix(tmp_path / "s.sock"):
            assert stat.S_IMODE((tmp_path / "s.sock").stat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_file_goes_with_its_listener(tmp_path: Path) -> None:
    with listen_unix(tmp_path / "s.sock", mode=0o660) as listener:
        assert stat.S_IMODE((tmp_path / "s.sock").stat().st_mode) == 0o660
    assert not (tmp_path / "s.sock").exists()
    listener.close()


async def test_file_of_a_successor_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with listen_unix(path):
        path.rename(tmp_path / "old.sock")
        successor = listen_unix(path)
    assert path.exists()
    successor.close()


async def test_file_of_a_dead_listener_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with listen_unix(path):
        (await connect_unix(path, deadline_s=1)).close()


async def test_living_listener_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with listen_unix(path), pytest.raises(Conflict, match="another process"):
        listen_unix(path)


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(Conflict, match="no socket"):
        listen_unix(path)
    assert path.read_text() == "data"


async def test_faults_of_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long"):
        listen_unix(tmp_path / ("x" * 120))
    with pytest.raises(UsageError, match="No such file"):
        listen_unix(tmp_path / "none" / "s.sock")
    with pytest.raises(UsageError, match="too long"):
        await connect_unix(tmp_path / ("x" * 120), deadline_s=1)
    with pytest.raises(NotRunning, match="No such file"):
        await connect_unix(tmp_path / "s.sock", deadline_s=1)


async def test_connecting_to_a_full_listener_waits_for_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        (await connect_unix(path, deadline_s=1)).close()
        with pytest.raises(NotRunning, match="no answer in time"):
            await connect_unix(path, deadline_s=0.05)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_soon, listener)
            (await connect_unix(path, deadline_s=1)).close()


async def accept_soon(listener: socket.socket) -> None:
    await trio.sleep(0.03)
    listener.accept()[0].close()


async def test_listener_survives_running_out_of_descriptors(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with listen_unix(tmp_path / "s.sock") as listener:
        client = await connect_unix(tmp_path / "s.sock", deadline_s=1)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            with trio.move_on_after(0.05) as waiting:
                await listener.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert waiting.cancelled_caught
        with trio.fail_after(1):
            (await listener.accept()).close()
        client.close()
