"""What the last look at the GPUs has shown: which there are and may be used, what each process holds. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from appliance.core.gpus import Gpu, GpuFault, GpuHealth, GpuProcess, GpuScan
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent
from appliance.supervision.gpu_places import Place

OwnerOf = Callable[[int], WorkerId | None]
"""Whose process a pid is, also of a worker that has ended; None: nobody's of ours."""


class GpuSight:
    """Looks, taken in one after the other. One that failed changes no figures."""

    def __init__(self, visible: str | None) -> None:
        """`visible`: the `CUDA_VISIBLE_DEVICES` that we were started with; other GPUs are left alone."""
        self._visible = None if visible is None else [word.strip() for word in visible.split(",") if word.strip()]
        self._used: dict[WorkerId, dict[str, int]] = {}
        """By worker and UUID."""
        self._told_lost: set[str] = set()
        self.scan: GpuScan | None = None
        """The last look that came back with GPUs, else the first one; None before that."""
        self.fault: GpuScan | None = None
        """The last look, when it found a fault."""

    def take(self, scan: GpuScan, owner_of: OwnerOf) -> list[LedgerEvent]:
        """Take in a look; what is new about faults and the health of GPUs."""
        events = self._observe_fault(scan)
        if scan.fault is not None:
            self.scan = self.scan or scan
            return events
        self.scan = scan
        self._used = _attribute(self.processes(), owner_of)
        return events + self._observe_health(scan)

    def forget(self, worker: WorkerId) -> None:
        """Its processes are gone since."""
        self._used.pop(worker, None)

    def used_by(self, worker: WorkerId, uuid: str) -> int | None:
        """What a worker uses of a GPU or part, as the driver counts; None where it does not tell."""
        return self._used.get(worker, {}).get(uuid)

    def memory_used(self, uuid: str) -> int:
        """Bytes in use on a GPU or part, by whomever."""
        for gpu in self.scan.gpus if self.scan else ():
            if gpu.uuid == uuid:
                return gpu.memory_used
            for part in gpu.mig_devices:
                if part.uuid == uuid:
                    return part.memory_used
        return 0

    def processes(self) -> Mapping[str, tuple[GpuProcess, ...]]:
        """By GPU and part, who computes there."""
        gpus = self.scan.gpus if self.scan else ()
        lists = {gpu.uuid: gpu.processes or () for gpu in gpus}
        return lists | {part.uuid: part.processes or () for gpu in gpus for part in gpu.mig_devices}

    def why_lost(self, uuid: str) -> str | None:
        """What has become of a GPU, or that of a part, that a worker computes on; None: nothing bad is known."""
        if self.scan is None or self.scan.fault is not None:
            return None
        for gpu in self.scan.gpus:
            if uuid == gpu.uuid or any(uuid == part.uuid for part in gpu.mig_devices):
                if gpu.health is GpuHealth.OK:
                    return None
                return f"its GPU {gpu.index} ({uuid}) is {gpu.health.value}: {gpu.reason}"
        return f"its GPU {uuid} is no longer there"

    def places(self) -> list[Place]:
        """Every GPU, or its parts, as if nothing were used or promised there."""
        return [place for gpu in (self.scan.gpus if self.scan else ()) for place in self._places_of(gpu)]

    def _places_of(self, gpu: Gpu) -> list[Place]:
        whole = Place(
            uuid=gpu.uuid,
            index=gpu.index,
            kind=f"{gpu.name} {gpu.memory_total}",
            total=gpu.memory_usable,
            capability=gpu.compute_capability,
            nvlinked=frozenset(link.peer for link in gpu.links if link.nvlink),
            distances=tuple((link.peer, link.pcie_distance) for link in gpu.links if link.pcie_distance is not None),
            unusable=self._why_unusable(gpu),
        )
        if not gpu.mig_enabled:
            return [whole]
        return [
            replace(whole, uuid=part.uuid, part=at + 1, kind=part.name, total=part.memory_total, nvlinked=frozenset())
            for at, part in enumerate(gpu.mig_devices)
        ]

    def _why_unusable(self, gpu: Gpu) -> str:
        if gpu.health is not GpuHealth.OK:
            return f"is {gpu.health.value}"
        names = (gpu.uuid, *(part.uuid for part in gpu.mig_devices))
        if self._visible is None or str(gpu.index) in self._visible:
            return ""
        if any(name.startswith(word) for word in self._visible if not word.isdigit() for name in names):
            return ""
        return "is hidden by CUDA_VISIBLE_DEVICES"

    def _observe_fault(self, scan: GpuScan) -> list[LedgerEvent]:
        before, self.fault = self.fault, scan if scan.fault is not None else None
        if scan.fault is not None and scan.fault.is_defect:
            if before is None or before.fault is not scan.fault:
                return [_event("gpu", "fault", scan.message, fault=scan.fault.value)]
        elif before is not None and before.fault is not None and before.fault.is_defect:
            return [_event("gpu", "recover", f"{len(scan.gpus)} GPUs can be used again")]
        return []

    def _observe_health(self, scan: GpuScan) -> list[LedgerEvent]:
        ill = {gpu.uuid: gpu for gpu in scan.gpus if gpu.health is not GpuHealth.OK}
        fresh = [gpu for uuid, gpu in ill.items() if uuid not in self._told_lost]
        back = sorted(self._told_lost - ill.keys())
        self._told_lost = set(ill)
        events = [_event(f"gpu/{gpu.uuid}", "lose", f"GPU {gpu.index} ({gpu.name}): {gpu.reason}") for gpu in fresh]
        return events + [_event(f"gpu/{uuid}", "recover", "it can be used again") for uuid in back]


def _attribute(processes: Mapping[str, tuple[GpuProcess, ...]], owner_of: OwnerOf) -> dict[WorkerId, dict[str, int]]:
    used: dict[WorkerId, dict[str, int]] = {}
    for uuid, there in processes.items():
        for process in there:
            owner = owner_of(process.pid) if process.memory_bytes is not None else None
            if owner is not None and process.memory_bytes is not None:
                mine = used.setdefault(owner, {})
                mine[uuid] = mine.get(uuid, 0) + process.memory_bytes
    return used


def _event(subject: str, action: str, reason: str, **inputs: object) -> LedgerEvent:
    return LedgerEvent(subject=subject, action=action, reason=reason, inputs=inputs)


def has_no_gpu(scan: GpuScan | None) -> bool:
    """True once a look has shown that the machine has none; a broken driver is something else."""
    return scan is not None and scan.fault is GpuFault.NO_GPU
