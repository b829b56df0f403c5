"""The modes that place by counts alone. Each sees candidates only; `kv` is the scheduler's own (`cost.py`)."""

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from appliance.core.errors import InvalidRequest, UsageError
from appliance.core.settings import RouterSettings
from appliance.routing.slots import Slot


class Mode(Protocol):
    """Picks one of several slots."""

    def pick(self, slots: Sequence[Slot], *, pinned: bool) -> int:
        """The number of the chosen slot in `slots`, which is never empty. `pinned`: the request chose its worker."""
        ...


class RoundRobin:
    """Each candidate in turn."""

    def __init__(self) -> None:
        self._turn = -1

    def pick(self, slots: Sequence[Slot], *, pinned: bool) -> int:
        self._turn += 1
        return self._turn % len(slots)


class AnyOne:
    """Any candidate, all equally likely."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def pick(self, slots: Sequence[Slot], *, pinned: bool) -> int:
        return int(self._source.random() * len(slots))


class PowerOfTwo:
    """The one with fewer streams of two that are drawn."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def pick(self, slots: Sequence[Slot], *, pinned: bool) -> int:
        count = len(slots)
        if count == 1:
            return 0
        one = int(self._source.random() * count)
        other = (one + 1 + int(self._source.random() * (count - 1))) % count
        return other if slots[other].streams < slots[one].streams else one


class LeastLoaded:
    """The smallest share of busy places; ties go round, so that equal workers fill evenly."""

    def __init__(self) -> None:
        self._turn = -1

    def pick(self, slots: Sequence[Slot], *, pinned: bool) -> int:
        self._turn += 1
        start = self._turn % len(slots)
        shares = [slot.streams / slot.capacity for slot in slots]
        lowest = min(shares)
        try:
            return shares.index(lowest, start)
        except ValueError:
            return shares.index(lowest)


class DeviceAware:
    """The group, on CPU or on GPU, with less to do for what it can; in it the fewest streams."""

    def __init__(self, gpu_to_cpu: float) -> None:
        """`gpu_to_cpu`: how many streams a GPU worker takes for one of a CPU worker."""
        self._gpu_to_cpu = gpu_to_cpu
        self._fewest = LeastLoaded()

    def pick(self, slots: Sequence[Slot], *, pinned: bool) -> int:
        cpu = [number for number, slot in enumerate(slots) if slot.on_cpu]
        if not cpu or len(cpu) == len(slots):
            return self._fewest.pick(slots, pinned=pinned)
        gpu = [number for number, slot in enumerate(slots) if not slot.on_cpu]
        load_cpu = sum(slots[number].streams for number in cpu) / len(cpu)
        load_gpu = sum(slots[number].streams for number in gpu) / (len(gpu) * self._gpu_to_cpu)
        group = cpu if load_cpu < load_gpu else gpu
        return group[self._fewest.pick([slots[number] for number in group], pinned=pinned)]


class Direct:
    """Only what the request pins."""

    def __init__(self) -> None:
        self._ranks = LeastLoaded()

    def pick(self, slots: Sequence[Slot], *, pinned: bool) -> int:
        if not pinned:
            raise InvalidRequest(
                "the router mode is direct: the request must name its worker, by nvext.backend_instance_id or the "
                "header x-worker-instance-id; /health lists them",
                param="nvext",
            )
        return self._ranks.pick(slots, pinned=pinned)


KV = "kv"
_MAKE: dict[str, Callable[[RouterSettings, random.Random], Mode]] = {
    "round-robin": lambda _settings, _source: RoundRobin(),
    "random": lambda _settings, source: AnyOne(source),
    "power-of-two": lambda _settings, source: PowerOfTwo(source),
    "least-loaded": lambda _settings, _source: LeastLoaded(),
    "device-aware-weighted": lambda settings, _source: DeviceAware(settings.cuda_to_cpu_ratio),
    "direct": lambda _settings, _source: Direct(),
}


def make_mode(settings: RouterSettings, source: random.Random) -> Mode | None:
    """A fresh mode by its `--router-mode` name; None for `kv`. Raises `UsageError` naming the known ones."""
    if settings.mode == KV:
        return None
    if settings.mode not in _MAKE:
        raise UsageError(f"unknown router mode {settings.mode!r}; known: {', '.join((*_MAKE, KV))}")
    return _MAKE[settings.mode](settings, source)
