"""CPU, memory and disk of this machine. Blocks for some reads of small files."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """The machine at one moment; sizes in bytes."""

    cpus: int
    """That this process may run on."""
    cores: int | None
    """Physical cores of the whole machine; None where the kernel does not tell."""
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    """Where the state is kept; 0 when that folder cannot be looked at."""


def read_machine(folder: Path) -> MachineFacts:
    """The facts now; `folder` says which disk. Never raises."""
    memory = psutil.virtual_memory()
    try:
        disk = psutil.disk_usage(str(folder))
        total, free = disk.total, disk.free
    except OSError:
        total = free = 0
    return MachineFacts(
        cpus=len(os.sched_getaffinity(0)),
        cores=psutil.cpu_count(logical=False),
        memory_total=memory.total,
        memory_available=memory.available,
        disk_total=total,
        disk_free=free,
    )
