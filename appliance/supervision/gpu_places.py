"""Which GPUs a worker gets. Pure: from the room on each and a demand to a choice, or a refusal with the arithmetic."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from appliance.core.errors import CannotStart
from appliance.core.gpus import GIB, GpuDemand

WHOLE_SHARE = 0.9  # of a GPU's memory; engines that take a GPU for themselves claim this much of it by default
PCIE_DISTANCES = (0, 10, 20, 30, 40, 50)


class NoRoom(CannotStart):
    """No GPUs for a worker now; the message says what it needs and where the memory is."""

    code = "no_gpu"


@dataclass(frozen=True)
class Sleeping:
    """A worker that has given most of its memory on a place back, and can wake nowhere else."""

    owner: str
    amount: int
    """What it takes again when it wakes."""
    kept: int
    """What it takes while it sleeps; counted in the place's `foreign`."""
    alone: bool


@dataclass(frozen=True, kw_only=True)
class Place:
    """A GPU, or a part of one in MIG mode, with what is known and promised about it. Memory in bytes."""

    uuid: str
    index: int
    part: int = 0
    """Number of the MIG part plus one; 0: a whole GPU."""
    kind: str
    """GPUs of one kind are equal: name and size."""
    total: int
    """What processes can have of it at most."""
    foreign: int = 0
    """Used beyond promises, by whomever."""
    promised: tuple[tuple[str, int], ...] = ()
    """Workers by instance key, and what each was promised."""
    taken: bool = False
    """Some worker has it for itself."""
    sleeping: tuple[Sleeping, ...] = ()
    capability: tuple[int, int] | None = None
    nvlinked: frozenset[str] = frozenset()
    """UUIDs that NVLink joins it with."""
    distances: tuple[tuple[str, int], ...] = ()
    """PCIe distance by UUID."""
    unusable: str = ""
    """Why it cannot be used; empty: it can."""

    @property
    def room(self) -> int:
        """What may still be promised."""
        return max(0, self.total - self.foreign - sum(amount for _, amount in self.promised))

    @property
    def label(self) -> str:
        """As users know it."""
        return f"GPU {self.index}" + (f" part {self.part - 1}" if self.part else "")


@dataclass(frozen=True)
class Choice:
    """The places for one worker."""

    places: tuple[Place, ...]
    amounts: tuple[int, ...]
    """Bytes to promise on each."""
    note: str = ""
    """What is not ideal about it."""


def choose(places: Sequence[Place], demand: GpuDemand, *, component: str = "") -> Choice:
    """The places for a worker; the same input gives the same choice. Raises NoRoom.

    One GPU: where its memory fits most tightly. Several: of one kind, in one NVLink island if there is such a one, else
    as near on PCIe as can be. `component` is `graph/component/`: its replicas keep apart where they can.
    """
    fitting = _fitting(demand)
    counts = [demand.count] if demand.count is not None else _powers(len(places))
    for count in counts:
        open_places = [place for place in places if fitting(place, count)]
        if count > 1:  # a process sees one part of a GPU at most
            open_places = [place for place in open_places if not place.part]
        if len(open_places) < count:
            continue
        if count == 1:
            best = min(open_places, key=lambda place: _tightness(place, component))
            return Choice((best,), (amount_on(best, demand, 1),))
        group, note = _choose_group(open_places, count)
        return Choice(tuple(group), tuple(amount_on(place, demand, count) for place in group), note)
    raise NoRoom(refusal(places, demand))


