"""GPUs whose worker has ended: what was used before, and whether a look has shown its memory free. Pure.

A driver frees memory some time after the process has gone. Who loads before that finds less than there will be, and
engines that take a share of what is free take too little, or give up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.core.gpus import GIB, GpuProcess
from appliance.core.identity import WorkerId
from appliance.core.records import LedgerEvent

SLACK = GIB // 2  # contexts of other processes come and go beside
UNSEEN = "the GPUs are being looked at"


@dataclass
class _Release:
    """One worker that has ended, until its GPUs are known to be free or the wait is over."""

    owner: str
    before: Mapping[str, int]
    """By UUID, what others used when it ended."""
    look: int
    """The last look that had begun by then; it says nothing about what came after."""
    until: float | None = None
    """End of the wait; counted from the first look that could show the memory free."""
    held: dict[str, str] = field(default_factory=dict)
    """By UUID, who still has memory there, in words; as the last look found it."""


class Releases:
    """Releases that no look has confirmed yet."""

    def __init__(self, wait_s: float) -> None:
        """`wait_s`: how long memory that is not free keeps others from loading; 0: it does not."""
        self._wait_s = wait_s
        self._open: dict[WorkerId, _Release] = {}

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, worker: WorkerId, owner: str, before: Mapping[str, int], look: int) -> None:
        """A worker's processes have ended. `before`: by UUID, what was used beyond promises until now."""
        self._open[worker] = _Release(owner, before, look)

    def used_before(self, uuid: str) -> int | None:
        """What others used on a GPU before the oldest release that is still open; None when none is."""
        return next((one.before[uuid] for one in self._open.values() if uuid in one.before), None)

    def is_held(self, uuid: str) -> bool:
        """Whether a look has found memory of an ended worker there, and it is still waited for."""
        return any(uuid in one.held for one in self._open.values())

    def in_the_way(self, uuids: Iterable[str]) -> str:
        """What a load on these GPUs has to wait for; empty: nothing."""
        if self._wait_s:
            for one in self._open.values():
                for uuid in uuids:
                    if uuid in one.before:
                        return one.held.get(uuid, UNSEEN)
        return ""

    def confirm(
        self,
        look: int,
        now: float,
        used_beyond: Callable[[str], int],
        processes: Mapping[str, Sequence[GpuProcess]],
        owner_of: Callable[[int], WorkerId | None],
    ) -> list[LedgerEvent]:
        """Close the releases that a look shows to be done, and those that have been waited for; the latter are news.

        `used_beyond`: by UUID, what is used beyond promises as this look has it.
        """
        events = []
        for worker, one in list(self._open.items()):
            if one.look >= look:
                continue
            pids = {uuid: _left(worker, processes.get(uuid, ()), owner_of) for uuid in one.before}
            grown = {uuid: max(used_beyond(uuid) - before, 0) for uuid, before in one.before.items()}
            kept = {uuid: amount for uuid, amount in grown.items() if pids[uuid] or amount > SLACK}
            one.held = {uuid: f"memory of {one.owner} on {uuid} is still held{_by(pids[uuid])}" for uuid in kept}
            one.until = now + self._wait_s if one.until is None else one.until
            if not kept:
                del self._open[worker]
            elif now >= one.until:
                events += [_leak(worker, uuid, amount, pids[uuid]) for uuid, amount in kept.items()]
                del self._open[worker]
        return events


def _left(
    worker: WorkerId, processes: Sequence[GpuProcess], owner_of: Callable[[int], WorkerId | None]
) -> list[GpuProcess]:
    return [process for process in processes if owner_of(process.pid) == worker]


def _by(processes: Sequence[GpuProcess]) -> str:
    return f" by pid {', '.join(str(process.pid) for process in processes)}" if processes else ""


def _leak(worker: WorkerId, uuid: str, grown: int, processes: Sequence[GpuProcess]) -> LedgerEvent:
    told = sum(process.memory_bytes or 0 for process in processes)
    amount = told or grown
    text = f"{worker} has ended and {amount / GIB:.1f} GiB of {uuid} are still held{_by(processes)}"
    inputs = {"worker": worker, "bytes": amount, "pids": [process.pid for process in processes]}
    return LedgerEvent(subject=f"gpu/{uuid}", action="leak", reason=text, inputs=inputs)
