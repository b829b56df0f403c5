"""Why no GPU can be used, in one line with the cure. Pure: from NVML's complaint and what the kernel's files say."""

from appliance.core.gpus import GpuFault, GpuScan
from appliance.hardware.driver_files import DriverFiles
from appliance.hardware.nvml import NvmlFailed

DOCTOR = "then start the appliance again"


def explain(failure: NvmlFailed, files: DriverFiles) -> GpuScan:
    """The scan of a machine whose NVML does not work."""
    fault = _fault(failure.fault, files)
    return GpuScan(driver_version=files.module_version, fault=fault, message=_message(fault, failure, files))


def no_gpu_listed(files: DriverFiles) -> GpuScan:
    """The scan of a machine whose driver works and lists no GPU."""
    if not files.pci_gpus:
        return GpuScan(driver_version=files.module_version, fault=GpuFault.NO_GPU, message=NO_GPU)
    text = (
        f"the driver lists none of the {_gpus(files)}: it has fallen off the bus or the driver is too old for it; "
        "look into the kernel log (dmesg | grep -i nvrm), update the driver, reboot"
    )
    return GpuScan(driver_version=files.module_version, fault=GpuFault.BROKEN, message=text)


def too_slow(waited_s: float) -> GpuScan:
    """The scan that did not come back."""
    text = (
        f"the NVIDIA driver has not answered for {waited_s:.0f} s: a GPU hangs; look into the kernel log "
        "(dmesg | grep -i xid) and reboot if it stays so"
    )
    return GpuScan(fault=GpuFault.SLOW, message=text)


NO_GPU = "this machine has no NVIDIA GPU"


def _fault(told: GpuFault, files: DriverFiles) -> GpuFault:
    """Without its library NVML cannot say more; the files can."""
    if told is not GpuFault.NO_LIBRARY:
        return told
    if files.module_version is not None or files.device_nodes:
        return GpuFault.NO_LIBRARY
    return GpuFault.NO_DRIVER if files.pci_gpus else GpuFault.NO_GPU


def _message(fault: GpuFault, failure: NvmlFailed, files: DriverFiles) -> str:
    version = f" {files.module_version}" if files.module_version else ""
    match fault:
        case GpuFault.NO_GPU:
            return NO_GPU
        case GpuFault.NO_DRIVER:
            return f"this machine has {_gpus(files)} but no driver for it; install the NVIDIA driver, {DOCTOR}"
        case GpuFault.NO_LIBRARY:
            return (
                f"the NVIDIA driver{version} is loaded but its library libnvidia-ml.so.1 is not found; install the "
                "driver's user-space package of the same version, or name the file in hardware.nvml_library"
            )
        case GpuFault.NOT_LOADED:
            return (
                "the NVIDIA driver is installed but its kernel module is not loaded; run `modprobe nvidia` "
                "(after a kernel update: rebuild the module, or reboot)"
            )
        case GpuFault.MISMATCH:
            return (
                f"the NVIDIA library and the loaded kernel module{version} are of different versions: the driver was "
                "updated while it ran; reboot, or reload its kernel modules"
            )
        case GpuFault.NO_PERMISSION:
            return (
                "the NVIDIA devices may not be opened by this user; in a container start it with --gpus all, "
                "elsewhere check the permissions of /dev/nvidia*"
            )
        case _:
            return f"the NVIDIA driver{version} does not work ({failure.text}); look into the kernel log, then reboot"


def _gpus(files: DriverFiles) -> str:
    count = len(files.pci_gpus)
    noun = "an NVIDIA GPU" if count == 1 else f"{count} NVIDIA GPUs"
    return f"{noun} (PCI {', '.join(files.pci_gpus)})"
