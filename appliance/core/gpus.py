"""GPUs as everything above the driver sees them: facts of one moment, what is wrong with them, who wants how much."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

GIB = 1 << 30


class GpuFault(StrEnum):
    """Why no GPU of this machine can be used at all."""

    NO_GPU = "no_gpu"
    NO_DRIVER = "no_driver"
    NO_LIBRARY = "no_library"
    NOT_LOADED = "not_loaded"
    MISMATCH = "mismatch"
    NO_PERMISSION = "no_permission"
    SLOW = "slow"
    BROKEN = "broken"

    @property
    def is_defect(self) -> bool:
        """Something is there and does not work, so that somebody must act; a box without a GPU is as it should be."""
        return self is not GpuFault.NO_GPU


class GpuHealth(StrEnum):
    """Whether one GPU can be used."""

    OK = "ok"
    LOST = "lost"
    """The driver has given it up; it needs a reset or a reboot."""
    GONE = "gone"
    """It was there and is no longer listed: it fell off the bus, or was taken out."""


@dataclass(frozen=True, kw_only=True)
class GpuProcess:
    """A process that computes on a GPU."""

    pid: int
    """As the driver counts: of the host, also when we are in a container."""
    memory_bytes: int | None
    """None where the driver does not tell."""


@dataclass(frozen=True, kw_only=True)
class GpuLink:
    """How one GPU reaches another."""

    peer: str
    """UUID."""
    nvlink: bool
    pcie_distance: int | None
    """Common ancestor as NVML counts: 0 same board, 10, 20 PCIe switches, 30 host bridge, 40 CPU, 50 across CPUs."""


@dataclass(frozen=True, kw_only=True)
class MigDevice:
    """A part of a GPU in MIG mode; it is used like a GPU of its own, alone."""

    uuid: str
    name: str
    memory_total: int
    memory_used: int
    processes: tuple[GpuProcess, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU. None: the driver does not tell. Memory in bytes."""

    index: int
    """In the order of PCI addresses, as `nvidia-smi` counts."""
    uuid: str
    name: str
    memory_total: int
    memory_used: int = 0
    """Without what the driver keeps for itself, where it tells that apart."""
    memory_reserved: int | None = None
    """What the driver keeps for itself."""
    sku: str | None = None
    """Model in Dynamo's spelling, such as `h100_sxm`."""
    architecture: str | None = None
    compute_capability: tuple[int, int] | None = None
    pci_bus_id: str | None = None
    """As sysfs spells it: `0000:17:00.0`."""
    pci_device_id: int | None = None
    numa_node: int | None = None
    utilisation: int | None = None
    """Share of the last sample in which something ran, in percent."""
    power_w: float | None = None
    temperature_c: int | None = None
    persistence: bool | None = None
    processes: tuple[GpuProcess, ...] | None = None
    mig_enabled: bool = False
    mig_devices: tuple[MigDevice, ...] = ()
    nvlinks: int | None = None
    """Active NVLinks."""
    links: tuple[GpuLink, ...] = ()
    """To every other GPU."""
    health: GpuHealth = GpuHealth.OK
    reason: str = ""
    """What is wrong and what helps, in one line; empty while nothing is."""

    @property
    def memory_usable(self) -> int:
        """What processes can have at most."""
        return self.memory_total - (self.memory_reserved or 0)

    @property
    def memory_free(self) -> int:
        """What no process has."""
        return max(0, self.memory_usable - self.memory_used)


@dataclass(frozen=True, kw_only=True)
class GpuScan:
    """All GPUs at one moment, or why there are none."""

    gpus: tuple[Gpu, ...] = ()
    """By index; lost and gone ones stay in it."""
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None
    """Newest CUDA that the driver can run."""
    fault: GpuFault | None = None
    message: str = ""
    """The fault in one line, with its cure."""


class GpuPort(Protocol):
    """Where scans come from."""

    async def scan(self) -> GpuScan:
        """Look at all GPUs. Never raises: what goes wrong is in the scan. Cancelling abandons the look."""
        ...


@dataclass(frozen=True, kw_only=True)
class GpuRequest:
    """GPUs that a component asks for in its manifest. All empty: none."""

    count: int = 0
    """Whole GPUs, or parts of as many GPUs when an amount follows."""
    memory_bytes: int | None = None
    """Per GPU, beside others."""
    memory_share: float | None = None
    """Of each GPU's memory, beside others; 0 to 1."""

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True, kw_only=True)
class GpuDemand:
    """What one worker needs of GPUs."""

    count: int | None = 1
    """None: as few as its memory takes, in powers of two."""
    memory_bytes: int = 0
    """Over all its GPUs, in equal parts; 0: not known."""
    shared: bool = False
    """It takes `share` or `memory_bytes` beside other workers; else it has its GPUs for itself."""
    share: float | None = None
    """Of each GPU's memory, 0 to 1; only with `shared`."""
    at_least: tuple[int, int] | None = None
    """Least compute capability."""
    may_do_without: bool = False
    """On a machine without GPU it runs all the same."""


@dataclass(frozen=True, kw_only=True)
class GpuGrant:
    """GPUs that a worker was given."""

    promised: Mapping[str, int] = field(default_factory=dict)
    """Memory in bytes by UUID, in the order in which the worker shall count them."""

    @property
    def uuids(self) -> tuple[str, ...]:
        """What `CUDA_VISIBLE_DEVICES` names."""
        return tuple(self.promised)
