"""What GPUs mean for the life of a worker: its turn, no room, a lost one."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import UsageError
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.views import WorkerView
from tests.fakes.gpus import FakeGpus
from tests.helpers.instances import FakeWorld, make_instance


class Bench:
    """A supervisor with one wanted worker."""

    def __init__(self, world: FakeWorld) -> None:
        self.world = world
        self.supervisor = Supervisor(world.make())
        self.supervisor.set_wanted([make_instance()])

    @property
    def view(self) -> WorkerView:
        return self.supervisor.views()[0]

    async def ready(self) -> None:
        assert self.supervisor.on_ready(self.view.id, None)
        await wait_all_tasks_blocked()

    async def reconsider(self) -> None:
        self.supervisor.reconsider()
        await wait_all_tasks_blocked()


async def start(nursery: trio.Nursery, world: FakeWorld) -> Bench:
    bench = Bench(world)
    await nursery.start(bench.supervisor.run)
    await wait_all_tasks_blocked()
    return bench


async def test_holds_its_gpus_from_start_to_end(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    bench = await start(nursery, FakeWorld())
    gpus = bench.world.gpus
    assert (gpus.held, gpus.serving) == ({bench.view.id}, set())
    await bench.ready()
    assert gpus.serving == {bench.view.id}
    bench.supervisor.set_wanted([])
    await trio.sleep(100)
    assert (bench.supervisor.views(), gpus.held) == ([], set())


async def test_waits_for_its_turn_to_load(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    bench = await start(nursery, FakeWorld(gpus=FakeGpus(busy="serve/worker/1 is loading on its GPU")))
    assert (bench.view.phase, bench.view.pid) == ("starting", None)
    assert bench.view.reason == "serve/worker/1 is loading on its GPU"
    bench.world.gpus.busy = ""
    await bench.reconsider()
    assert bench.view.pid == 1000


async def test_can_be_stopped_while_it_waits(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    bench = await start(nursery, FakeWorld(gpus=FakeGpus(busy="another loads")))
    bench.supervisor.set_wanted([])
    await wait_all_tasks_blocked()
    assert (bench.supervisor.views(), bench.world.processes.children) == ([], [])


async def test_without_room_it_has_failed_until_there_is_some(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    bench = await start(nursery, FakeWorld(gpus=FakeGpus(refuse="needs one GPU; there is none")))
    assert (bench.view.phase, bench.view.reason) == ("failed", "needs one GPU; there is none")
    await trio.sleep(1000)
    await bench.reconsider()
    assert (bench.view.phase, bench.world.actions) == ("failed", ["refuse"])
    bench.world.gpus.refuse = ""
    await bench.reconsider()
    await bench.ready()
    assert bench.view.phase == "ready"
    assert bench.world.actions == ["refuse", "start", "ready"]


async def test_a_lost_gpu_ends_its_process_and_the_next_gets_another(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    bench = await start(nursery, FakeWorld())
    await bench.ready()
    first = bench.view.id
    assert bench.supervisor.on_gpu_lost(first, "its GPU 0 is lost")
    await wait_all_tasks_blocked()
    crash = next(event for event in bench.world.events if event.action == "crash")
    assert (crash.subject, crash.reason, crash.inputs["code"]) == (f"worker/{first}", "its GPU 0 is lost", "gpu_lost")
    await trio.sleep(5)
    assert bench.view.id != first
    assert bench.world.gpus.held == {bench.view.id}
    assert not bench.supervisor.on_gpu_lost(WorkerId("nobody"), "")


async def test_a_lost_gpu_also_ends_a_process_that_loads_there(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    bench = await start(nursery, FakeWorld())
    bench.world.gpus.refuse = "GPU 0 is lost"
    bench.supervisor.on_gpu_lost(bench.view.id, "its GPU 0 is lost")
    await trio.sleep(5)
    assert bench.world.processes.children[0].signals[0] == "KILL"
    assert (bench.view.phase, bench.view.reason) == ("failed", "GPU 0 is lost")


async def test_a_wish_that_contradicts_itself_is_not_tried_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Contradiction(FakeGpus):
        def claim(self, instance: ComponentInstance, worker: WorkerId) -> str:
            raise UsageError("2 GPUs are asked for and tensor_parallel needs 4")

    bench = await start(nursery, FakeWorld(gpus=Contradiction()))
    assert bench.view.phase == "failed"
    assert bench.world.actions == ["crash", "fail"]
