"""What the kernel's files tell about NVIDIA GPUs and their driver when NVML does not answer."""

from dataclasses import dataclass
from pathlib import Path

NVIDIA = "0x10de"
DISPLAY_CLASSES = ("0x0300", "0x0302")
"""VGA and 3D controllers; GPUs bring audio and bridge devices of the same maker along."""


@dataclass(frozen=True, kw_only=True)
class DriverFiles:
    """What lies in the file system."""

    pci_gpus: tuple[str, ...] = ()
    """Bus ids."""
    module_version: str | None = None
    """Of the loaded kernel module."""
    device_nodes: bool = False
    """`/dev/nvidiactl` is there."""


def read_driver_files(root: Path = Path("/")) -> DriverFiles:
    """A look below `root`. Blocks for some hundred small reads. Never raises."""
    return DriverFiles(
        pci_gpus=_pci_gpus(root / "sys/bus/pci/devices"),
        module_version=_text(root / "sys/module/nvidia/version"),
        device_nodes=(root / "dev/nvidiactl").exists(),
    )


def _pci_gpus(folder: Path) -> tuple[str, ...]:
    try:
        devices = sorted(folder.iterdir())
    except OSError:
        return ()
    return tuple(
        device.name
        for device in devices
        if _text(device / "vendor") == NVIDIA and (_text(device / "class") or "").startswith(DISPLAY_CLASSES)
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
