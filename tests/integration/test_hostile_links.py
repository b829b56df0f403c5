"""Links whose peer is slow, deaf or hostile: that link ends, all others and the process go on."""

from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.core.errors import ApplianceError, WorkerLost, WorkerTimeout
from appliance.core.identity import Digest, WorkerId
from appliance.transport.limits import LinkLimits
from appliance.transport.links import open_links
from appliance.wire.framing import FrameDecoder, encode, to_frontend_decoder
from appliance.wire.link_messages import (
    PROTOCOL,
    Cancel,
    FileCall,
    FilePart,
    Hello,
    Ping,
    Pong,
    Request,
    Step,
    ToFrontend,
)
from appliance.wire.pair import open_pair
from appliance.wire.streams import ByteStream
from tests.fakes.stream_sinks import RecordingSink
from tests.fakes.token_engine import TokenEngine, make_card
from tests.helpers.link_rig import WORKER, LinkRig, make_request, open_link_rig
from tests.helpers.waiting import until


async def read_messages(stream: ByteStream, count: int) -> list[ToFrontend]:
    decoder, decode, messages = FrameDecoder(1 << 20), to_frontend_decoder().decode, list[ToFrontend]()
    with trio.fail_after(2):
        while len(messages) < count:
            data = await stream.receive()
            assert data, "the link ended"
            messages += map(decode, decoder.feed(data))
    return messages


async def wait_for_end(stream: ByteStream) -> None:
    with trio.fail_after(2):
        try:
            while await stream.receive():
                pass
        except ApplianceError:
            return


async def check_alive(rig: LinkRig) -> None:
    sink = RecordingSink()
    with trio.fail_after(2):
        with rig.links.open(WORKER, make_request(), sink):
            await sink.ended.wait()
    assert sink.finish == "length"


