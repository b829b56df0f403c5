"""Checks of GPUs and their driver."""

from collections.abc import Iterator

import trio

from appliance.core.gpus import GpuHealth, GpuScan
from appliance.hardware.gpu_scanner import NvmlScanner
from appliance.roles.doctor.finding import Finding, Scene, fail, in_gb, ok, warn


def check_gpus(scene: Scene) -> Iterator[Finding]:
    """Look at all of them now."""
    yield from judge(trio.run(NvmlScanner(root=scene.root).scan))


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
