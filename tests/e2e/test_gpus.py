"""GPUs of a box that has none: the appliance over a stand-in for the driver's library."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from tests.e2e.appliance_process import Appliance, eventually
from tests.helpers.fake_nvml import TABLE, GpuTable, h100_sxm


def graph(replicas: int) -> str:
    container = {
        "name": "main",
        "args": ["worker", "--engine", "mocker", "--model", "m", "--engine-arg", "step_ms=1"],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
    }
    worker = {
        "name": "Worker",
        "type": "worker",
        "replicas": replicas,
        "podTemplate": {"spec": {"containers": [container]}},
    }
    components = [{"name": "Frontend", "type": "frontend"}, worker]
    document = {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": "pool"},
        "spec": {"components": components},
    }
    return yaml.safe_dump(document)


@pytest.fixture
def table(tmp_path: Path) -> GpuTable:
    return GpuTable(tmp_path / "table")


@pytest.fixture
def box(binary: str | None, tmp_path: Path, nvml_library: Path, table: GpuTable) -> Iterator[Appliance]:
    """Not started yet; its library tells what `table` says."""
    env = {
        "LD_LIBRARY_PATH": str(nvml_library.parent),
        TABLE: str(table.path),
        "APPLIANCE_HARDWARE_SCAN_S": "0.1",
        "APPLIANCE_DRAIN_REQUEST_S": "2",
    }
    one = Appliance(binary, tmp_path / "state", env)
    yield one
    if one.process is not None:
        family = one.family()
        one.stop()
        for process in family:
            if process.is_running():
                process.kill()


def visible(one: Appliance) -> dict[int, str]:
    """By pid, the GPUs that the workers can see."""
    found = {}
    for worker in one.workers():
        with suppress(psutil.Error):
            variables = worker.environ()
            assert variables["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
            found[worker.pid] = variables["CUDA_VISIBLE_DEVICES"]
    return found


def ask(one: Appliance) -> str:
    answer: str = one.chat("m", "still there?", max_tokens=4)["choices"][0]["message"]["content"]
    return answer


def test_replicas_on_eight_gpus(box: Appliance, table: GpuTable, tmp_path: Path) -> None:
    h100_sxm(table).write()
    (tmp_path / "pool.yaml").write_text(graph(4))
    box.start("-f", str(tmp_path / "pool.yaml"))

    assert sorted(visible(box).values()) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    text = box.cli("status")
    assert "GPUs (8)" in text
    assert "pool/Worker/0 (79.2 promised)" in text
    metrics = box.get("/metrics").decode()
    assert 'appliance_gpu_memory_total_bytes{gpu="7",uuid="GPU-7"}' in metrics
    assert len(re.findall(r"^appliance_gpu_owner\{.*\} 1\.0$", metrics, re.MULTILINE)) == 4

    box.cli("scale", "Worker", "--graph", "pool", "--replicas", "3")
    eventually(lambda: len(visible(box)) == 3)
    eventually(lambda: box.get("/metrics").decode().count("appliance_gpu_owner{") == 3)

    before = visible(box)
    victim, uuid = next(iter(before.items()))
    table.change(int(uuid[-1]), lost=15)
    eventually(lambda: victim not in visible(box) and len(visible(box)) == 3)
    assert all(ask(box) for _ in range(3))
    after = visible(box)
    assert before.items() - after.items() == {(victim, uuid)}
    assert set(after.values()) - set(before.values()) <= {f"GPU-{at}" for at in range(8)} - {uuid}  # a spare one
    status = box.status()
    crash = next(one for one in status["events"] if one["action"] == "crash")
    assert crash["reason"].startswith(f"its GPU {uuid[-1]} ({uuid}) is lost")
    assert crash["inputs"]["code"] == "gpu_lost"
    assert {gpu["uuid"]: gpu["workers"] for gpu in status["gpus"] if gpu["health"] == "lost"} == {uuid: []}


def test_no_gpu_is_left(box: Appliance, table: GpuTable, tmp_path: Path) -> None:
    h100_sxm(table, 2).write()
    (tmp_path / "pool.yaml").write_text(graph(2))
    box.start("-f", str(tmp_path / "pool.yaml"))
    table.change(0, lost=15)
    eventually(lambda: "refuse" in box.log.read_text())
    failed, serving = sorted(box.status()["workers"], key=lambda worker: worker["phase"])
    assert failed["phase"] == "failed"
    assert failed["reason"] == (
        "needs one GPU that nobody else uses; "
        f"free: GPU 0 is lost, GPU 1 0.0 of 79.2 (pool/Worker/{serving['index']} promised 79.2)"
    )
    assert list(visible(box).values()) == ["GPU-1"]
    assert ask(box)
    table.change(0, lost=0)
    eventually(lambda: sorted(visible(box).values()) == ["GPU-0", "GPU-1"])


def test_an_engine_that_needs_a_gpu_is_refused_without_one(box: Appliance, table: GpuTable, tmp_path: Path) -> None:
    table.head.append("init 18")
    table.write()
    (tmp_path / "model").mkdir()
    done = box.run("serve", "--port", "0", "--engine", "vllm", str(tmp_path / "model"))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("reboot, or reload its kernel modules")
    assert "cannot serve worker: needs a GPU: the NVIDIA library and the loaded kernel module" in done.stderr


def test_the_embedded_engine_runs_beside_a_broken_driver_and_says_so(box: Appliance, table: GpuTable) -> None:
    table.head.append("init 9")
    table.write()
    box.start()
    assert "GPUs cannot be used: the NVIDIA driver is installed but its kernel module is not loaded" in box.cli(
        "status"
    )
    assert box.log.read_text().count("GPUs cannot be used, workers that need none run on the CPU") == 1