ATTACKS = {
    "garbage": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge": b"\xff\xff\xff\xff",
    "empty frame": b"\0\0\0\0",
    "wrong types": encode([2, "x", {}]),
    "other direction": encode(Hello(PROTOCOL, "w", make_card())),
    "twice the same stream": encode(Request(1, make_request())) + encode(Request(1, make_request())),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_hostile_front_end_loses_its_own_link_only(tmp_path: Path, attack: str) -> None:
    async with open_link_rig("unix", tmp_path, TokenEngine(step_s=0.001)) as rig:
        await rig.connect()
        enemy = await rig.dial()
        enemy.send_now(encode(Request(7, make_request(1000))))
        await read_messages(enemy, 2)
        enemy.send_now(ATTACKS[attack])
        await wait_for_end(enemy)
        await check_alive(rig)
        await rig.settle()
        assert rig.engine.cancelled >= 1
        assert rig.server.links == 1


async def test_front_end_that_leaves_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    async with open_link_rig("unix", tmp_path, TokenEngine(step_s=0.001)) as rig:
        await rig.connect()
        enemy = await rig.dial()
        enemy.send_now(encode(Request(7, make_request(1000))) + encode(Ping(1))[:5])
        await read_messages(enemy, 2)
        enemy.close()
        await rig.settle()
        await check_alive(rig)


async def test_cancel_of_unknown_streams_is_harmless(tmp_path: Path) -> None:
    async with open_link_rig("unix", tmp_path) as rig:
        friend = await rig.dial()
        friend.send_now(encode(Cancel(99)) + encode(Ping(1)))
        assert isinstance((await read_messages(friend, 2))[1], Pong)


@pytest.mark.parametrize("heeds_room", [True, False])
async def test_front_end_that_stops_reading_is_cut_off(tmp_path: Path, heeds_room: bool) -> None:
    limits = LinkLimits(stall_s=0.2, high_water_bytes=50_000, outbox_limit_bytes=1_000_000)
    async with open_link_rig("unix", tmp_path, TokenEngine(heeds_room=heeds_room), limits=limits) as rig:
        await rig.connect()
        deaf = await rig.dial()
        for number in range(1, 9):
            deaf.send_now(encode(Request(number, make_request(1 << 40))))
        await check_alive(rig)
        await until(lambda: rig.server.links == 1)
        await rig.settle()
        assert rig.engine.cancelled == 8
        await check_alive(rig)
        deaf.close()


async def test_large_file_waits_for_a_slow_reader(tmp_path: Path) -> None:
    digest, size = Digest("d"), 3_000_000
    limits = LinkLimits(high_water_bytes=100_000, outbox_limit_bytes=500_000)
    async with open_link_rig("unix", tmp_path, TokenEngine(content={digest: bytes(size)}), limits=limits) as rig:
        slow = await rig.dial()
        slow.send_now(encode(FileCall(1, digest)))
        await trio.sleep(0.05)
        parts = (await read_messages(slow, 1 + -(-size // (64 * 1024))))[1:]
        assert sum(len(part.data) for part in parts if isinstance(part, FilePart)) == size


async def test_drain_returns_when_the_last_frames_have_left(tmp_path: Path) -> None:
    async with open_link_rig("unix", tmp_path, TokenEngine(heeds_room=False)) as rig:
        slow = await rig.dial()
        slow.send_now(encode(Request(1, make_request(100_000))))
        await until(lambda: rig.server.load.served, 10)
        drained = trio.Event()

        async def drain() -> None:
            await rig.server.drain(1)
            drained.set()

        rig.nursery.start_soon(drain)
        await trio.sleep(0.05)
        assert not drained.is_set()
        while not drained.is_set():
            with trio.move_on_after(0.05):
                await slow.receive()
        assert rig.server.links == 1


async def test_all_chunks_of_one_pass_are_one_step(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_link_rig("pair", tmp_path, TokenEngine(step_s=0.02)) as rig:
        friend = await rig.dial()
        for number in range(1, 31):
            friend.send_now(encode(Request(number, make_request(3))))
        messages = await read_messages(friend, 4)
        steps = [message for message in messages if isinstance(message, Step)]
        assert [len(step.chunks) for step in steps] == [30, 30, 30]


async def test_two_front_ends_may_use_the_same_numbers(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with open_link_rig("pair", tmp_path, TokenEngine(step_s=0.001)) as rig:
        friends = [await rig.dial(), await rig.dial()]
        for friend in friends:
            friend.send_now(encode(Request(1, make_request(3))))
        for friend in friends:
            steps = [message for message in await read_messages(friend, 4) if isinstance(message, Step)]
            assert [chunk.token_ids for step in steps for chunk in step.chunks] == [[1], [2], [3]]


WELCOMES = {
    "another protocol": (encode([1, PROTOCOL + 1, {"new": "shape"}]), "speaks link protocol 2"),
    "another worker": (encode(Hello(PROTOCOL, "imposter", make_card())), "another worker"),
    "no hello": (encode(Pong(1, 0, 0)), "cannot read a frame"),
    "garbage": (b"\0\0\0\2zz", "cannot read a frame"),
    "huge": (b"\xff\xff\xff\xff", "limit"),
}


@pytest.mark.parametrize("welcome", WELCOMES)
async def test_wrong_welcome_is_a_clear_error(welcome: str) -> None:
    near, far = open_pair()
    data, words = WELCOMES[welcome]
    far.send_now(data)
    async with open_links() as links:
        with pytest.raises(WorkerLost, match=words):
            await links.attach(WORKER, near)
        assert links.workers() == {}


async def test_second_hello_ends_the_link() -> None:
    near, far = open_pair()
    far.send_now(encode(Hello(PROTOCOL, WORKER, make_card())) * 2)
    lost = list[tuple[WorkerId, str]]()
    async with open_links(on_lost=lambda worker, reason: lost.append((worker, reason))) as links:
        await links.attach(WORKER, near)
        await trio.testing.wait_all_tasks_blocked()
        assert lost == [(WORKER, "cannot use a Hello message here")]


async def test_worker_that_never_says_hello_times_out(autojump_clock: trio.testing.MockClock) -> None:
    near, _ = open_pair()
    async with open_links() as links:
        began = trio.current_time()
        with pytest.raises(WorkerTimeout, match="no card within 10 s"):
            await links.attach(WORKER, near)
        assert trio.current_time() - began == pytest.approx(10)


async def test_absent_worker_is_lost_at_once(tmp_path: Path) -> None:
    async with open_links() as links:
        with pytest.raises(WorkerLost, match="No such file"):
            await links.connect(WORKER, str(tmp_path / "w.sock"))


async def test_exception_of_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with open_links():
            raise KeyError


async def test_bytes_of_hostile_worker_fail_streams_not_the_front_end(tmp_path: Path) -> None:
    near, far = open_pair()
    far.send_now(encode(Hello(PROTOCOL, WORKER, make_card())))
    async with open_links() as links:
        await links.attach(WORKER, near)
        sink = RecordingSink()
        with links.open(WORKER, make_request(), sink):
            far.send_now(encode([4, [["x"]]]))
            with trio.fail_after(1):
                await sink.ended.wait()
        assert [type(error) for error in sink.errors] == [WorkerLost]
