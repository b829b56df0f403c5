"""Outbox: direct sends, backlog in order, stall and size limits."""

import pytest
import trio
import trio.testing

from appliance.core.errors import LinkBroken
from appliance.transport.limits import LinkLimits
from appliance.transport.outbox import Outbox
from appliance.wire.pair import open_pair
from appliance.wire.streams import ByteStream

CAPACITY = 100


async def read_all(stream: ByteStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += bytes(await stream.receive())
    return data


async def test_frame_is_sent_at_once_without_a_writer() -> None:
    near, far = open_pair(CAPACITY)
    outbox = Outbox(near, LinkLimits())
    outbox.post(b"now")
    assert bytes(await far.receive()) == b"now"
    assert outbox.backlog_bytes == 0


async def test_backlog_keeps_its_order(nursery: trio.Nursery) -> None:
    near, far = open_pair(CAPACITY)
    outbox = Outbox(near, LinkLimits())
    frames = [bytes([index]) * 37 for index in range(50)]
    for frame in frames:
        outbox.post(frame)
    assert outbox.backlog_bytes == 50 * 37 - CAPACITY
    nursery.start_soon(outbox.run)
    assert await read_all(far, 50 * 37) == b"".join(frames)
    assert outbox.backlog_bytes == 0


async def test_room_waits_for_the_high_water_mark(nursery: trio.Nursery) -> None:
    near, far = open_pair(CAPACITY)
    outbox = Outbox(near, LinkLimits(high_water_bytes=200))
    nursery.start_soon(outbox.run)
    outbox.post(bytes(400))
    with trio.move_on_after(0.02) as waiting:
        await outbox.room()
    assert waiting.cancelled_caught
    await far.receive()
    with trio.fail_after(1):
        await outbox.room()
    assert 0 < outbox.backlog_bytes <= 200


async def test_stalled_peer_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    near, _ = open_pair(CAPACITY)
    outbox = Outbox(near, LinkLimits(stall_s=15))
    outbox.post(bytes(400))
    began = trio.current_time()
    with pytest.raises(LinkBroken, match="took no byte for 15 s"):
        await outbox.run()
    assert trio.current_time() - began == pytest.approx(15)


async def test_slow_peer_that_takes_something_is_not_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    near, far = open_pair(CAPACITY)
    outbox = Outbox(near, LinkLimits(stall_s=15))
    outbox.post(bytes(1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        taken = 0
        while taken < 1000:
            await trio.sleep(14)
            taken += len(await far.receive())
        nursery.cancel_scope.cancel()


async def test_peer_too_far_behind_is_cut_off() -> None:
    near, _ = open_pair(CAPACITY)
    outbox = Outbox(near, LinkLimits(outbox_limit_bytes=500))
    for _ in range(20):
        outbox.post(bytes(50))
    with pytest.raises(LinkBroken, match="bytes behind"):
        await outbox.run()
    assert outbox.backlog_bytes <= 550


async def test_lost_peer_ends_the_writer_and_frees_all_who_wait() -> None:
    near, far = open_pair(CAPACITY)
    outbox = Outbox(near, LinkLimits(high_water_bytes=10))
    outbox.post(bytes(400))
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.room)
            nursery.start_soon(outbox.sent)
            await trio.testing.wait_all_tasks_blocked()
            far.close()
            with pytest.raises(LinkBroken):
                await outbox.run()
    outbox.post(b"dropped")


async def test_refill_is_asked_once_per_pass(nursery: trio.Nursery) -> None:
    near, far = open_pair()
    gathered: list[bytes] = []

    def refill() -> None:
        if gathered:
            outbox.post(b"+".join(gathered))
            gathered.clear()

    outbox = Outbox(near, LinkLimits(), refill)
    nursery.start_soon(outbox.run)
    await trio.testing.wait_all_tasks_blocked()
    for word in (b"a", b"b", b"c"):
        gathered.append(word)
        outbox.wake()
    await outbox.sent()
    assert bytes(await far.receive()) == b"a+b+c"
