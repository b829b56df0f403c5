"""Rooms in which halves meet, and what is said on the connection to them."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, MockClock, memory_stream_pair, wait_all_tasks_blocked

from appliance.core.errors import EngineFailed, UsageError, WorkerLost, WorkerTimeout
from appliance.core.model_facts import EngineOptions
from appliance.core.requests import KvTransfer
from appliance.engines.mocker.options import read_options
from appliance.engines.mocker.rendezvous import ANSWER, ASK_S, MAGIC, QUESTION, Rendezvous, ask
from appliance.engines.mocker.rooms import ARRIVE_S, KEEP_S, Rooms

ROOM = 2**63 - 1
MEETING = KvTransfer(phase="decode", bootstrap_host="127.0.0.1", bootstrap_port=8998, bootstrap_room=ROOM)


async def prefill(rooms: Rooms, seconds: float, tokens: int) -> None:
    with rooms.hold(ROOM) as room:
        await trio.sleep(seconds)
        room.tokens = tokens


@pytest.mark.parametrize(("prefill_at", "decode_at"), [(0, 5), (5, 0), (0, 0)])
async def test_either_half_may_come_first(prefill_at: int, decode_at: int, autojump_clock: MockClock) -> None:
    rooms = Rooms()

    async def compute() -> None:
        await trio.sleep(prefill_at)
        await prefill(rooms, 2, 7)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(compute)
        await trio.sleep(decode_at)
        assert await rooms.wait(ROOM) == 7
        assert trio.current_time() == pytest.approx(max(prefill_at + 2, decode_at))
    assert len(rooms) == 0


async def test_decode_waits_for_a_prefill_as_long_as_it_runs(autojump_clock: MockClock) -> None:
    rooms = Rooms()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prefill, rooms, 20 * ARRIVE_S, 7)
        assert await rooms.wait(ROOM) == 7


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_a_prefill_that_breaks_off_says_so(how: str, autojump_clock: MockClock) -> None:
    rooms = Rooms()
    if how == "fails":
        with pytest.raises(EngineFailed, match="told to"), rooms.hold(ROOM):
            raise EngineFailed("told to")
    else:
        with trio.move_on_after(1):
            await prefill(rooms, 2, 7)
    assert await rooms.wait(ROOM) == 0
    assert len(rooms) == 0


async def test_nobody_is_waited_for_for_ever(autojump_clock: MockClock) -> None:
    rooms = Rooms()
    assert await rooms.wait(ROOM) is None
    assert trio.current_time() == pytest.approx(ARRIVE_S)
    assert len(rooms) == 0


async def test_a_cache_that_nobody_fetches_is_forgotten(autojump_clock: MockClock) -> None:
    rooms = Rooms()
    await prefill(rooms, 0, 7)
    await trio.sleep(KEEP_S + 1)
    with rooms.hold(1):
        assert len(rooms) == 1
    with rooms.hold(2), pytest.raises(EngineFailed, match="room 2 is taken"), rooms.hold(2):
        pass


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Rendezvous, trio.StapledStream[MemorySendStream, MemoryReceiveStream]]]:
    """A meeting point, and a connection to it."""
    point = Rendezvous()
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(point.answer, far)
        yield point, near
        nursery.cancel_scope.cancel()


async def test_the_outcome_crosses_the_connection(autojump_clock: MockClock) -> None:
    async with connected() as (point, stream), trio.open_nursery() as nursery:
        nursery.start_soon(prefill, point.rooms, 1, 1000)
        assert await ask(stream, MEETING) == 1000


async def test_failures_are_errors_that_may_be_tried_again(autojump_clock: MockClock) -> None:
    async with connected() as (_, stream):
        with pytest.raises(WorkerTimeout, match="no prefill began there in time") as late:
            await ask(stream, MEETING)
    async with connected() as (point, stream), trio.open_nursery() as nursery:
        nursery.start_soon(prefill, point.rooms, 1, 0)
        with pytest.raises(WorkerLost, match=f"room {ROOM} from 127.0.0.1:8998: prefill failed") as failed:
            await ask(stream, MEETING)
    near, far = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_lose, far)
        with pytest.raises(WorkerLost, match="the prefill worker is gone") as gone:
            await ask(near, MEETING)
    assert all(caught.value.retryable for caught in (late, failed, gone))


async def _lose(stream: trio.abc.Stream) -> None:
    await stream.receive_some(QUESTION.size)
    await stream.aclose()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n", ANSWER.pack(MAGIC, 9, 1)])
async def test_an_answer_of_something_else_is_not_believed(answer: bytes) -> None:
    near, far = memory_stream_pair()
    await far.send_all(answer)
    with pytest.raises(WorkerLost, match="its answer cannot be read"):
        await ask(near, MEETING)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", MAGIC + b"12"])
async def test_strangers_are_hung_up_on(said: bytes, autojump_clock: MockClock) -> None:
    async with connected() as (point, stream):
        if said:
            await stream.send_all(said)
        assert await stream.receive_some() == b""
        assert trio.current_time() <= ASK_S
        assert len(point.rooms) == 0


async def test_words_may_come_in_any_pieces() -> None:
    question = QUESTION.pack(MAGIC, ROOM)
    assert struct.unpack(">4sQ", question) == (MAGIC, ROOM)
    for cut in range(1, len(question)):
        async with connected() as (point, stream):
            await prefill(point.rooms, 0, cut)
            await stream.send_all(question[:cut])
            await wait_all_tasks_blocked()
            await stream.send_all(question[cut:])
            assert ANSWER.unpack(await stream.receive_some()) == (MAGIC, 1, cut)


@pytest.mark.parametrize(
    ("args", "port"),
    [({}, None), ({"bootstrap_port": "0"}, 0), ({"bootstrap-ports": "8998"}, 8998)],
)
def test_the_port_goes_by_two_names(args: dict[str, str], port: int | None) -> None:
    assert read_options(EngineOptions(served_name="m", args=args)).bootstrap_port == port


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"bootstrap_ports": "1,2"}, "takes one port"),
        ({"bootstrap_port": "1", "bootstrap_ports": "1"}, "give one"),
        ({"bootstrap_port": "65536"}, "not within 0 and 65535"),
        ({"bootstrap_ports": "x"}, "not a whole number"),
    ],
)
def test_a_bad_port_is_refused(args: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_options(EngineOptions(served_name="m", args=args))
