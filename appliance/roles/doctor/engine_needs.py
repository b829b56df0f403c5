"""What engines want of driver and GPU. General knowledge of their recent releases; their release notes decide."""

from dataclasses import dataclass

from appliance.core.gpus import GpuScan


@dataclass(frozen=True, kw_only=True)
class Need:
    """The least that an engine's published packages run with."""

    driver: tuple[int, ...]
    capability: tuple[int, int]
    """Compute capability of a GPU."""

    def __str__(self) -> str:
        return f"driver {_dotted(self.driver)} and compute capability {_dotted(self.capability)} (general knowledge)"


NEEDS = {
    "vllm": Need(driver=(525, 60), capability=(7, 0)),
    "sglang": Need(driver=(525, 60), capability=(7, 5)),
    "trtllm": Need(driver=(575, 51), capability=(8, 0)),
}
"""Packages for CUDA 12 run with any driver of its first release or newer; those for CUDA 13 want 580."""


def fits(need: Need, scan: GpuScan) -> str:
    """What is missing, in words; empty: nothing. What the driver does not tell counts as there."""
    if scan.driver_version and _numbers(scan.driver_version) < need.driver:
        return f"the driver is {scan.driver_version}"
    known = [gpu.compute_capability for gpu in scan.gpus if gpu.compute_capability is not None]
    if known and max(known) < need.capability:
        return f"the best GPU here has {_dotted(max(known))}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
