"""The node's GPUs over time: looks, claims, alarms, views; with looks that a test makes up."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from appliance.core.errors import UsageError
from appliance.core.gpus import GIB, GpuFault, GpuHealth, GpuRequest, GpuScan
from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.core.settings import HardwareSettings
from appliance.hardware.machine import MachineFacts
from appliance.roles.node.gpu_views import add_gpu_metrics, describe_gpus, describe_hardware
from appliance.roles.node.hardware import NodeHardware
from appliance.supervision.gpu_places import NoRoom
from appliance.supervision.gpu_releases import UNSEEN
from appliance.supervision.supervisor import Supervisor
from appliance.telemetry.cells import Metrics
from appliance.telemetry.metrics import TABLE, render
from tests.fakes.processes import FakeProcesses
from tests.helpers.gpus import board, make_gpu, make_scan
from tests.helpers.instances import FakeWorld

ONE, NO_WISH = GpuRequest(count=1), GpuRequest()
A, B = WorkerId("a"), WorkerId("b")
NO_GPU = GpuScan(fault=GpuFault.NO_GPU, message="this machine has no NVIDIA GPU")
BROKEN = GpuScan(fault=GpuFault.NOT_LOADED, message="run modprobe nvidia")


class Looks:
    """A `GpuPort` that finds what it is told to."""

    def __init__(self) -> None:
        self.found = board(2)
        self.count = 0

    async def scan(self) -> GpuScan:
        self.count += 1
        await trio.lowlevel.checkpoint()
        return self.found


class Bench:
    """A node's hardware beside a supervisor without processes."""

    def __init__(self) -> None:
        self.looks = Looks()
        self.events: list[LedgerEvent] = []
        settings = HardwareSettings(scan_s=5.0)
        self.hardware = NodeHardware(settings, self.events.append, lambda _: 0, source=self.looks)
        self.placing = self.hardware.placing
        self.supervisor = Supervisor(FakeWorld(processes=FakeProcesses()).make())

    async def look(self) -> None:
        await trio.sleep(5)
        await wait_all_tasks_blocked()

    @property
    def actions(self) -> list[str]:
        return [event.action for event in self.events]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.hardware.run, made.supervisor)
        yield made
        nursery.cancel_scope.cancel()


def instance(index: int = 0, engine: str = "mocker", gpus: GpuRequest = ONE) -> ComponentInstance:
    return ComponentInstance(
        graph="g",
        component="w",
        index=index,
        type="worker",
        argv=("worker", "--engine", engine),
        gpus=gpus,
        spec_hash="x",
    )


