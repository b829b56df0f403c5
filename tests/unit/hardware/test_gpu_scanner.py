"""Scans through the real pynvml, over a library that tells of machines that do not exist."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from appliance.core.gpus import GpuFault, GpuHealth, GpuProcess, GpuScan
from appliance.hardware.gpu_scanner import NvmlScanner
from tests.helpers.fake_nvml import MIB, TABLE, GpuTable, h100_pcie, h100_sxm, l4


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuTable:
    monkeypatch.setenv(TABLE, str(tmp_path / "table"))
    return GpuTable(tmp_path / "table")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The file system of a machine without anything from NVIDIA."""
    (tmp_path / "root/sys/bus/pci/devices").mkdir(parents=True)
    return tmp_path / "root"


def add_pci(root: Path, bus: str = "0000:10:00.0", *, vendor: str = "0x10de", kind: str = "0x030200") -> None:
    device = root / "sys/bus/pci/devices" / bus
    device.mkdir()
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(kind + "\n")


def load_module(root: Path) -> None:
    (root / "sys/module/nvidia").mkdir(parents=True)
    (root / "sys/module/nvidia/version").write_text("570.1\n")


async def scan(library: Path, root: Path, sku: str | None = None) -> GpuScan:
    return await NvmlScanner(library=str(library), root=root, sku=sku).scan()


async def test_a_machine_without_anything(root: Path) -> None:
    add_pci(root, vendor="0x8086")
    add_pci(root, "0000:10:00.1", kind="0x040300")  # the audio part of a GPU is no GPU
    found = await scan(root / "none.so", root)
    assert (found.fault, found.gpus) == (GpuFault.NO_GPU, ())
    assert not GpuFault.NO_GPU.is_defect


async def test_a_gpu_without_driver(root: Path) -> None:
    add_pci(root)
    found = await scan(root / "none.so", root)
    assert found.fault is GpuFault.NO_DRIVER
    assert "an NVIDIA GPU (PCI 0000:10:00.0)" in found.message
    assert "install the NVIDIA driver" in found.message


async def test_a_driver_without_its_library(root: Path) -> None:
    add_pci(root)
    load_module(root)
    found = await scan(root / "none.so", root)
    assert (found.fault, found.driver_version) == (GpuFault.NO_LIBRARY, "570.1")
    assert "hardware.nvml_library" in found.message


@pytest.mark.parametrize(
    ("code", "fault", "cure"),
    [
        (9, GpuFault.NOT_LOADED, "modprobe nvidia"),
        (18, GpuFault.MISMATCH, "reboot"),
        (4, GpuFault.NO_PERMISSION, "--gpus all"),
        (999, GpuFault.BROKEN, "kernel log"),
    ],
)
async def test_a_driver_that_does_not_work(
    nvml_library: Path, table: GpuTable, root: Path, code: int, fault: GpuFault, cure: str
) -> None:
    table.head.append(f"init {code}")
    table.write()
    found = await scan(nvml_library, root)
    assert found.fault is fault
    assert found.fault.is_defect
    assert cure in found.message
    assert "\n" not in found.message


async def test_a_driver_that_lists_no_gpu(nvml_library: Path, table: GpuTable, root: Path) -> None:
    table.write()
    assert (await scan(nvml_library, root)).fault is GpuFault.NO_GPU
    add_pci(root)
    found = await scan(nvml_library, root)
    assert (found.fault, found.driver_version) == (GpuFault.BROKEN, "580.65.06")
    assert "0000:10:00.0" in found.message


async def test_one_l4(nvml_library: Path, table: GpuTable, root: Path) -> None:
    l4(table)
    table.gpus[0] |= {"used": "1000", "reserved": "300", "util": "7", "power": "33500", "temp": "51"}
    table.rest = ["process gpu=0 pid=77 used=900", "process gpu=0 pid=78 used=-1"]
    table.write()
    found = await scan(nvml_library, root)
    assert (found.fault, found.driver_version, found.cuda_version) == (None, "580.65.06", (13, 0))
    (gpu,) = found.gpus
    assert (gpu.index, gpu.uuid, gpu.name, gpu.sku) == (0, "GPU-0", "NVIDIA L4", "l4")
    assert (gpu.memory_total, gpu.memory_used, gpu.memory_reserved) == (23034 * MIB, 1000 * MIB, 300 * MIB)
    assert (gpu.memory_usable, gpu.memory_free) == (22734 * MIB, 21734 * MIB)
    assert (gpu.architecture, gpu.compute_capability, gpu.pci_bus_id) == ("ada", (8, 9), "0000:10:00.0")
    assert (gpu.pci_device_id, gpu.numa_node, gpu.nvlinks) == (0x27B8, 0, None)
    assert (gpu.utilisation, gpu.power_w, gpu.temperature_c, gpu.persistence) == (7, 33.5, 51, True)
    assert gpu.processes == (GpuProcess(pid=77, memory_bytes=900 * MIB), GpuProcess(pid=78, memory_bytes=None))
    assert (gpu.health, gpu.links, gpu.mig_enabled) == (GpuHealth.OK, (), False)


