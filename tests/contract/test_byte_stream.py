"""ByteStream: what a unix socket and the in-process pair keep to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.core.errors import LinkBroken
from appliance.wire.pair import open_pair
from appliance.wire.sockets import connect_unix, listen_unix
from appliance.wire.streams import ByteStream
from tests.helpers.faulty_stream import FaultyStream

Ends = tuple[ByteStream, ByteStream]


@pytest.fixture(params=["unix", "pair", "faulty"])
async def ends(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ends]:
    if request.param == "unix":
        with listen_unix(tmp_path / "s.sock") as listener:
            near: ByteStream = await connect_unix(tmp_path / "s.sock", deadline_s=1)
            far: ByteStream = await listener.accept()
    else:
        near, far = open_pair()
    if request.param == "faulty":
        near, far = FaultyStream(near), FaultyStream(far)
    yield near, far
    near.close()
    far.close()


async def fill(stream: ByteStream) -> int:
    total = 0
    while count := stream.send_now(bytes(100_000)):
        total += count
    return total


async def test_bytes_go_both_ways(ends: Ends) -> None:
    near, far = ends
    assert near.send_now(b"question") == 8
    assert bytes(await far.receive()) == b"question"
    assert far.send_now(memoryview(b"answer")) == 6
    assert bytes(await near.receive()) == b"answer"


async def test_full_stream_takes_nothing_until_it_is_read(ends: Ends) -> None:
    near, far = ends
    total = await fill(near)
    with trio.move_on_after(0.02) as waiting:
        await near.wait_sendable()
    assert waiting.cancelled_caught
    received = 0
    while received < total:
        received += len(await far.receive())
    with trio.fail_after(1):
        await near.wait_sendable()
    assert near.send_now(b"x") == 1


async def test_end_comes_behind_the_last_bytes(ends: Ends) -> None:
    near, far = ends
    near.send_now(b"last")
    near.close()
    assert bytes(await far.receive()) == b"last"
    assert bytes(await far.receive()) == b""


async def test_sending_to_a_gone_peer_breaks(ends: Ends) -> None:
    near, far = ends
    far.close()
    with pytest.raises(LinkBroken):
        near.send_now(b"x")


async def test_waiting_to_send_ends_when_the_peer_goes(ends: Ends) -> None:
    near, far = ends
    await fill(near)

    async def wait() -> None:
        with pytest.raises(LinkBroken):  # noqa: PT012  a socket only says that sending would not block
            await near.wait_sendable()
            near.send_now(b"x")

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            far.close()


async def test_closing_wakes_a_reader_and_may_be_repeated(ends: Ends) -> None:
    near, _ = ends

    async def read() -> None:
        with pytest.raises(LinkBroken):
            await near.receive()

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            near.close()
    near.close()
    with pytest.raises(LinkBroken):
        await near.receive()


async def test_cancelled_reader_loses_nothing(ends: Ends) -> None:
    near, far = ends
    with trio.move_on_after(0.01):
        await far.receive()
    near.send_now(b"kept")
    assert bytes(await far.receive()) == b"kept"