def amount_on(place: Place, demand: GpuDemand, count: int) -> int:
    """What a worker is promised on a place, being one of `count`."""
    if not demand.shared:
        return place.room
    return -(-demand.memory_bytes // count) if demand.share is None else int(place.total * demand.share)


def refusal(places: Sequence[Place], demand: GpuDemand) -> str:
    """The line that says why not: what is needed, and for each GPU where its memory is."""
    if not places:
        return f"{_needs(demand)}; there is none"
    return f"{_needs(demand)}; free: " + ", ".join(_state(place, demand) for place in places)


def _fitting(demand: GpuDemand) -> Callable[[Place, int], bool]:
    def fits(place: Place, count: int) -> bool:
        if place.unusable or place.taken or not place.total or _too_old(place, demand):
            return False
        need = -(-demand.memory_bytes // count)
        if demand.shared:
            return place.room >= amount_on(place, demand, count) >= need
        return not place.promised and place.room >= max(need, int(place.total * WHOLE_SHARE))

    return fits


def _too_old(place: Place, demand: GpuDemand) -> bool:
    return demand.at_least is not None and place.capability is not None and place.capability < demand.at_least


def _tightness(place: Place, component: str) -> tuple[bool, int, int, int]:
    """Away from replicas of the same component, then the least room that will do, then in order."""
    beside = bool(component) and any(owner.startswith(component) for owner, _ in place.promised)
    return beside, place.room, place.index, place.part


def _choose_group(places: Sequence[Place], count: int) -> tuple[list[Place], str]:
    ordered = sorted(places, key=lambda place: (place.kind, place.index))
    kinds = [list(group) for _, group in groupby(ordered, key=lambda place: place.kind)]
    islands = [island for kind in kinds for island in _joined(kind, _nvlinked)]
    if group := _smallest(islands, count):
        return group, ""
    for distance in PCIE_DISTANCES:
        near = [cluster for kind in kinds for cluster in _joined(kind, _within(distance))]
        if group := _smallest(near, count):
            return group, "no NVLink between them"
    if group := _smallest(kinds, count):
        return group, "no NVLink between them"
    return sorted(ordered, key=lambda place: place.index)[
        :count
    ], "they are of different kinds, the slowest sets the pace"


def _smallest(groups: Iterable[list[Place]], count: int) -> list[Place]:
    """The first places of the smallest group that is large enough: larger ones stay whole for larger demands."""
    large = [group for group in groups if len(group) >= count]
    best = min(large, key=lambda group: (len(group), sum(place.room for place in group), group[0].index), default=[])
    return best[:count]


def _nvlinked(one: Place, other: Place) -> bool:
    return other.uuid in one.nvlinked


def _within(distance: int) -> Callable[[Place, Place], bool]:
    def near(one: Place, other: Place) -> bool:
        return dict(one.distances).get(other.uuid, PCIE_DISTANCES[-1]) <= distance

    return near


def _joined(places: Sequence[Place], linked: Callable[[Place, Place], bool]) -> list[list[Place]]:
    """Groups in which each place is linked with each other one, made greedily in order of index."""
    groups: list[list[Place]] = []
    for place in places:
        home = next((group for group in groups if all(linked(place, member) for member in group)), None)
        if home is None:
            groups.append([place])
        else:
            home.append(place)
    return groups


def _powers(most: int) -> list[int]:
    counts = [1]
    while counts[-1] * 2 <= most:
        counts.append(counts[-1] * 2)
    return counts


def _needs(demand: GpuDemand) -> str:
    count = demand.count or 1
    gpus = ("one GPU" if count == 1 else f"{count} GPUs") if demand.count else "one or more GPUs"
    parts = [f"{_gib(demand.memory_bytes)} GiB"] if demand.memory_bytes else []
    parts += [f"{demand.share:.0%} of the memory"] if demand.share is not None else []
    text = f"needs {' and '.join(parts)} on {gpus}" if parts else f"needs {gpus}"
    text += "" if demand.shared else " that nobody else uses"
    if demand.at_least is not None:
        text += f" of compute capability {demand.at_least[0]}.{demand.at_least[1]} or newer"
    return text


def _state(place: Place, demand: GpuDemand) -> str:
    if place.unusable:
        return f"{place.label} {place.unusable}"
    held = [f"{owner} promised {_gib(amount)}" for owner, amount in place.promised]
    if place.foreign:
        held.append(f"others use {_gib(place.foreign)}")
    if _too_old(place, demand) and place.capability is not None:
        held.append(f"compute capability {place.capability[0]}.{place.capability[1]}")
    details = f" ({', '.join(held)})" if held else ""
    return f"{place.label} {_gib(place.room)} of {_gib(place.total)}{details}"


def _gib(amount: int) -> str:
    return f"{amount / GIB:.1f}"
