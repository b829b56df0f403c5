"""A worker's view of its own health: sign of life, progress, canary requests."""

import pytest
import trio
from trio.testing import MockClock

from appliance.core.errors import EngineFailed
from appliance.core.ports import TokenSink
from appliance.core.requests import EngineRequest, EngineUsage
from appliance.core.settings import SupervisionSettings
from appliance.roles.worker_health import WorkerHealth
from appliance.transport.worker_load import WorkerLoad
from tests.fakes.token_engine import TokenEngine, make_card

CANARY = SupervisionSettings(canary=True, canary_wait_s=10, canary_timeout_s=3)


class Patient(TokenEngine):
    """An engine that answers after a while, or not at all."""

    def __init__(self, takes_s: float = 0.0, error: Exception | None = None) -> None:
        super().__init__()
        self.takes_s, self.error, self.asked = takes_s, error, 0

    async def generate(self, request: EngineRequest, sink: TokenSink) -> None:
        self.asked += 1
        await trio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        sink.emit([1], "length", EngineUsage(1, 1))

    def progress(self) -> int:
        return 100


async def watch(engine: Patient, load: WorkerLoad, seconds: float, settings: SupervisionSettings = CANARY) -> str:
    """The fault that is known after some virtual seconds."""
    health = WorkerHealth(engine, make_card(), load, settings)
    with trio.move_on_after(seconds):
        await health.run()
    return health.sign().fault


async def test_idle_engine_is_asked_for_a_token_now_and_then(autojump_clock: MockClock) -> None:
    engine = Patient()
    assert await watch(engine, WorkerLoad(4), 55) == ""
    assert engine.asked == 4


@pytest.mark.parametrize(
    ("engine", "fault"),
    [(Patient(takes_s=5), "no token within 3 s"), (Patient(error=EngineFailed("out of luck")), "out of luck")],
)
async def test_engine_that_cannot_give_it_is_at_fault(engine: Patient, fault: str, autojump_clock: MockClock) -> None:
    assert fault in await watch(engine, WorkerLoad(4), 25)


async def test_success_later_takes_the_fault_back(autojump_clock: MockClock) -> None:
    engine = Patient(error=EngineFailed("out of luck"))
    load = WorkerLoad(4)
    health = WorkerHealth(engine, make_card(), load, CANARY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(health.run)
        await trio.sleep(25)
        assert health.sign().fault
        engine.error = None
        await trio.sleep(10)
        assert not health.sign().fault
        nursery.cancel_scope.cancel()


async def test_busy_engine_is_not_asked(autojump_clock: MockClock) -> None:
    engine, load = Patient(), WorkerLoad(4)
    load.enter()
    await watch(engine, load, 55)
    assert engine.asked == 0


async def test_canary_is_off_by_default(autojump_clock: MockClock) -> None:
    engine = Patient()
    assert await watch(engine, WorkerLoad(4), 55, SupervisionSettings()) == ""
    assert engine.asked == 0


def test_progress_is_chunks_ended_streams_and_what_the_engine_shows() -> None:
    load = WorkerLoad(4)
    health = WorkerHealth(Patient(), make_card(), load, CANARY)
    before = health.sign()
    load.enter()
    load.chunks += 3
    busy = health.sign()
    load.leave()
    assert (before.busy, busy.busy, health.sign().busy) == (False, True, False)
    assert (before.progress, busy.progress, health.sign().progress) == (100, 103, 104)
