"""The books of GPU memory: what was promised to whom, what is used beyond that, what is left. Pure: others look."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.core.gpus import GIB, GpuDemand, GpuGrant, GpuScan
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent
from appliance.supervision.gpu_places import Choice, NoRoom, Place, Sleeping, choose
from appliance.supervision.gpu_releases import Releases
from appliance.supervision.gpu_sight import GpuSight, OwnerOf

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
        self._sight = GpuSight(visible)
        self._promises: dict[WorkerId, _Promise] = {}
        self._releases = Releases(release_s)
        self._looks = 0

    @property
    def scan(self) -> GpuScan | None:
        """The last look that came back with GPUs, else the first one; None before that."""
        return self._sight.scan

    @property
    def fault(self) -> GpuScan | None:
        """The last look, when it found a fault."""
        return self._sight.fault

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
        self._sight.forget(worker)
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
        events = self._sight.take(scan, owner_of)
        if scan.fault is not None:
            return events
        return events + self._releases.confirm(look, now, self._beyond_promises, self._sight.processes(), owner_of)

    def lost(self) -> dict[WorkerId, str]:
        """Workers whose GPU is gone, and why in words."""
        reasons = {
            worker: [why for uuid in promise.amounts if (why := self._sight.why_lost(uuid)) is not None]
            for worker, promise in self._promises.items()
        }
        return {worker: whys[-1] for worker, whys in reasons.items() if whys}

    # Views

    def places(self) -> list[Place]:
        """Every GPU, or its parts, with the room on it."""
        return [self._with_books(place) for place in self._sight.places()]

    def usage(self, uuid: str) -> list[Usage]:
        """The promises on a GPU or part."""
        return [
            Usage(
                worker=worker,
                owner=promise.owner,
                promised_bytes=promise.amounts[uuid],
                used_bytes=self._sight.used_by(worker, uuid),
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
                used = self._sight.used_by(worker, uuid)
                ours += promise.held(uuid) if used is None else min(used, promise.amounts[uuid])
                least = max(least, promise.foreign_before[uuid] if used is None else 0)
        return max(self._sight.memory_used(uuid) - ours, least, 0)
