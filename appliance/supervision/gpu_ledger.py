"""The books of GPU memory: what was promised to whom, what is used by whom, what is left. Pure: others look."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from appliance.core.gpus import GIB, Gpu, GpuDemand, GpuFault, GpuGrant, GpuHealth, GpuProcess, GpuScan
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent
from appliance.supervision.gpu_places import Choice, NoRoom, Place, Sleeping, choose
from appliance.supervision.gpu_releases import Releases

OwnerOf = Callable[[int], WorkerId | None]
"""Whose process a pid is, also of a worker that has ended; None: nobody's of ours."""


ASLEEP_BYTES = 2 * GIB
"""What a sleeping process keeps of a GPU at most: the driver's context, graphs, what its libraries have allocated."""


@dataclass
class _Promise:
    """What one worker holds."""

    owner: str
    """`graph/component/index`."""
    amounts: dict[str, int]
    alone: bool
    foreign_before: dict[str, int]
    """What others used when the promise was given."""
    loading: bool = True
    asleep: bool = False

    def held(self, uuid: str) -> int:
        """What it takes of a GPU now: a sleeping engine keeps its process there, and no more than that."""
        return min(self.amounts[uuid], ASLEEP_BYTES) if self.asleep else self.amounts[uuid]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One promise on one GPU, for status pages."""

    worker: WorkerId
    owner: str
    promised_bytes: int
    used_bytes: int | None
    """As the driver counts; None where it does not tell."""
    loading: bool


class GpuLedger:
    """Promises against the last look at the GPUs. Never promises more of a GPU than it has beside what others use."""

    def __init__(self, *, visible: str | None = None, release_s: float = 0.0) -> None:
        """`visible`: the `CUDA_VISIBLE_DEVICES` that we were started with; other GPUs are left alone.

        `release_s`: how long nobody loads on a GPU whose last worker's memory is not free yet; 0: nobody waits.
        """
        self._visible = None if visible is None else [word.strip() for word in visible.split(",") if word.strip()]
        self._promises: dict[WorkerId, _Promise] = {}
        self._releases = Releases(release_s)
        self._used: dict[WorkerId, dict[str, int]] = {}
        """By worker and UUID, as the last look found it."""
        self._looks = 0
        self._told_lost: set[str] = set()
        self.scan: GpuScan | None = None
        """The last look that came back with GPUs, else the first one; None before that."""
        self.fault: GpuScan | None = None
        """The last look, when it found a fault."""

    # Promises

    def promise(self, worker: WorkerId, owner: str, demand: GpuDemand) -> GpuGrant | str:
        """Give a worker its GPUs; a text: what it must wait for first. Raises NoRoom."""
        if self.fault is not None:
            raise NoRoom(f"needs a GPU: {self.fault.message}")
        choice = self._choose(demand, owner.rpartition("/")[0] + "/")
        amounts = {place.uuid: amount for place, amount in zip(choice.places, choice.amounts, strict=True)}
        loading = self._loading_on(amounts)
        if loading is not None:
            return f"{loading} is loading on its GPU"
        if held := self._releases.in_the_way(amounts):
            return held
        before = {place.uuid: self._foreign(place.uuid) for place in choice.places}
        self._promises[worker] = _Promise(owner, amounts, not demand.shared, before)
        return GpuGrant(promised=amounts)

    def _choose(self, demand: GpuDemand, component: str) -> Choice:
        """GPUs on which an ended worker still has memory only where no others will do."""
        places = self.places()
        try:
            free = [place for place in places if not self._releases.is_held(place.uuid)]
            return choose(free, demand, component=component)
        except NoRoom:
            return choose(places, demand, component=component)

    def _loading_on(self, uuids: Mapping[str, int]) -> str | None:
        for promise in self._promises.values():
            if promise.loading and not promise.amounts.keys().isdisjoint(uuids):
                return promise.owner
        return None

    def loaded(self, worker: WorkerId) -> None:
        """It serves: what it allocates at the start is allocated."""
        if worker in self._promises:
            self._promises[worker].loading = False

    def rest(self, worker: WorkerId) -> None:
        """It sleeps: others may have its memory, while its place stays known."""
        if worker in self._promises:
            self._promises[worker].asleep = True

    def wake(self, worker: WorkerId) -> None:
        """It takes its memory again, whatever was promised meanwhile: the caller has made room."""
        if worker in self._promises:
            self._promises[worker].asleep = False

    def release(self, worker: WorkerId) -> bool:
        """Its processes are gone; the next look must show it. False when it held nothing."""
        promise = self._promises.get(worker)
        if promise is None:
            return False
        # Until a look that begins after this, what is used still counts this worker in.
        before = {uuid: self._foreign(uuid) for uuid in promise.amounts}
        self._releases.begin(worker, promise.owner, before, self._looks)
        del self._promises[worker]
        self._used.pop(worker, None)
        return True

    # Looks

    def begin_look(self) -> int:
        """Number of a look that begins now; `observe` takes it."""
        self._looks += 1
        return self._looks

    def observe(self, scan: GpuScan, look: int, owner_of: OwnerOf, now: float = 0.0) -> list[LedgerEvent]:
        """Take in what a look has found; what is new about it. A look that failed changes no figures.

        `now`: seconds of any clock that does not go back.
        """
        events = self._observe_fault(scan)
        if scan.fault is not None:
            self.scan = self.scan or scan
            return events
        self.scan = scan
        self._used = self._attribute(scan, owner_of)
        leaks = self._releases.confirm(look, now, self._beyond_promises, _process_lists(scan), owner_of)
        return events + self._observe_health(scan) + leaks

    def lost(self) -> dict[WorkerId, str]:
        """Workers whose GPU is gone, and why in words."""
        if self.scan is None or self.scan.fault is not None:
            return {}
        health = {gpu.uuid: gpu for gpu in self.scan.gpus}
        health |= {part.uuid: gpu for gpu in self.scan.gpus for part in gpu.mig_devices}
        found = {}
        for worker, promise in self._promises.items():
            for uuid in promise.amounts:
                gpu = health.get(uuid)
                if gpu is None:
                    found[worker] = f"its GPU {uuid} is no longer there"
                elif gpu.health is not GpuHealth.OK:
                    found[worker] = f"its GPU {gpu.index} ({uuid}) is {gpu.health.value}: {gpu.reason}"
        return found

    # Views

    def places(self) -> list[Place]:
        """Every GPU, or its parts, with the room on it."""
        if self.scan is None:
            return []
        return [place for gpu in self.scan.gpus for place in self._places_of(gpu)]

    def usage(self, uuid: str) -> list[Usage]:
        """The promises on a GPU or part."""
        return [
            Usage(
                worker=worker,
                owner=promise.owner,
                promised_bytes=promise.amounts[uuid],
                used_bytes=self._used.get(worker, {}).get(uuid),
                loading=promise.loading,
            )
            for worker, promise in self._promises.items()
            if uuid in promise.amounts
        ]

    @property
    def has_open_releases(self) -> bool:
        """Whether some worker has ended of which no look has shown yet that its memory is free."""
        return bool(self._releases)

    @property
    def holders(self) -> frozenset[WorkerId]:
        """Workers that hold a promise."""
        return frozenset(self._promises)

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
            return [self._with_books(whole)]
        parts = [
            replace(whole, uuid=part.uuid, part=at + 1, kind=part.name, total=part.memory_total, nvlinked=frozenset())
            for at, part in enumerate(gpu.mig_devices)
        ]
        return [self._with_books(part) for part in parts]

    def _with_books(self, place: Place) -> Place:
        held = [promise for promise in self._promises.values() if place.uuid in promise.amounts]
        return replace(
            place,
            foreign=self._foreign(place.uuid) + sum(promise.held(place.uuid) for promise in held if promise.asleep),
            promised=tuple((promise.owner, promise.amounts[place.uuid]) for promise in held if not promise.asleep),
            taken=any(promise.alone for promise in held if not promise.asleep),
            sleeping=tuple(
                Sleeping(promise.owner, promise.amounts[place.uuid], promise.held(place.uuid), promise.alone)
                for promise in held
                if promise.asleep
            ),
        )

    def _why_unusable(self, gpu: Gpu) -> str:
        if gpu.health is not GpuHealth.OK:
            return f"is {gpu.health.value}"
        names = (gpu.uuid, *(part.uuid for part in gpu.mig_devices))
        if self._visible is None or str(gpu.index) in self._visible:
            return ""
        if any(name.startswith(word) for word in self._visible if not word.isdigit() for name in names):
            return ""
        return "is hidden by CUDA_VISIBLE_DEVICES"

    def _foreign(self, uuid: str) -> int:
        """What is used beyond promises, by whomever.

        Of a worker whose use the driver does not tell, all its promise counts; then what others used before it came
        still counts too, as the two can no longer be told apart.
        """
        before = self._releases.used_before(uuid)
        return self._beyond_promises(uuid) if before is None else before

    def _beyond_promises(self, uuid: str) -> int:
        ours, least = 0, 0
        for worker, promise in self._promises.items():
            if uuid in promise.amounts:
                used = self._used.get(worker, {}).get(uuid)
                ours += promise.held(uuid) if used is None else min(used, promise.amounts[uuid])
                least = max(least, promise.foreign_before[uuid] if used is None else 0)
        return max(self._memory_used(uuid) - ours, least, 0)

    def _memory_used(self, uuid: str) -> int:
        for gpu in self.scan.gpus if self.scan else ():
            if gpu.uuid == uuid:
                return gpu.memory_used
            for part in gpu.mig_devices:
                if part.uuid == uuid:
                    return part.memory_used
        return 0

    @staticmethod
    def _attribute(scan: GpuScan, owner_of: OwnerOf) -> dict[WorkerId, dict[str, int]]:
        used: dict[WorkerId, dict[str, int]] = {}
        for uuid, processes in _process_lists(scan).items():
            for process in processes:
                owner = owner_of(process.pid) if process.memory_bytes is not None else None
                if owner is not None and process.memory_bytes is not None:
                    mine = used.setdefault(owner, {})
                    mine[uuid] = mine.get(uuid, 0) + process.memory_bytes
        return used

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


def _process_lists(scan: GpuScan) -> Mapping[str, tuple[GpuProcess, ...]]:
    lists = {gpu.uuid: gpu.processes or () for gpu in scan.gpus}
    return lists | {part.uuid: part.processes or () for gpu in scan.gpus for part in gpu.mig_devices}


def _event(subject: str, action: str, reason: str, **inputs: object) -> LedgerEvent:
    return LedgerEvent(subject=subject, action=action, reason=reason, inputs=inputs)


def has_no_gpu(scan: GpuScan | None) -> bool:
    """True once a look has shown that the machine has none; a broken driver is something else."""
    return scan is not None and scan.fault is GpuFault.NO_GPU