async def test_eight_modules_on_a_board(nvml_library: Path, table: GpuTable, root: Path) -> None:
    h100_sxm(table).write()
    gpus = (await scan(nvml_library, root)).gpus
    assert [gpu.uuid for gpu in gpus] == [f"GPU-{at}" for at in range(8)]
    assert {(gpu.sku, gpu.nvlinks, len(gpu.links)) for gpu in gpus} == {("h100_sxm", 18, 7)}
    assert all(link.nvlink for gpu in gpus for link in gpu.links)
    assert {link.pcie_distance for link in gpus[0].links if link.peer in ("GPU-1", "GPU-7")} == {30, 50}
    assert [gpu.numa_node for gpu in gpus] == [0] * 4 + [1] * 4


async def test_links_of_a_driver_that_does_not_tell_about_pairs(
    nvml_library: Path, table: GpuTable, root: Path
) -> None:
    table.head.append("missing nvmlDeviceGetP2PStatus")
    table.add(nvlinks=4, peer="00000000:11:00.0").add(nvlinks=4, peer="00000000:10:00.0").add(nvlinks=0).write()
    first, second, third = (await scan(nvml_library, root)).gpus
    assert [(link.peer, link.nvlink) for link in first.links] == [("GPU-1", True), ("GPU-2", False)]
    assert [link.nvlink for link in second.links] == [True, False]
    assert [link.nvlink for link in third.links] == [False, False]


async def test_cards_without_nvlink(nvml_library: Path, table: GpuTable, root: Path) -> None:
    h100_pcie(table).write()
    gpus = (await scan(nvml_library, root)).gpus
    assert [(gpu.sku, gpu.nvlinks, [link.nvlink for link in gpu.links]) for gpu in gpus] == [
        ("h100_pcie", None, [False])
    ] * 2


async def test_parts_of_a_gpu(nvml_library: Path, table: GpuTable, root: Path) -> None:
    h100_sxm(table, 1).gpus[0]["mig"] = "1"
    table.rest = [f"mig gpu=0 uuid=MIG-{at} total=9728 used=13 name=NVIDIA_H100_MIG_1g.10gb" for at in range(3)]
    table.write()
    (gpu,) = (await scan(nvml_library, root)).gpus
    assert (gpu.mig_enabled, gpu.utilisation) == (True, None)
    assert [part.uuid for part in gpu.mig_devices] == ["MIG-0", "MIG-1", "MIG-2"]
    assert gpu.mig_devices[0].memory_total == 9728 * MIB
    assert gpu.mig_devices[0].name == "NVIDIA H100 MIG 1g.10gb"


async def test_different_gpus_and_a_sku_from_the_user(nvml_library: Path, table: GpuTable, root: Path) -> None:
    l4(h100_pcie(table, 1)).add(name="NVIDIA Mystery 9000").write()
    assert [gpu.sku for gpu in (await scan(nvml_library, root)).gpus] == ["h100_pcie", "l4", None]
    assert {gpu.sku for gpu in (await scan(nvml_library, root, "a30")).gpus} == {"a30"}


FIELDS = [
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetArchitecture",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetNumaNodeId",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetNvLinkState",
    "nvmlDeviceGetP2PStatus",
    "nvmlDeviceGetTopologyCommonAncestor",
]


async def test_whatever_an_older_driver_cannot_tell_is_unknown(nvml_library: Path, table: GpuTable, root: Path) -> None:
    table.head += [f"missing {name}" for name in FIELDS]
    h100_sxm(table, 2).write()
    found = await scan(nvml_library, root)
    assert (found.fault, found.driver_version, found.cuda_version) == (None, None, None)
    first = found.gpus[0]
    assert (first.uuid, first.name, first.memory_total) == ("GPU-0", "unknown", 81559 * MIB)
    unknown = (first.memory_reserved, first.compute_capability, first.power_w, first.processes, first.numa_node)
    assert unknown == (None,) * 5
    assert first.memory_used == 500 * MIB  # the older call counts what is reserved as used


