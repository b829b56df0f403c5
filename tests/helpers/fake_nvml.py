"""Machines with GPUs that do not exist: the stand-in for the driver's library, and the tables that it reads."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "fakes" / "nvml" / "fake_nvml.c"
SONAME = "libnvidia-ml.so.1"
TABLE = "FAKE_NVML_TABLE"
MIB = 1 << 20


def compile_library(folder: Path) -> Path:
    """The compiled stand-in, alone in `folder` under the name that the loader looks for. Skips without a compiler."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed; it compiles the stand-in for the NVIDIA library")
    library = folder / SONAME
    argv = [compiler, "-O1", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}", "-o", str(library), str(SOURCE)]
    subprocess.run(argv, check=True, timeout=60)
    return library


@dataclass
class GpuTable:
    """The text that the stand-in reads; `write` replaces it at once and whole."""

    path: Path
    head: list[str] = field(default_factory=lambda: ["driver 580.65.06", "cuda 13000"])
    gpus: dict[int, dict[str, str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def add(self, **facts: object) -> "GpuTable":
        """One more GPU; facts as the head of the C file names them."""
        index = len(self.gpus)
        given = {"index": index, "uuid": f"GPU-{index}", "bus": f"00000000:{0x10 + index:02X}:00.0", **facts}
        self.gpus[index] = {key: str(value).replace(" ", "_") for key, value in given.items()}
        return self

    def change(self, index: int, **facts: object) -> None:
        """Change facts of a GPU, and write."""
        self.gpus[index] |= {key: str(value) for key, value in facts.items()}
        self.write()

    def write(self) -> "GpuTable":
        lines = [*self.head]
        lines += [" ".join(["gpu", *(f"{key}={value}" for key, value in one.items())]) for one in self.gpus.values()]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("\n".join([*lines, *self.rest]) + "\n")
        os.replace(fresh, self.path)
        return self


def h100_sxm(table: GpuTable, count: int = 8) -> GpuTable:
    """A board of H100 modules, each joined with each, half of them at either CPU."""
    for index in range(count):
        facts = {"device": "233010de", "nvlinks": 18, "island": 0, "numa": index * 2 // count, "reserved": 500}
        table.add(name="NVIDIA H100 80GB HBM3", **facts)
    return table


def l4(table: GpuTable) -> GpuTable:
    """One more L4."""
    return table.add(name="NVIDIA L4", device="27b810de", total=23034, cap="8.9", arch=8, numa=0)


def h100_pcie(table: GpuTable, count: int = 2) -> GpuTable:
    """Cards without a bridge."""
    for _ in range(count):
        table.add(name="NVIDIA H100 PCIe", device="233110de", numa=0)
    return table
