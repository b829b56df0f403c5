"""A worker that sleeps and wakes: streams end first, none is taken meanwhile, faults are said in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import EngineFailed
from appliance.core.ports import SleepLevel
from appliance.roles.worker_sleep import WorkerSleep
from appliance.transport.link_server import LinkServer
from appliance.wire.bus_messages import Sleep, SleepFailed, Slept, ToSupervisor, Wake, Woke
from tests.fakes.token_engine import TokenEngine, make_card


@dataclass
class Drowsy(TokenEngine):
    """An engine that can sleep."""

    level: int = 0
    refusal: str = ""

    async def sleep(self, level: SleepLevel) -> None:
        await self._obey(level)

    async def wake(self) -> None:
        await self._obey(0)

    async def _obey(self, level: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.refusal:
            raise EngineFailed(self.refusal)
        self.level = level


@dataclass
class Worker:
    """The worker's part, with what it answered."""

    engine: TokenEngine = field(default_factory=Drowsy)
    answers: list[ToSupervisor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = LinkServer(self.engine, make_card(), worker="w")
        self.sleep = WorkerSleep(self.engine, self.server, self.answers.append)

    async def obey(self, *orders: Sleep | Wake) -> list[ToSupervisor]:
        for order in orders:
            self.sleep.order(order)
        await wait_all_tasks_blocked()
        return self.answers


@contextmanager
def stream(worker: Worker) -> Iterator[None]:
    """A stream that is open."""
    worker.server.load.enter()
    yield
    worker.server.load.leave()


async def test_it_sleeps_once_streams_have_ended_and_takes_none_meanwhile(nursery: trio.Nursery) -> None:
    engine = Drowsy()
    worker = Worker(engine)
    nursery.start_soon(worker.sleep.run)
    with stream(worker):
        assert await worker.obey(Sleep(1, 60.0)) == []
        assert worker.server.load.draining
        assert engine.level == 0
    await wait_all_tasks_blocked()
    assert (worker.answers, engine.level) == ([Slept(1)], 1)
    assert await worker.obey(Wake()) == [Slept(1), Woke()]
    assert (worker.server.load.draining, engine.level) == (False, 0)
    nursery.cancel_scope.cancel()


async def test_streams_are_given_only_so_long(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    worker = Worker()
    nursery.start_soon(worker.sleep.run)
    with stream(worker):
        worker.sleep.order(Sleep(2, 5.0))
        await trio.sleep(10)
        assert worker.answers == [Slept(2)]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Drowsy(refusal="no memory"), "cannot sleep: no memory"),
        (TokenEngine(), "cannot sleep: this engine has no sleep"),
    ],
)
async def test_what_does_not_work_is_said(engine: TokenEngine, reason: str, nursery: trio.Nursery) -> None:
    worker = Worker(engine)
    nursery.start_soon(worker.sleep.run)
    assert await worker.obey(Sleep(1, 1.0)) == [SleepFailed(reason)]
    nursery.cancel_scope.cancel()


async def test_one_that_cannot_wake_takes_no_streams(nursery: trio.Nursery) -> None:
    engine = Drowsy()
    worker = Worker(engine)
    nursery.start_soon(worker.sleep.run)
    await worker.obey(Sleep(1, 1.0))
    engine.refusal = "out of memory"
    assert (await worker.obey(Wake()))[-1] == SleepFailed("cannot wake: out of memory")
    assert worker.server.load.draining
    nursery.cancel_scope.cancel()