async def test_the_node_of_a_gpu_from_the_kernel(nvml_library: Path, table: GpuTable, root: Path) -> None:
    add_pci(root)
    (root / "sys/bus/pci/devices/0000:10:00.0/numa_node").write_text("1\n")
    table.add().write()
    assert (await scan(nvml_library, root)).gpus[0].numa_node == 1


async def test_a_gpu_is_lost_and_comes_back(nvml_library: Path, table: GpuTable, root: Path) -> None:
    h100_sxm(table, 2).write()
    scanner = NvmlScanner(library=str(nvml_library), root=root)
    await scanner.scan()
    table.change(0, lost=15)
    for _ in range(2):  # also by a driver that is opened anew
        lost, fine = (await scanner.scan()).gpus
        assert (lost.uuid, lost.health, lost.name) == ("GPU-0", GpuHealth.LOST, "NVIDIA H100 80GB HBM3")
        assert "reset" in lost.reason
        assert fine.health is GpuHealth.OK
    table.change(0, lost=0)
    assert [gpu.health for gpu in (await scanner.scan()).gpus] == [GpuHealth.OK] * 2


async def test_a_gpu_that_was_lost_before_we_came(nvml_library: Path, table: GpuTable, root: Path) -> None:
    h100_sxm(table, 2).gpus[1]["lost"] = "16"
    table.write()
    fine, lost = (await scan(nvml_library, root)).gpus
    assert (fine.health, lost.health, lost.uuid) == (GpuHealth.OK, GpuHealth.LOST, "unknown-1")


@pytest.mark.parametrize("code", [4, 999])
async def test_one_gpu_that_cannot_be_asked_costs_no_other(
    nvml_library: Path, table: GpuTable, root: Path, code: int
) -> None:
    h100_sxm(table, 2).gpus[0]["lost"] = str(code)
    table.write()
    found = await scan(nvml_library, root)
    assert (found.fault, [gpu.health for gpu in found.gpus]) == (None, [GpuHealth.LOST, GpuHealth.OK])
    table.change(1, lost=code)
    assert (await scan(nvml_library, root)).fault in (GpuFault.NO_PERMISSION, GpuFault.BROKEN)


async def test_a_driver_that_speaks_gibberish(nvml_library: Path, table: GpuTable, root: Path) -> None:
    table.add(name=b"\xff\xfe".decode("latin-1")).write()
    table.path.write_bytes(table.path.read_bytes().replace("\xff\xfe".encode(), b"\xff\xfe"))
    found = await scan(nvml_library, root)
    assert found.fault is GpuFault.BROKEN
    assert "UnicodeDecodeError" in found.message


async def test_a_gpu_falls_off_the_bus(nvml_library: Path, table: GpuTable, root: Path) -> None:
    h100_sxm(table, 3).write()
    scanner = NvmlScanner(library=str(nvml_library), root=root)
    await scanner.scan()
    del table.gpus[1]
    table.gpus[2]["index"] = "1"
    table.write()
    health = {gpu.uuid: gpu for gpu in (await scanner.scan()).gpus}
    assert [health[f"GPU-{at}"].health for at in range(3)] == [GpuHealth.OK, GpuHealth.GONE, GpuHealth.OK]
    assert "0000:11:00.0" in health["GPU-1"].reason


async def test_a_call_that_hangs(nvml_library: Path, table: GpuTable, root: Path) -> None:
    table.add().head.append("slow nvmlDeviceGetPowerUsage 400")
    table.write()
    scanner = NvmlScanner(library=str(nvml_library), root=root, call_s=0.05)
    found = await scanner.scan()
    assert found.fault is GpuFault.SLOW
    began = time.monotonic()
    assert (await scanner.scan()).fault is GpuFault.SLOW  # at once: no second thread joins the first
    assert time.monotonic() - began < 0.2
    table.head.pop()
    table.write()
    with trio.fail_after(5):
        while (found := await scanner.scan()).fault is not None:  # noqa: ASYNC110  the end of a thread has no event
            await trio.sleep(0.02)
    assert found.gpus[0].health is GpuHealth.OK


def test_without_a_library_nothing_is_loaded_for_it(root: Path) -> None:
    code = (
        "import sys, trio\nfrom pathlib import Path\nfrom appliance.hardware.gpu_scanner import NvmlScanner\n"
        f"scanner = NvmlScanner(library='{root}/none.so', root=Path('{root}'))\n"
        "print(trio.run(scanner.scan).fault.value, 'pynvml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["no_gpu", "False"]