async def test_claims_wait_for_the_first_look(bench: Bench, autojump_clock: MockClock) -> None:
    assert bench.placing.claim(instance(), A) == UNSEEN
    assert bench.placing.claim(instance(gpus=NO_WISH), A) == ""
    seen = bench.supervisor.version
    await wait_all_tasks_blocked()
    assert bench.supervisor.version > seen  # those who wait are told
    assert bench.placing.claim(instance(), A) == ""
    assert bench.placing.environment(A) == {"CUDA_VISIBLE_DEVICES": "GPU-0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert bench.placing.environment(B)["CUDA_VISIBLE_DEVICES"] == ""
    assert bench.actions == ["place"]
    bench.placing.release(A)
    bench.placing.release(A)
    assert bench.actions == ["place", "release"]
    assert bench.placing.grant(A) is None


async def test_a_look_that_shows_nothing_new_wakes_nobody(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.look()
    seen = bench.supervisor.version
    await bench.look()
    assert bench.supervisor.version == seen
    assert bench.looks.count >= 3


async def test_a_machine_without_gpu_is_looked_at_once(bench: Bench, autojump_clock: MockClock) -> None:
    bench.looks.found = NO_GPU
    await bench.look()
    await trio.sleep(1000)
    assert (bench.looks.count, bench.events) == (1, [])
    assert bench.placing.environment(A) == {}
    assert bench.placing.claim(instance(), A) == ""  # the mocker does without
    with pytest.raises(NoRoom, match="needs a GPU: this machine has no NVIDIA GPU"):
        bench.placing.claim(instance(engine="vllm", gpus=NO_WISH), A)
    assert not bench.placing.has_room(instance(engine="vllm", gpus=NO_WISH))


async def test_a_broken_driver_is_said_once_and_looked_at_again(bench: Bench, autojump_clock: MockClock) -> None:
    bench.looks.found = BROKEN
    await bench.look()
    await bench.look()
    assert bench.actions == ["fault"]
    with pytest.raises(NoRoom, match="modprobe"):
        bench.placing.claim(instance(), A)
    bench.looks.found = board(1)
    await bench.look()
    assert bench.actions == ["fault", "recover"]
    assert bench.placing.has_room(instance())


async def test_loads_take_turns_on_a_shared_gpu(bench: Bench, autojump_clock: MockClock) -> None:
    bench.looks.found = board(1)
    await wait_all_tasks_blocked()
    part = GpuRequest(count=1, memory_share=0.4)
    assert bench.placing.claim(instance(0, gpus=part), A) == ""
    assert bench.placing.claim(instance(1, gpus=part), B) == "g/w/0 is loading on its GPU"
    bench.placing.loaded(A)
    assert bench.placing.claim(instance(1, gpus=part), B) == ""
    assert not bench.placing.has_room(instance(2, gpus=part))


async def test_a_wish_that_contradicts_itself_is_refused_by_the_claim_only(
    bench: Bench, autojump_clock: MockClock
) -> None:
    await wait_all_tasks_blocked()
    wrong = replace(instance(engine="vllm"), argv=("worker", "--engine", "vllm", "--engine-arg", "tp=4"))
    assert bench.placing.has_room(wrong)
    with pytest.raises(UsageError, match="asks for 1 GPUs"):
        bench.placing.claim(wrong, A)


async def test_views(bench: Bench, autojump_clock: MockClock) -> None:
    bench.looks.found = make_scan(make_gpu(0, used=10, processes=None), make_gpu(1, health=GpuHealth.LOST))
    await wait_all_tasks_blocked()
    with pytest.raises(NoRoom):
        bench.placing.claim(instance(), A)
    bench.placing.claim(instance(gpus=GpuRequest(count=1, memory_share=0.5)), B)
    first, second = describe_gpus(bench.hardware.ledger)
    assert (first["memory_total"], first["memory_used"], first["memory_promised"]) == (80 * GIB, 10 * GIB, 40 * GIB)
    assert [use["instance"] for use in first["workers"]] == ["g/w/0"]
    assert (second["health"], second["reason"], second["workers"]) == ("lost", "the driver has lost it", [])
    metrics = Metrics(TABLE)
    add_gpu_metrics(metrics, bench.hardware.ledger)
    text = render(metrics.series()).decode()
    assert metrics.cell("appliance_gpu_memory_promised_bytes", "0", "GPU-0").value == 40 * GIB
    assert 'appliance_gpu_healthy{gpu="1",uuid="GPU-1"} 0.0' in text
    assert 'appliance_gpu_owner{gpu="0",uuid="GPU-0",worker="b"} 1.0' in text
    assert "appliance_gpu_power_watts{" not in text  # the driver does not tell


async def test_hardware_in_words(bench: Bench, autojump_clock: MockClock) -> None:
    machine = MachineFacts(cpus=4, cores=2, memory_total=1, memory_available=1, disk_total=1, disk_free=1)
    await wait_all_tasks_blocked()
    fine = describe_hardware(bench.hardware.ledger, machine)
    assert (fine["gpu_driver"], fine["cuda"], fine["gpu_fault"], fine["gpu_defect"]) == (
        "580.65.06",
        "13.0",
        None,
        False,
    )
    bench.looks.found = BROKEN
    await bench.look()
    broken = describe_hardware(bench.hardware.ledger, machine)
    assert (broken["gpu_fault"], broken["gpu_message"], broken["gpu_defect"]) == (
        "not_loaded",
        "run modprobe nvidia",
        True,
    )


async def test_a_release_is_looked_at_at_once(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.look()
    assert bench.placing.claim(instance(gpus=GpuRequest(count=2)), A) == ""
    await bench.look()
    bench.looks.found = make_scan(make_gpu(0, used=40), make_gpu(1))
    bench.placing.release(A)
    assert bench.placing.claim(instance(gpus=GpuRequest(count=2)), B) == UNSEEN
    before = trio.current_time()
    await trio.sleep(0.3)
    assert "memory of g/w/0 on GPU-0 is still held" in bench.placing.claim(instance(gpus=GpuRequest(count=2)), B)
    bench.looks.found = board(2)
    seen = bench.supervisor.version
    await bench.supervisor.wait_changed(seen)
    assert trio.current_time() - before < 1
    assert bench.placing.claim(instance(gpus=GpuRequest(count=2)), B) == ""
