"""Checks of GPUs and their driver."""

from collections.abc import Iterator, Mapping

import trio

from appliance.core.gpus import GpuHealth, GpuScan
from appliance.engines.managed.catalogue import list_environments
from appliance.hardware.gpu_scanner import NvmlScanner
from appliance.roles.doctor.engine_needs import NEEDS, fits
from appliance.roles.doctor.finding import Finding, Scene, fail, in_gb, ok, warn


def check_gpus(scene: Scene) -> Iterator[Finding]:
    """Look at all of them now, and at what engines can do with them."""
    library = scene.settings.hardware.nvml_library if scene.settings else None
    scan = trio.run(NvmlScanner(library=library, root=scene.root).scan)
    yield from judge(scan)
    if scan.fault is None:
        environments = list_environments(scene.paths.state_dir / "engines")
        installed = {one.engine: one.version for one in reversed(environments)}
        yield from judge_engines(scan, installed)


def judge_engines(scan: GpuScan, installed: Mapping[str, str]) -> Iterator[Finding]:
    """Which engines these GPUs and their driver can run; `installed`: versions of managed environments."""
    for engine, need in NEEDS.items():
        version = installed.get(engine)
        here = f"{engine} {version} is installed" if version else f"{engine} is not installed"
        text = f"{here}; it wants {need}"
        if not (missing := fits(need, scan)):
            yield ok(f"{text}: fits")
        elif version:
            yield warn(f"{text}: {missing}", "update the driver, or install an older version of the engine")
        else:
            yield ok(f"{text}: {missing}")


def judge(scan: GpuScan) -> Iterator[Finding]:
    """What a scan means."""
    if scan.fault is not None:
        problem, _, cure = scan.message.partition("; ")
        if scan.fault.is_defect:
            yield fail(problem, cure or "install or repair the NVIDIA driver")
        else:
            yield ok(scan.message or "no GPU; models run on the CPU")
        return
    cuda = ".".join(map(str, scan.cuda_version)) if scan.cuda_version else "?"
    yield ok(f"driver {scan.driver_version or '?'}, CUDA up to {cuda}")
    for gpu in scan.gpus:
        text = f"GPU {gpu.index} {gpu.name}, {in_gb(gpu.memory_free)} of {in_gb(gpu.memory_total)} free"
        if gpu.health is not GpuHealth.OK:
            yield fail(f"{text}: {gpu.health.value}", gpu.reason or "reset it or restart the machine")
        elif gpu.persistence is False:
            yield warn(f"{text}, without persistence mode", "each first use waits for the driver: nvidia-smi -pm 1")
        else:
            yield ok(text)
