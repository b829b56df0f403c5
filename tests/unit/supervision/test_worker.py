"""The worker task against fake processes in virtual time."""

import itertools
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import ModelNotReady, WorkerLost
from appliance.core.identity import WorkerId
from appliance.core.settings import SupervisionSettings
from appliance.supervision.changes import Changes
from appliance.supervision.log_ring import LogRing
from appliance.supervision.states import Phase
from appliance.supervision.worker import WorkerTask
from tests.helpers.instances import FakeWorld, make_instance


class Bench:
    """One running worker task and its world."""

    def __init__(self, world: FakeWorld) -> None:
        self.world = world
        self.log = LogRing()
        self.seen: list[str] = []
        self.changes = Changes()
        self.worker = WorkerTask(make_instance(), world.make(), self.log, self._note)
        self.scope = trio.CancelScope()
        self.done = trio.Event()

    def _note(self) -> None:
        phase = self.worker.phase.value
        if self.seen[-1:] != [phase]:
            self.seen.append(phase)
        self.changes.bump()

    async def run(self) -> None:
        with self.scope:
            await self.worker.run()
        self.done.set()

    async def ready(self) -> None:
        """The newest process says that it serves."""
        await wait_all_tasks_blocked()
        assert self.worker.on_ready(self.worker.view().id, None)
        await wait_all_tasks_blocked()

    async def until(self, phase: Phase) -> None:
        """Wait for a phase."""
        while self.worker.phase is not phase:
            await self.changes.wait(self.changes.version)

    async def crash(self, code: int = 1, output: bytes = b"") -> None:
        await wait_all_tasks_blocked()
        self.world.processes.last.exit(code, output)
        await wait_all_tasks_blocked()


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


