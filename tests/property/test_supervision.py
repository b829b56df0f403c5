"""Supervision never sticks: the state table, and reconcile against a small model of what workers do."""

from dataclasses import replace

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.instances import ComponentInstance
from appliance.supervision.log_ring import LogRing
from appliance.supervision.reconcile import Drain, Present, Start, plan
from appliance.supervision.states import MOVES, Phase
from appliance.supervision.worker import WorkerTask
from tests.fakes.processes import FakeProcesses
from tests.helpers.instances import FakeWorld, make_instance

READY, FAILED, DRAINING, STARTING, BACKOFF = (
    Phase.READY,
    Phase.FAILED,
    Phase.DRAINING,
    Phase.STARTING,
    Phase.BACKOFF,
)


@given(st.data())
def test_from_every_phase_any_walk_can_still_stop(data: st.DataObject) -> None:
    phase = data.draw(st.sampled_from(Phase))
    for _ in range(data.draw(st.integers(0, 6))):
        if MOVES[phase]:
            phase = data.draw(st.sampled_from(sorted(MOVES[phase])))
    seen, edge = {phase}, {phase}
    while edge:
        edge = {after for before in edge for after in MOVES[before]} - seen
        seen |= edge
    assert Phase.STOPPED in seen
    assert not MOVES[Phase.STOPPED]


class Model:
    """Workers of two components; a driver decides which of them makes its next move."""

    def __init__(self, surge: bool) -> None:
        self.surge = surge
        self.workers: dict[int, Present] = {}
        self.wanted: list[ComponentInstance] = []
        self.number = 0

    def reconcile(self) -> bool:
        effects = plan(self.wanted, list(self.workers.values()), may_surge=lambda _: self.surge)
        for effect in effects:
            match effect:
                case Start(instance):
                    self.number += 1
                    self.workers[self.number] = Present(
                        number=self.number, instance=instance, phase=STARTING, leaving=False
                    )
                case Drain(number, _):
                    assert not self.workers[number].leaving, "drained twice"
                    self.workers[number] = replace(self.workers[number], leaving=True, phase=DRAINING)
        return bool(effects)

    def settle(self) -> None:
        """Effects run out by themselves: calling again after them changes nothing."""
        for _ in range(50):
            if not self.reconcile():
                return
        raise AssertionError("reconcile never comes to rest")

    def advance(self, number: int, crash: bool) -> None:
        worker = self.workers[number]
        if worker.leaving:
            del self.workers[number]
        elif worker.phase in (STARTING, BACKOFF):
            self.workers[number] = replace(worker, phase=BACKOFF if crash else READY)
        elif crash:
            self.workers[number] = replace(worker, phase=BACKOFF)

    def count(self, component: str) -> int:
        return sum(worker.instance.component == component for worker in self.workers.values())


counts = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["v1", "v2", "v3"]))


@settings(deadline=None)  # a shared machine may stand still for a while
@given(st.booleans(), st.lists(st.tuples(counts, st.lists(st.tuples(st.integers(0, 9), st.booleans()))), max_size=5))
def test_any_history_ends_in_what_is_wanted(
    surge: bool, history: list[tuple[tuple[int, int, str], list[tuple[int, bool]]]]
) -> None:
    model = Model(surge)
    for (first, second, spec), moves in history:
        sizes = {"a": first, "b": second}
        model.wanted = [
            make_instance(i, spec=spec, component=name) for name, size in sizes.items() for i in range(size)
        ]
        model.settle()
        for pick, crash in moves:
            if model.workers:
                model.advance(sorted(model.workers)[pick % len(model.workers)], crash)
                model.settle()
    for _ in range(200):
        for number in list(model.workers):
            if number in model.workers:
                model.advance(number, crash=False)
                model.settle()
    assert {(w.instance.key, w.instance.spec_hash) for w in model.workers.values()} == {
        (instance.key, instance.spec_hash) for instance in model.wanted
    }
    assert len(model.workers) == len(model.wanted)
    assert all(worker.phase is READY for worker in model.workers.values())


@given(st.booleans(), st.integers(1, 4), st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_a_roll_keeps_to_its_bounds(surge: bool, replicas: int, moves: list[tuple[int, bool]]) -> None:
    """With room one worker more at most and no ready one less; without room one less at most and never one more."""
    model = Model(surge)
    model.wanted = [make_instance(i) for i in range(replicas)]
    model.settle()
    for number in list(model.workers):
        model.advance(number, crash=False)
    model.wanted = [make_instance(i, spec="v2") for i in range(replicas)]
    model.settle()
    for pick, _ in moves:
        model.advance(sorted(model.workers)[pick % len(model.workers)], crash=False)
        model.settle()
        ready = sum(worker.phase is READY for worker in model.workers.values())
        assert model.count("worker") <= replicas + (1 if surge else 0)
        assert ready >= replicas - (0 if surge else 1)


reports = st.sampled_from(
    [
        "ready",
        "progress",
        "exit",
        "signal",
        "said",
        "final",
        "stop",
        "stop now",
        "refuse",
        "sleep",
        "no gpu",
        "gpu busy",
        "gpu free",
        "gpu lost",
    ]
)


@given(st.lists(st.tuples(reports, st.floats(0.0, 40.0)), max_size=12), st.booleans())
def test_a_worker_task_never_sticks_and_makes_allowed_moves_only(
    script: list[tuple[str, float]], obeys_term: bool
) -> None:
    """Whatever is reported in whatever order: no forbidden move (which would raise), and a stop always ends it."""
    trio.run(_follow, script, obeys_term, clock=MockClock(autojump_threshold=0))


async def _follow(script: list[tuple[str, float]], obeys_term: bool) -> None:
    world = FakeWorld(processes=FakeProcesses(obeys_term=obeys_term))
    log = LogRing()
    worker = WorkerTask(make_instance(), world.make(), log, lambda: None)
    done = trio.Event()

    async def run() -> None:
        await worker.run()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for step, pause_s in script:
            await wait_all_tasks_blocked()
            _act(step, worker, world)
            await trio.sleep(pause_s)
        worker.want_stop("end of the script")
        with trio.fail_after(100):
            await done.wait()
    assert worker.phase is Phase.STOPPED
    assert world.processes.alive == []
    assert all(child.closed for child in world.processes.children)
    assert world.gpus.held == set()


def _act(step: str, worker: WorkerTask, world: FakeWorld) -> None:
    current = worker.view().id
    match step:
        case "ready":
            worker.on_ready(current, None)
        case "progress":
            worker.on_progress(current, 0.5, "loading")
        case "exit" | "signal" if world.processes.alive:
            world.processes.last.exit(1 if step == "exit" else -9, b"out\n")
        case "said" | "final":
            worker.on_start_failed(current, "engine_failed", "it cannot", step == "final")
        case "stop" | "stop now":
            worker.want_stop("asked", drain_s=30 if step == "stop" else 0)
        case "no gpu" | "gpu busy" | "gpu free":
            world.gpus.refuse = "all GPUs are taken" if step == "no gpu" else ""
            world.gpus.busy = "another loads" if step == "gpu busy" else ""
            worker.reconsider()
        case "gpu lost":
            worker.on_gpu_lost(current, "its GPU is lost")
        case "refuse":
            world.processes.refuse = "" if world.processes.refuse else "no memory"
