"""The bus between a supervisor and its children, over a real unix socket."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from appliance.core.errors import NotRunning, WorkerLost, WorkerTimeout
from appliance.core.identity import ModelName
from appliance.core.records import ModelRecord
from appliance.core.settings import Settings
from appliance.transport.bus_client import BusClient, connect_bus
from appliance.transport.bus_server import BusChild, BusServer, ChildReport
from appliance.transport.limits import LinkLimits
from appliance.wire.bus_messages import (
    ChildHello,
    Picture,
    Progress,
    Ready,
    Sleep,
    SleepFailed,
    Slept,
    StartFailed,
    Stop,
    Wake,
    Woke,
)
from appliance.wire.framing import encode
from appliance.wire.pair import open_pair
from appliance.wire.sockets import SocketStream, connect_unix
from tests.fakes.token_engine import make_card
from tests.helpers.waiting import until

LIMITS = LinkLimits(hello_s=0.2, stall_s=5.0)
HELLO = ChildHello("frontend", "f-0", 11)


@dataclass
class Notes:
    """A bus handler that writes down what it hears."""

    heard: list[tuple[str, str, object]] = field(default_factory=list)
    fails: bool = False

    def on_hello(self, child: BusChild) -> None:
        self.heard.append(("hello", child.id, child.pid))

    def on_message(self, child: BusChild, message: ChildReport) -> None:
        if self.fails:
            raise ValueError("handler fault")
        self.heard.append(("message", child.id, message))

    def on_gone(self, child: BusChild) -> None:
        self.heard.append(("gone", child.id, child.pid))

    async def wait(self, count: int) -> None:
        await until(lambda: len(self.heard) >= count)


@dataclass
class Bus:
    server: BusServer
    notes: Notes
    path: Path
    scope: trio.CancelScope

    def join(self, hello: ChildHello = HELLO) -> AbstractAsyncContextManager[BusClient]:
        return connect_bus(self.path, hello, LIMITS)


@asynccontextmanager
async def serve_bus(path: Path) -> AsyncIterator[Bus]:
    notes = Notes()
    server = BusServer(path, notes, LIMITS)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield Bus(server, notes, path, nursery.cancel_scope)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    async with serve_bus(tmp_path / "bus.sock") as bus:
        yield bus


def make_picture(number: int, padding: int = 0) -> Picture:
    model = ModelRecord(name=ModelName("m" * padding), phase="ready", created=number)
    return Picture(workers=[], models=[model], keys=[], settings=Settings())


async def test_reports_of_a_child_arrive_in_order(bus: Bus) -> None:
    card = make_card()
    async with bus.join(ChildHello("worker", "w-0", 12)) as child:
        child.post(Progress(0.5, "loading"))
        await child.send(Ready(card))
        await child.send(StartFailed("bad_model", "cannot read it", True))
    await bus.notes.wait(5)
    assert bus.notes.heard == [
        ("hello", "w-0", 12),
        ("message", "w-0", Progress(0.5, "loading")),
        ("message", "w-0", Ready(card)),
        ("message", "w-0", StartFailed("bad_model", "cannot read it", True)),
        ("gone", "w-0", 12),
    ]
    assert bus.server.children() == []


async def test_hello_without_a_pid_gets_ours(bus: Bus) -> None:
    async with bus.join(ChildHello("worker", "w-0", 0)):
        await bus.notes.wait(1)
        (child,) = bus.server.children("worker")
        assert child.pid > 1


async def test_last_words_leave_before_the_bus_closes(bus: Bus) -> None:
    async with bus.join() as child:
        for number in range(5000):
            child.post(Progress(number, "x" * 200))
    await bus.notes.wait(5002)
    assert len(bus.notes.heard) == 5002


async def test_pushes_reach_the_role_they_are_for(bus: Bus) -> None:
    async with bus.join() as front, bus.join(ChildHello("worker", "w-0", 12)) as worker:
        await bus.notes.wait(2)
        bus.server.broadcast("frontend", make_picture(1))
        bus.server.broadcast("worker", Stop(3.0))
        with trio.fail_after(1):
            assert await anext(front) == make_picture(1)
            assert await anext(worker) == Stop(3.0)


async def test_only_the_latest_picture_is_kept_for_a_child_that_is_behind(bus: Bus) -> None:
    reader = await connect_unix(bus.path, deadline_s=1)
    reader.send_now(encode(HELLO))
    await bus.notes.wait(1)
    for number in range(100):
        bus.server.broadcast("frontend", make_picture(number, padding=100_000))
        await trio.testing.wait_all_tasks_blocked()
    received = b""
    with trio.fail_after(5):
        while encode(make_picture(99, padding=100_000)) not in received:
            received += bytes(await reader.receive())
    assert len(received) < 10 * 100_000
    reader.close()


async def test_child_that_reads_a_little_at_a_time_gets_no_outdated_pictures(bus: Bus) -> None:
    near, far = open_pair(1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.server.serve, far)
        near.send_now(encode(HELLO))
        await bus.notes.wait(1)
        received = b""
        for number in range(100):
            bus.server.broadcast("frontend", make_picture(number, padding=20_000))
            received += bytes(await near.receive())
        with trio.fail_after(2):
            while encode(make_picture(99, padding=20_000)) not in received:
                received += bytes(await near.receive())
        assert len(received) < 9 * 20_000  # those that were begun while it read, and the last
        nursery.cancel_scope.cancel()


async def test_child_that_does_not_look_finds_the_latest_picture(bus: Bus) -> None:
    async with bus.join() as child:
        await bus.notes.wait(1)
        for number in range(10):
            bus.server.broadcast("frontend", make_picture(number))
            await trio.testing.wait_all_tasks_blocked()
        bus.server.push(bus.server.children()[0], Stop(1.0))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await anext(child) == Stop(1.0)
        assert await anext(child) == make_picture(9)


async def test_pull_gets_an_answer(bus: Bus) -> None:
    async with bus.join() as child:
        child.answer("metrics", lambda: {"requests": [1, 2.5, "x", None]})
        await bus.notes.wait(1)
        peer = bus.server.children()[0]
        assert await bus.server.pull(peer, "metrics", 1) == {"requests": [1, 2.5, "x", None]}
        assert await bus.server.pull(peer, "unknown", 1) is None


async def test_a_question_may_be_about_something(bus: Bus) -> None:
    async with bus.join() as child:
        child.answer_about("why", lambda about: {"about": about} if about else None)
        await bus.notes.wait(1)
        assert await bus.server.pull_all("frontend", "why", 1, "r-1") == {"f-0": {"about": "r-1"}}
        assert await bus.server.pull_all("frontend", "why", 1) == {}


@pytest.mark.parametrize("answer", [object(), 1 << 70])
async def test_faulty_answer_is_none_and_the_bus_goes_on(bus: Bus, answer: object) -> None:
    async with bus.join() as child:
        child.answer("bad", lambda: answer)
        child.answer("worse", lambda: 1 / 0)
        await bus.notes.wait(1)
        peer = bus.server.children()[0]
        assert await bus.server.pull(peer, "bad", 1) is None
        assert await bus.server.pull(peer, "worse", 1) is None
        assert not child.gone.is_set()


async def test_pull_all_leaves_out_who_does_not_answer(bus: Bus) -> None:
    async with bus.join() as quick, bus.join(ChildHello("frontend", "f-1", 2)):
        quick.answer("metrics", lambda: 7)
        deaf = await connect_unix(bus.path, deadline_s=1)
        deaf.send_now(encode(ChildHello("frontend", "f-2", 3)))
        await bus.notes.wait(3)
        assert await bus.server.pull_all("frontend", "metrics", 0.05) == {"f-0": 7}
        with pytest.raises(WorkerTimeout):
            await bus.server.pull(bus.server.children()[2], "metrics", 0.01)
        deaf.close()


async def test_pull_from_a_child_that_goes(bus: Bus) -> None:
    deaf = await connect_unix(bus.path, deadline_s=1)
    deaf.send_now(encode(HELLO))
    await bus.notes.wait(1)
    peer = bus.server.children()[0]

    async def leave() -> None:
        await trio.sleep(0.01)
        deaf.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        with pytest.raises(WorkerLost), trio.fail_after(1):
            await bus.server.pull(peer, "metrics", 60)
    with pytest.raises(WorkerLost):
        await bus.server.pull(peer, "metrics", 60)


async def test_child_learns_that_the_supervisor_is_gone(tmp_path: Path) -> None:
    messages = []
    async with serve_bus(tmp_path / "bus.sock") as bus, bus.join() as child:
        await bus.notes.wait(1)
        bus.server.broadcast("frontend", make_picture(1))
        await trio.testing.wait_all_tasks_blocked()
        bus.scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(1):
            messages = [message async for message in child]
            assert child.gone.is_set()
            with pytest.raises(WorkerLost):
                await child.send(Ready())
    assert messages == [make_picture(1)]


async def test_no_supervisor(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        async with connect_bus(tmp_path / "bus.sock", HELLO):
            pass


async def test_second_child_of_an_id_replaces_the_first(bus: Bus) -> None:
    async with bus.join() as old:
        await bus.notes.wait(1)
        async with bus.join(ChildHello("frontend", "f-0", 22)) as new:
            with trio.fail_after(1):
                await old.gone.wait()
            await bus.notes.wait(3)
            assert [child.pid for child in bus.server.children()] == [22]
            bus.server.broadcast("frontend", Stop(1.0))
            assert await anext(new) == Stop(1.0)
    await bus.notes.wait(4)
    assert [entry[::2] for entry in bus.notes.heard] == [("hello", 11), ("gone", 11), ("hello", 22), ("gone", 22)]


@pytest.mark.parametrize(
    "words",
    [b"garbage, and more of it", b"\xff\xff\xff\xff", encode(Ready()), encode(HELLO) + encode(HELLO)],
    ids=["garbage", "huge", "no hello", "two hellos"],
)
async def test_hostile_child_loses_its_own_bus_only(bus: Bus, words: bytes) -> None:
    async with bus.join(ChildHello("worker", "w-0", 12)) as good:
        await bus.notes.wait(1)
        await lose(await connect_unix(bus.path, deadline_s=1), words)
        assert [child.id for child in bus.server.children()] == ["w-0"]
        assert not good.gone.is_set()


async def test_silent_child_is_sent_away(bus: Bus) -> None:
    await lose(await connect_unix(bus.path, deadline_s=1), b"")
    assert bus.notes.heard == []


async def test_handler_that_raises_ends_one_bus(bus: Bus) -> None:
    bus.notes.fails = True
    async with bus.join() as child, bus.join(ChildHello("worker", "w-0", 12)) as other:
        child.post(Ready())
        with trio.fail_after(1):
            await child.gone.wait()
        assert not other.gone.is_set()


async def lose(stream: SocketStream, words: bytes) -> None:
    """Say `words` and wait until the other side hangs up."""
    if words:
        stream.send_now(words)
    with trio.fail_after(2):
        while await stream.receive():
            pass
    stream.close()


async def test_an_answer_that_takes_its_time_holds_nobody_up(bus: Bus, nursery: trio.Nursery) -> None:
    go = trio.Event()

    async def work(about: str) -> bytes:
        await go.wait()
        if about == "bad":
            raise RuntimeError("no engine")
        return about.encode()

    async with bus.join(ChildHello("worker", "w-0", 12)) as worker:
        worker.answer_later("slow", nursery, work)
        worker.answer("fast", lambda: 1)
        await bus.notes.wait(1)
        (child,) = bus.server.children("worker")
        answers: dict[str, Any] = {}

        async def ask(about: str) -> None:
            answers[about] = await child.pull("slow", 5, about)

        async with trio.open_nursery() as asking:
            asking.start_soon(ask, "good")
            asking.start_soon(ask, "bad")
            assert await child.pull("fast", 5) == 1
            go.set()
        assert answers == {"good": b"good", "bad": None}


async def test_orders_to_sleep_and_wake_come_in_their_order_and_are_answered(bus: Bus) -> None:
    async with bus.join(ChildHello("worker", "w-0", 12)) as worker:
        await bus.notes.wait(1)
        for order in (Sleep(1, 3.0), Wake()):
            bus.server.push(bus.server.children()[0], order)
        with trio.fail_after(10):
            assert [await anext(worker), await anext(worker)] == [Sleep(1, 3.0), Wake()]
            for answer in (Slept(1), Woke(), SleepFailed("cannot wake: no memory")):
                await worker.send(answer)
            await bus.notes.wait(4)
    told = [message for what, _, message in bus.notes.heard if what == "message"]
    assert told == [Slept(1), Woke(), SleepFailed("cannot wake: no memory")]