@pytest.fixture
async def bench(world: FakeWorld) -> AsyncIterator[Bench]:
    bench = Bench(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await wait_all_tasks_blocked()
        yield bench
        nursery.cancel_scope.cancel()


async def test_becomes_ready_and_drains(bench: Bench, autojump_clock: MockClock) -> None:
    first = bench.worker.view()
    assert (first.phase, first.pid, first.restarts) == ("starting", 1000, 0)
    assert first.address == f"/run/{first.id}"
    await bench.ready()
    assert bench.worker.view().phase == "ready"
    bench.worker.want_stop("scaled down")
    await wait_all_tasks_blocked()
    assert bench.worker.view().phase == "draining"
    bench.world.processes.last.exit(0)
    await bench.done.wait()
    assert bench.seen == ["starting", "ready", "draining", "stopped"]
    assert bench.world.actions == ["start", "ready", "drain", "stop"]
    assert bench.world.processes.last.signals == []


async def test_drain_deadline_then_term_then_kill(bench: Bench, autojump_clock: MockClock) -> None:
    bench.world.processes.last._obeys_term = False
    await bench.ready()
    began = trio.current_time()
    bench.worker.want_stop("scaled down", drain_s=20)
    await bench.done.wait()
    assert trio.current_time() - began == pytest.approx(25)
    assert bench.world.processes.last.signals == ["TERM", "KILL"]
    assert bench.seen[-3:] == ["draining", "stopping", "stopped"]


async def test_a_second_stop_shortens_the_drain(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.ready()
    began = trio.current_time()
    bench.worker.want_stop("scaled down", drain_s=30)
    await trio.sleep(3)
    bench.worker.want_stop("now", drain_s=0)
    await bench.done.wait()
    assert trio.current_time() - began == pytest.approx(3)
    assert bench.world.processes.last.signals == ["TERM"]


async def test_unreachable_worker_gets_term_at_once(world: FakeWorld, bench: Bench, autojump_clock: MockClock) -> None:
    async def refuse(worker: WorkerId, drain_s: float) -> None:
        raise WorkerLost("no link")

    world.begin_drain = refuse
    await bench.ready()
    began = trio.current_time()
    bench.worker.want_stop("scaled down")
    await bench.done.wait()
    assert trio.current_time() == began
    assert world.processes.last.signals == ["TERM"]


async def test_stop_while_starting_needs_no_drain(bench: Bench, autojump_clock: MockClock) -> None:
    bench.worker.want_stop("changed my mind")
    await bench.done.wait()
    assert bench.seen == ["starting", "stopping", "stopped"]


async def test_crash_after_ready_restarts_at_once_under_a_new_id(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.ready()
    old = bench.worker.view().id
    began = trio.current_time()
    await bench.crash(3)
    view = bench.worker.view()
    assert trio.current_time() == began
    assert (view.phase, view.restarts) == ("starting", 1)
    assert view.id != old
    assert view.id.startswith("serve-worker-0-")
    assert "exit code 3" in view.reason
    assert bench.seen == ["starting", "ready", "backoff", "starting"]


async def test_news_of_an_old_process_are_refused(bench: Bench, autojump_clock: MockClock) -> None:
    old = bench.worker.view().id
    await bench.ready()
    await bench.crash()
    assert not bench.worker.on_ready(old, None)
    assert not bench.worker.on_start_failed(old, "x", "y", True)
    await wait_all_tasks_blocked()
    assert bench.worker.phase is Phase.STARTING


async def test_early_exits_back_off_and_end_in_failed(bench: Bench, autojump_clock: MockClock) -> None:
    times = []
    while bench.worker.phase is not Phase.FAILED:
        times.append(trio.current_time())
        await bench.crash(1)
        with trio.move_on_after(60):
            await bench.until(Phase.STARTING)
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) == bench.world.settings.max_early_exits
    for wait, base in zip(waits, [0.5, 1, 2, 4, 8, 16, 30], strict=True):
        assert base <= wait <= base * 1.1
    with pytest.raises(ModelNotReady, match="exit code 1"):
        await bench.worker.ensure_ready()
    bench.worker.want_stop("spec changed")
    await bench.done.wait()


async def test_start_deadline_kills_and_counts_as_early_exit(bench: Bench, autojump_clock: MockClock) -> None:
    bench.world.processes.last._obeys_term = False
    await trio.sleep(59)
    assert bench.worker.phase is Phase.STARTING
    await trio.sleep(1.1)
    assert bench.world.processes.children[0].signals == ["KILL"]
    view = bench.worker.view()
    assert (view.phase, view.reason) == ("backoff", "it was not ready within 60 s")


async def test_progress_that_moves_puts_the_start_deadline_off(bench: Bench, autojump_clock: MockClock) -> None:
    child = bench.worker.view().id
    for step in range(10):
        await trio.sleep(50)
        assert bench.worker.on_progress(child, step / 10, "downloading")
    assert bench.worker.phase is Phase.STARTING
    await trio.sleep(40)
    bench.worker.on_progress(child, 0.9, "downloading")  # saying the same again is no progress
    await trio.sleep(20.1)
    assert bench.world.processes.children[0].signals == ["KILL"]
    assert bench.worker.view().reason == "it was not ready within 60 s after it last said: downloading"


async def test_what_the_child_says_wins_and_final_fails_at_once(bench: Bench, autojump_clock: MockClock) -> None:
    bench.worker.on_start_failed(bench.worker.view().id, "bad_model", "the model file is truncated", final=True)
    await bench.crash(1, b"Address already in use\n")
    view = bench.worker.view()
    assert (view.phase, view.reason, view.pid) == ("failed", "the model file is truncated", None)


async def test_a_child_that_failed_but_does_not_end_is_killed(bench: Bench, autojump_clock: MockClock) -> None:
    bench.worker.on_start_failed(bench.worker.view().id, "port_taken", "its port is taken", final=False)
    await trio.sleep(5.1)
    assert bench.world.processes.children[0].signals == ["KILL"]
    assert bench.worker.view().reason == "its port is taken"


async def test_out_of_memory_kill_is_named(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.ready()
    bench.world.oom_kills = 1
    await bench.crash(-9)
    assert "memory ran out" in bench.worker.view().reason


async def test_hint_in_the_last_output(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.crash(1, b"Traceback ...\nMemoryError")
    assert bench.worker.view().reason == "it ran out of memory"
    assert [line.text for line in bench.log.lines()] == ["Traceback ...", "MemoryError"]


async def test_a_held_pipe_delays_the_restart_by_the_grace_only(
    world: FakeWorld, bench: Bench, autojump_clock: MockClock
) -> None:
    bench.world.processes.last._holds_pipe = True
    await bench.ready()
    began = trio.current_time()
    await bench.crash(1)
    assert bench.worker.view().phase == "backoff", "a dead process must not look ready meanwhile"
    await bench.until(Phase.STARTING)
    assert trio.current_time() - began == pytest.approx(2.0)


async def test_a_process_that_cannot_be_started_backs_off(autojump_clock: MockClock) -> None:
    world = FakeWorld(settings=SupervisionSettings(max_early_exits=3))
    world.processes.refuse = "cannot start x: No such file or directory"
    bench = Bench(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.run)
        await trio.sleep(10)
        assert bench.worker.phase is Phase.FAILED
        assert bench.worker.view().reason == "cannot start x: No such file or directory"
        bench.worker.want_stop("enough")
    assert bench.seen[-1] == "stopped"


async def test_ensure_ready_waits_over_restarts(bench: Bench, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.worker.ensure_ready)
        await bench.crash()
        await trio.sleep(1)
        await bench.ready()
    assert bench.worker.phase is Phase.READY


async def test_quiet_time_starts_the_backoff_afresh(bench: Bench, autojump_clock: MockClock) -> None:
    for _ in range(3):
        await bench.crash()
        await trio.sleep(3)
    await bench.ready()
    await trio.sleep(61)
    await bench.crash()
    await bench.crash()
    assert bench.worker._backoff.early_exits == 1


async def test_cancelling_kills_the_group_and_reaps(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.ready()
    bench.scope.cancel()
    await bench.done.wait()
    child = bench.world.processes.last
    assert child.signals == ["KILL"]
    assert child.closed


async def test_progress_is_shown_until_ready(bench: Bench, autojump_clock: MockClock) -> None:
    bench.worker.on_progress(bench.worker.view().id, 0.5, "loading weights")
    progress = bench.worker.view().progress
    assert progress is not None
    assert (progress.fraction, progress.text) == (0.5, "loading weights")
    await bench.ready()
    assert bench.worker.view().progress is None


async def test_stalled_worker_is_killed_and_replaced(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.ready()
    stuck = bench.world.processes.last
    assert not bench.worker.on_stalled(WorkerId("another"), "no")
    assert bench.worker.on_stalled(bench.worker.view().id, "it got nowhere")
    await wait_all_tasks_blocked()
    assert stuck.signals == ["KILL"]
    await bench.until(Phase.STARTING)
    assert bench.world.processes.last is not stuck
    crash = next(event for event in bench.world.events if event.action == "crash")
    assert (crash.reason, crash.inputs["code"]) == ("it got nowhere", "stalled")


async def test_only_a_serving_worker_can_stall(bench: Bench) -> None:
    await wait_all_tasks_blocked()
    assert not bench.worker.on_stalled(bench.worker.view().id, "it still loads")
