"""Which workers to start and which to stop so that what runs becomes what is wanted. Pure, and right at any moment.

Level-triggered: it looks at the whole of both sides, keeps no memory, and gives no effects once both agree.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from appliance.core.instances import ComponentInstance
from appliance.supervision.states import Phase


@dataclass(frozen=True, kw_only=True)
class Present:
    """A worker that exists, as this module sees it."""

    number: int
    """Tells workers of one key apart; a later one has a higher number."""
    instance: ComponentInstance
    phase: Phase
    leaving: bool
    """It was asked to stop."""


@dataclass(frozen=True)
class Start:
    """Start a worker for this instance."""

    instance: ComponentInstance


@dataclass(frozen=True)
class Drain:
    """Ask the worker of this number to stop."""

    number: int
    reason: str


Effect = Start | Drain
Surge = Callable[[ComponentInstance], bool]


def plan(wanted: Sequence[ComponentInstance], present: Sequence[Present], *, may_surge: Surge) -> list[Effect]:
    """The next steps, component by component; applied, they make a different input for the next call.

    `may_surge` says whether there is room for an instance's new worker beside its old one. A rolling change touches
    one ready worker of a component at a time: with room the new one is ready before the old one drains, and at most
    one worker more than wanted exists; without room the old one is gone before the new one starts.
    """
    names = dict.fromkeys(_component(instance) for instance in (*wanted, *(worker.instance for worker in present)))
    effects: list[Effect] = []
    for name in names:
        wishes = {instance.key: instance for instance in wanted if _component(instance) == name}
        workers = [worker for worker in present if _component(worker.instance) == name]
        effects += _plan_component(wishes, workers, may_surge)
    return effects


def _component(instance: ComponentInstance) -> tuple[str, str]:
    return instance.graph, instance.component


def _plan_component(wishes: dict[str, ComponentInstance], workers: list[Present], may_surge: Surge) -> list[Effect]:
    staying = [worker for worker in workers if not worker.leaving]
    removed = [worker for worker in staying if worker.instance.key not in wishes]
    fresh = [worker for worker in staying if _is_fresh(worker, wishes)]
    stale = [worker for worker in staying if worker not in removed and worker not in fresh]
    drains = _drain_removed(removed) + _drain_stale(stale, fresh)
    drained = {effect.number for effect in drains}
    starts = _start_missing(wishes, workers, drained, may_surge)
    # A roll goes on only while every worker of the new spec is ready: a spec that fails takes no more old ones away.
    settled = all(worker.phase is Phase.READY for worker in fresh) and len(workers) == len(staying)
    rolls = [] if drains or starts or not settled else _roll_one(wishes, stale, may_surge)
    return [*drains, *starts, *rolls]


def _is_fresh(worker: Present, wishes: dict[str, ComponentInstance]) -> bool:
    wish = wishes.get(worker.instance.key)
    return wish is not None and wish.spec_hash == worker.instance.spec_hash


def _drain_removed(removed: Iterable[Present]) -> list[Drain]:
    """Workers of instances that are no longer wanted, the highest index first."""
    ordered = sorted(removed, key=lambda worker: (-worker.instance.index, worker.number))
    return [Drain(worker.number, "no longer wanted") for worker in ordered]


def _drain_stale(stale: Iterable[Present], fresh: Sequence[Present]) -> list[Drain]:
    """Workers of an old spec whose successor is ready, or that serve nobody anyway.

    While the new spec is not proven, an old worker that only restarts is left alone: it may be all that serves soon.
    """
    ready = {worker.instance.key for worker in fresh if worker.phase is Phase.READY}
    proven = all(worker.phase is Phase.READY for worker in fresh)
    drains = []
    for worker in stale:
        if worker.instance.key in ready:
            drains.append(Drain(worker.number, "replaced by a worker of the new spec"))
        elif worker.phase is Phase.FAILED or (proven and worker.phase is not Phase.READY):
            drains.append(Drain(worker.number, "its spec changed before it was ready"))
    return drains


def _start_missing(
    wishes: dict[str, ComponentInstance], workers: Sequence[Present], drained: set[int], may_surge: Surge
) -> list[Start]:
    """Instances without a worker; where there is no room, only once the leaving one is gone."""
    staying = {w.instance.key for w in workers if not w.leaving and w.number not in drained}
    there = {worker.instance.key for worker in workers}
    missing = [wish for key, wish in wishes.items() if key not in staying]
    return [Start(wish) for wish in missing if wish.key not in there or may_surge(wish)]


def _roll_one(wishes: dict[str, ComponentInstance], stale: Sequence[Present], may_surge: Surge) -> list[Effect]:
    """One step of a rolling change, on the highest index."""
    if not stale:
        return []
    worker = max(stale, key=lambda found: found.instance.index)
    wish = wishes[worker.instance.key]
    if may_surge(wish):
        return [Start(wish)]
    return [Drain(worker.number, "makes room for a worker of the new spec")]
