"""The facts of each GPU, asked of NVML one by one: what a driver or a GPU does not tell stays None."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.core.gpus import Gpu, GpuHealth, GpuLink, GpuProcess, GpuScan, MigDevice
from appliance.hardware.nvml import GpuLost, Nvml, NvmlFailed
from appliance.hardware.sku import find_sku

PCI_DEVICES = Path("/sys/bus/pci/devices")
ARCHITECTURES = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada",
    9: "hopper",
    10: "blackwell",
    13: "rubin",
}
MILLIWATTS = 1000.0
LOST_CURE = "reset it (nvidia-smi --gpu-reset) or reboot; the kernel log says why (dmesg | grep -i xid)"
GONE_CURE = "check the board and its power, then reboot"


@dataclass(frozen=True, eq=False)
class _Seen:
    """A GPU as it was first seen: what does not change while the driver runs."""

    handle: Any
    fixed: Gpu


class GpuReader:
    """Reads all GPUs of an open NVML again and again; what cannot change is asked once. For one thread at a time."""

    def __init__(
        self,
        nvml: Nvml,
        *,
        sku: str | None = None,
        known: Mapping[str, Gpu] | None = None,
        pci_devices: Path = PCI_DEVICES,
    ) -> None:
        """`sku` overrides what would be found; `known`: GPUs that an earlier reader has seen, by UUID."""
        self._nvml, self._api = nvml, nvml.api
        self._sku = sku
        self._pci_devices = pci_devices
        self._seen: dict[int, _Seen] = {}
        self._links: dict[str, tuple[GpuLink, ...]] = {}
        self.known = dict(known or {})
        """Every GPU that was ever seen, so that one that disappears keeps its name."""

    def read(self) -> GpuScan:
        """All GPUs now. Raises NvmlFailed when not even their number can be had, or none of them answers."""
        ask, before = self._nvml.ask, dict(self._seen)
        present: dict[str, Gpu] = {}
        lost: dict[int, GpuLost | NvmlFailed] = {}
        for index in range(self._nvml.must(self._api.nvmlDeviceGetCount)):
            try:
                gpu = self._read_one(index)
                present[gpu.uuid] = gpu
            except (GpuLost, NvmlFailed) as error:
                lost[index] = error
        if not present and any(isinstance(error, NvmlFailed) for error in lost.values()):
            raise next(error for error in lost.values() if isinstance(error, NvmlFailed))
        if self._seen != before:
            self._relate()
        found = [replace(gpu, links=self._links.get(gpu.uuid, ())) for gpu in present.values()]
        self.known |= {gpu.uuid: gpu for gpu in found}
        found += self._missing(present, lost)
        cuda = ask(self._api.nvmlSystemGetCudaDriverVersion_v2) or ask(self._api.nvmlSystemGetCudaDriverVersion)
        return GpuScan(
            gpus=tuple(sorted(found, key=lambda gpu: (gpu.index, gpu.uuid))),
            driver_version=ask(self._api.nvmlSystemGetDriverVersion),
            cuda_version=(cuda // 1000, cuda % 1000 // 10) if cuda else None,
        )

    def _missing(self, present: Mapping[str, Gpu], lost: Mapping[int, Exception]) -> list[Gpu]:
        """Those that the driver calls lost, by the name that they had, and those that it no longer lists."""
        missing = [gpu for uuid, gpu in self.known.items() if uuid not in present]
        found = []
        for index, error in lost.items():
            was = next((gpu for gpu in missing if gpu.index == index), None)
            if was is not None:
                missing.remove(was)
            why = f"the driver has lost it ({error}); {LOST_CURE}"
            found.append(replace(was or _unseen(index), health=GpuHealth.LOST, reason=why))
        return found + [
            replace(gpu, health=GpuHealth.GONE, reason=f"it is no longer on the bus at {gpu.pci_bus_id}; {GONE_CURE}")
            for gpu in missing
        ]

    def _read_one(self, index: int) -> Gpu:
        seen = self._seen.get(index)
        if seen is None or self._nvml.ask(self._api.nvmlDeviceGetUUID, seen.handle) != seen.fixed.uuid:
            seen = self._seen[index] = self._meet(index)  # new, or another GPU has moved into this place
        return self._read_live(seen)

    def _meet(self, index: int) -> _Seen:
        api, ask = self._api, self._nvml.ask
        handle = self._nvml.must(api.nvmlDeviceGetHandleByIndex, index)
        pci = ask(api.nvmlDeviceGetPciInfo, handle)
        bus_id = _sysfs_name(pci) if pci is not None else None
        device_id = pci.pciDeviceId >> 16 if pci is not None else None
        name = ask(api.nvmlDeviceGetName, handle) or "unknown"
        nvlinks = self._count_nvlinks(handle)
        architecture = ask(api.nvmlDeviceGetArchitecture, handle)
        fixed = Gpu(
            index=index,
            uuid=self._nvml.must(api.nvmlDeviceGetUUID, handle),
            name=name,
            memory_total=0,
            sku=self._sku or find_sku(device_id, name, nvlinks),
            architecture=ARCHITECTURES.get(architecture) if architecture is not None else None,
            compute_capability=_pair(ask(api.nvmlDeviceGetCudaComputeCapability, handle)),
            pci_bus_id=bus_id,
            pci_device_id=device_id,
            numa_node=self._numa_node(handle, bus_id),
            nvlinks=nvlinks,
        )
        return _Seen(handle, fixed)

    def _read_live(self, seen: _Seen) -> Gpu:
        api, ask, handle = self._api, self._nvml.ask, seen.handle
        total, used, reserved = self._memory(handle)
        mig = ask(api.nvmlDeviceGetMigMode, handle)
        enabled = bool(mig and mig[0])
        rates = ask(api.nvmlDeviceGetUtilizationRates, handle)
        power = ask(api.nvmlDeviceGetPowerUsage, handle)
        persistence = ask(api.nvmlDeviceGetPersistenceMode, handle)
        return replace(
            seen.fixed,
            memory_total=total,
            memory_used=used,
            memory_reserved=reserved,
            utilisation=rates.gpu if rates is not None else None,
            power_w=power / MILLIWATTS if power is not None else None,
            temperature_c=ask(api.nvmlDeviceGetTemperature, handle, api.NVML_TEMPERATURE_GPU),
            persistence=bool(persistence) if persistence is not None else None,
            processes=self._processes(handle),
            mig_enabled=enabled,
            mig_devices=self._mig_devices(handle) if enabled else (),
        )

    def _memory(self, handle: Any) -> tuple[int, int, int | None]:
        """Total, used, reserved; the older call counts what is reserved as used."""
        api = self._api
        memory = self._nvml.ask(api.nvmlDeviceGetMemoryInfo, handle, api.nvmlMemory_v2)
        if memory is not None:
            return memory.total, memory.used, memory.reserved
        older = self._nvml.ask(api.nvmlDeviceGetMemoryInfo, handle)
        return (older.total, older.used, None) if older is not None else (0, 0, None)

    def _processes(self, handle: Any) -> tuple[GpuProcess, ...] | None:
        for question in ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"):
            found = self._nvml.ask(getattr(self._api, question), handle)
            if found is not None:
                return tuple(GpuProcess(pid=one.pid, memory_bytes=one.usedGpuMemory) for one in found)
        return None

    def _mig_devices(self, handle: Any) -> tuple[MigDevice, ...]:
        api, ask = self._api, self._nvml.ask
        parts = []
        for at in range(ask(api.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            part = ask(api.nvmlDeviceGetMigDeviceHandleByIndex, handle, at)
            uuid = ask(api.nvmlDeviceGetUUID, part) if part is not None else None
            if uuid is not None:
                total, used, _ = self._memory(part)
                name = ask(api.nvmlDeviceGetName, part) or "MIG"
                processes = self._processes(part)
                parts.append(MigDevice(uuid=uuid, name=name, memory_total=total, memory_used=used, processes=processes))
        return tuple(parts)

    def _count_nvlinks(self, handle: Any) -> int | None:
        """Active links; None where there is no NVLink at all."""
        states = []
        for link in range(self._api.NVML_NVLINK_MAX_LINKS):
            state = self._nvml.ask(self._api.nvmlDeviceGetNvLinkState, handle, link)
            if state is None:
                break
            states.append(state)
        return sum(state == 1 for state in states) if states else None

    def _numa_node(self, handle: Any, bus_id: str | None) -> int | None:
        node = self._nvml.ask(self._api.nvmlDeviceGetNumaNodeId, handle)
        if node is None and bus_id is not None:
            try:
                node = int((self._pci_devices / bus_id / "numa_node").read_text())
            except (OSError, ValueError):
                return None
        return node if node is not None and node >= 0 else None

    def _relate(self) -> None:
        """How the GPUs met so far reach each other."""
        seen = list(self._seen.values())
        for one in seen:
            peers = (self._link(one, other) for other in seen if other is not one)
            self._links[one.fixed.uuid] = tuple(sorted(peers, key=lambda link: link.peer))

    def _link(self, one: _Seen, other: _Seen) -> GpuLink:
        api, ask = self._api, self._nvml.ask
        status = ask(api.nvmlDeviceGetP2PStatus, one.handle, other.handle, api.NVML_P2P_CAPS_INDEX_NVLINK)
        linked = status == api.NVML_P2P_STATUS_OK if status is not None else self._reaches(one, other)
        distance = ask(api.nvmlDeviceGetTopologyCommonAncestor, one.handle, other.handle)
        return GpuLink(peer=other.fixed.uuid, nvlink=bool(linked and one.fixed.nvlinks), pcie_distance=distance)

    def _reaches(self, one: _Seen, other: _Seen) -> bool:
        """By the far ends of the links, for drivers that do not tell about pairs."""
        for link in range(one.fixed.nvlinks or 0):
            end = self._nvml.ask(self._api.nvmlDeviceGetNvLinkRemotePciInfo, one.handle, link)
            if end is not None and _sysfs_name(end) == other.fixed.pci_bus_id:
                return True
        return False


def _unseen(index: int) -> Gpu:
    """A GPU that was lost before we ever saw it."""
    return Gpu(index=index, uuid=f"unknown-{index}", name="unknown", memory_total=0)


def _pair(version: Any) -> tuple[int, int] | None:
    return (version[0], version[1]) if version is not None else None


def _sysfs_name(pci: Any) -> str:
    """NVML writes the domain with eight digits, sysfs with four."""
    text = pci.busId.decode() if isinstance(pci.busId, bytes) else pci.busId
    domain, _, rest = text.lower().partition(":")
    return f"{domain[-4:]}:{rest}"
