"""The supervisor over real processes: restart, rolling change, logs, stop, and its own violent death."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.core.settings import DrainSettings, SupervisionSettings
from appliance.supervision.guard import read_processes
from appliance.supervision.guard_client import GuardClient
from appliance.supervision.process import start_child
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.surroundings import Surroundings
from tests.helpers.instances import make_instance
from tests.helpers.scripted import (
    GUARD_ARGV,
    ROOT,
    Reports,
    drain_by_signal,
    is_alive,
    open_parent,
    open_reports,
    read_numbers,
    wait_dead,
    wait_until,
)

QUICK = SupervisionSettings(backoff_first_s=0.05, max_early_exits=3, start_base_s=5.0)


class Bench:
    """A supervisor of scripted workers and what it recorded."""

    def __init__(self, reports: Reports, logs_dir: Path, guard: GuardClient, *, may_surge: bool) -> None:
        self.reports = reports
        self.guard = guard
        self.events: list[LedgerEvent] = []
        self.supervisor = Supervisor(
            Surroundings(
                launch=reports.launch,
                begin_drain=self._drain,
                ledger=self.events.append,
                settings=QUICK,
                drain=DrainSettings(request_s=3.0, term_s=0.5),
                guard=guard,
                may_surge=lambda _: may_surge,
            ),
            logs_dir=logs_dir,
        )

    async def _drain(self, worker: WorkerId, drain_s: float) -> None:
        await drain_by_signal(self.supervisor, worker, drain_s)

    async def until(self, holds: Callable[[], bool], within_s: float = 8.0) -> None:
        """Wait for a fact about the workers."""
        with trio.fail_after(within_s):
            while not holds():
                await self.supervisor.wait_changed(self.supervisor.version)

    @property
    def phases(self) -> list[str]:
        return [view.phase for view in self.supervisor.views()]

    def actions(self) -> list[str]:
        """What was decided, in order."""
        return [event.action for event in self.events]


@asynccontextmanager
async def open_bench(logs_dir: Path, *, may_surge: bool = True) -> AsyncIterator[Bench]:
    env = dict(os.environ)
    async with GuardClient(GUARD_ARGV, env) as guard, open_reports() as reports, trio.open_nursery() as nursery:
        bench = Bench(reports, logs_dir, guard, may_surge=may_surge)
        nursery.start_soon(reports.read, lambda worker: bench.supervisor.on_ready(worker, None))
        await nursery.start(bench.supervisor.run)
        yield bench
        with trio.fail_after(10):
            await bench.supervisor.shut_down(0.0, 0.5)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as found:
        yield found


def worker(index: int = 0, *switches: str, spec: str = "v1") -> ComponentInstance:
    return make_instance(index, spec=spec, argv=switches)


async def test_start_scale_down_and_stop(bench: Bench) -> None:
    bench.supervisor.set_wanted([worker(0), worker(1)])
    await bench.until(lambda: bench.phases == ["ready", "ready"])
    pids = [view.pid for view in bench.supervisor.views()]
    bench.supervisor.set_wanted([worker(0)])
    await bench.until(lambda: bench.phases == ["ready"])
    assert [view.pid for view in bench.supervisor.views()] == pids[:1], "the lower index stays untouched"
    await bench.supervisor.shut_down(2.0, 0.5)
    assert bench.supervisor.views() == []
    await wait_dead(bench.reports.all_pids, 1)


async def test_a_killed_worker_comes_back_and_its_log_stays(bench: Bench, tmp_path: Path) -> None:
    bench.supervisor.set_wanted([worker(0, "--print", "hello")])
    await bench.until(lambda: bench.phases == ["ready"])
    first = bench.supervisor.views()[0]
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    await bench.until(lambda: bench.supervisor.views()[0].restarts == 1 and bench.phases == ["ready"])
    assert "SIGKILL" in next(event.reason for event in bench.events if event.action == "crash")
    ring = bench.supervisor.logs("serve/worker/0")
    assert [line.text for line in ring.lines()] == ["hello", "hello"]
    assert ring.lines()[0].worker == first.id
    assert (tmp_path / "worker.log").read_text().count("hello") == 2


async def test_early_exits_back_off_and_fail(bench: Bench) -> None:
    bench.supervisor.set_wanted([worker(0, "--never-ready", "--crash-after", "0", "--exit-code", "5")])
    await bench.until(lambda: bench.phases == ["failed"])
    assert [a for a in bench.actions() if a != "crash"] == ["start", "backoff", "start", "backoff", "start", "fail"]
    assert bench.supervisor.views()[0].reason == "it ended with exit code 5"
    bench.supervisor.set_wanted([worker(0, spec="v2")])
    await bench.until(lambda: bench.phases == ["ready"])


async def test_rolling_change_has_the_new_one_ready_before_the_old_one_drains(bench: Bench) -> None:
    bench.supervisor.set_wanted([worker(0), worker(1)])
    await bench.until(lambda: bench.phases == ["ready", "ready"])
    bench.events.clear()
    bench.supervisor.set_wanted([worker(0, spec="v2"), worker(1, spec="v2")])
    lowest = 2

    def rolled() -> bool:
        nonlocal lowest
        lowest = min(lowest, bench.phases.count("ready"))
        specs = [view.spec_hash for view in bench.supervisor.views()]
        return specs == ["v2", "v2"] and bench.phases == ["ready", "ready"]

    await bench.until(rolled)
    assert bench.actions() == ["start", "ready", "drain", "stop"] * 2
    assert [event.inputs["instance"][-1] for event in bench.events] == ["1"] * 4 + ["0"] * 4
    assert lowest == 2, "as many served as wanted all the time"


async def test_rolling_change_without_room_drains_first(tmp_path: Path) -> None:
    async with open_bench(tmp_path, may_surge=False) as bench:
        bench.supervisor.set_wanted([worker(0)])
        await bench.until(lambda: bench.phases == ["ready"])
        bench.supervisor.set_wanted([worker(0, spec="v2")])
        await bench.until(
            lambda: [v.spec_hash for v in bench.supervisor.views()] == ["v2"] and bench.phases == ["ready"]
        )
        assert bench.actions() == ["start", "ready", "drain", "stop", "start", "ready"]


async def test_a_worker_that_ignores_everything_is_killed_at_the_deadlines(bench: Bench) -> None:
    bench.supervisor.set_wanted([worker(0, "--ignore-term", "--drain-s", "60")])
    await bench.until(lambda: bench.phases == ["ready"])
    began = trio.current_time()
    await bench.supervisor.shut_down(0.5, 0.3)
    assert 0.8 <= trio.current_time() - began < 3
    await wait_dead(bench.reports.all_pids, 1)


async def test_an_escaped_grandchild_goes_with_its_crashed_worker(bench: Bench) -> None:
    bench.supervisor.set_wanted([worker(0, "--escape")])
    await bench.until(lambda: bench.phases == ["ready"])
    escaped = list(bench.reports.pids["escaped"])
    pid = bench.supervisor.views()[0].pid
    assert pid is not None
    assert is_alive(escaped[0])
    os.kill(pid, signal.SIGSEGV)
    await wait_dead(escaped, 2)
    await bench.until(lambda: bench.phases == ["ready"])


async def test_a_burst_of_output_reaches_ring_and_file(bench: Bench, tmp_path: Path) -> None:
    bench.supervisor.set_wanted([worker(0, "--lines", "10000")])
    await bench.until(lambda: bench.phases == ["ready"])
    ring = bench.supervisor.logs("serve/worker/0")
    await wait_until(lambda: [line.text for line in ring.lines(1)] == ["line 9999"], 5)
    assert len(ring.lines()) == 2000
    assert len((tmp_path / "worker.log").read_text().splitlines()) == 10_000


async def test_the_front_end_stops_before_the_workers(bench: Bench) -> None:
    front = replace(make_instance(component="frontend", type="frontend"), argv=("--drain-s", "0.3"))
    bench.supervisor.set_wanted([worker(0), front])
    await bench.until(lambda: bench.phases == ["ready", "ready"])
    bench.events.clear()
    await bench.supervisor.shut_down(3.0, 0.5)
    order = [(event.inputs["instance"].split("/")[1], event.action) for event in bench.events]
    assert order == [("frontend", "drain"), ("frontend", "stop"), ("worker", "drain"), ("worker", "stop")]


async def test_a_killed_guard_is_replaced_and_still_knows_the_workers() -> None:
    async with open_reports() as reports:
        async with GuardClient(GUARD_ARGV, dict(os.environ)) as guard:
            plan, mark = reports.launch(worker(0), WorkerId("w")), guard.mark()
            child = start_child(replace(plan, env={**plan.env, **mark}))
            guard.record(child.pid, mark)
            await trio.sleep(0.3)  # until it has set up its signals
            old = guard.pid
            assert old is not None
            os.kill(old, signal.SIGTERM)
            os.kill(old, signal.SIGINT)
            await trio.sleep(0.2)
            assert guard.pid == old, "the guard ends by end of file only"
            os.kill(old, signal.SIGKILL)
            await wait_until(lambda: guard.pid not in (None, old), 3)
        with trio.fail_after(5):
            assert await child.wait() == -signal.SIGKILL, "leaving the block kills what is recorded"
        child.close()


SMALL_SUPERVISOR = str(ROOT / "tests" / "helpers" / "small_supervisor.py")


@pytest.mark.parametrize(
    "switches",
    [("--hold-pipe", "--ignore-term"), ("--escape",), ("--hold-pipe", "--escape")],
)
async def test_nothing_survives_a_killed_supervisor(switches: tuple[str, ...]) -> None:
    with open_parent(SMALL_SUPERVISOR, *switches) as parent:
        pids = read_numbers(parent)
        assert len(pids) >= 5, "the guard, two workers and a grandchild or two of each"
        assert all(is_alive(pid) for pid in pids)
    await wait_dead(pids, 5)


@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.3])
async def test_nothing_survives_a_supervisor_killed_while_it_starts_its_workers(after_s: float) -> None:
    tag = f"SCRIPTED_RUN={os.getpid()}-{after_s}"
    with open_parent("-c", RUN_UNDER_TAG, tag, SMALL_SUPERVISOR, "--hold-pipe", "--escape"):
        await trio.sleep(after_s)
    await wait_until(lambda: not find_tagged(tag), 5)


RUN_UNDER_TAG = """
import os, sys
os.environ.update([sys.argv[1].split("=")])
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def find_tagged(tag: str) -> list[int]:
    """The processes that were started with this entry in their environment."""
    found = []
    for pid in read_processes():
        with suppress(OSError):
            if tag.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


@pytest.mark.slow
async def test_a_grandchild_that_left_session_and_environment_is_found_by_the_earlier_look() -> None:
    with open_parent(SMALL_SUPERVISOR, "--escape", "--forget-env") as parent:
        pids = read_numbers(parent)
        await trio.sleep(6)  # one look of the guard
    await wait_dead(pids, 5)


async def test_one_worker_is_restarted_on_request(bench: Bench) -> None:
    bench.supervisor.set_wanted([worker(0), worker(1)])
    await bench.until(lambda: bench.phases == ["ready", "ready"])
    first, second = bench.supervisor.views()
    assert bench.supervisor.restart(first.id, "asked for")
    assert not bench.supervisor.restart(first.id, "asked for twice")
    assert not bench.supervisor.restart(WorkerId("nobody"), "asked for")
    await bench.until(lambda: bench.phases == ["ready", "ready"] and bench.supervisor.views()[0].id != first.id)
    assert bench.supervisor.views()[1].pid == second.pid
    assert "asked for" in {event.reason for event in bench.events}
