"""Whether GPUs have places for a set of models: what the placing of workers would find if only they were there."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from appliance.core.errors import ApplianceError
from appliance.core.gpus import GpuDemand
from appliance.core.instances import ComponentInstance
from appliance.supervision.gpu_ledger import GpuLedger
from appliance.supervision.gpu_places import WHOLE_SHARE, Choice, NoRoom, Place, choose
from appliance.supervision.residency.model_state import ModelState, Residence


class GpuRoom:
    """A `Devices` for `Room`. Models of which no worker could be placed on empty GPUs are not its business."""

    def __init__(
        self,
        ledger: GpuLedger,
        demand_of: Callable[[ComponentInstance], GpuDemand | None],
        instances_of: Callable[[str], Sequence[ComponentInstance]],
    ) -> None:
        self._ledger, self._demand_of, self._instances_of = ledger, demand_of, instances_of

    def __call__(self, models: Collection[ModelState]) -> bool:
        awake = [model.name for model in models if model.residence is not Residence.ASLEEP]
        if not (places := self._ledger.places()):
            return True
        instances = {one.key: one for name in awake for one in self._instances_of(name)}
        empty = [_only_for(place, ()) for place in places]
        places = [_only_for(place, instances) for place in places]
        if not all(_can_wake(place, instances) for place in places):
            return False
        places = [_woken(place, instances) for place in places]
        placed = {owner for place in places for owner, _ in place.promised}
        for key, instance in instances.items():
            demand = None if key in placed else self._demand(instance)
            if demand is None or _try(empty, demand) is None:
                continue
            choice = _try(places, demand, key.rpartition("/")[0] + "/")
            if choice is None:
                return False
            places = _promise(places, key, choice, alone=not demand.shared)
        return True

    def _demand(self, instance: ComponentInstance) -> GpuDemand | None:
        try:
            return self._demand_of(instance)
        except ApplianceError:
            return None  # its start will say what is wrong with it


def _only_for(place: Place, owners: Iterable[str]) -> Place:
    wanted = set(owners)
    kept = tuple((owner, amount) for owner, amount in place.promised if owner in wanted)
    return replace(place, promised=kept, taken=place.taken and bool(kept))


def _woken(place: Place, wanted: Collection[str]) -> Place:
    """The place once those that sleep there and are wanted are awake."""
    awake = [one for one in place.sleeping if one.owner in wanted]
    return replace(
        place,
        foreign=place.foreign - sum(one.kept for one in awake),
        promised=(*place.promised, *((one.owner, one.amount) for one in awake)),
        taken=place.taken or any(one.alone for one in awake),
        sleeping=tuple(one for one in place.sleeping if one not in awake),
    )


def _can_wake(place: Place, wanted: Collection[str]) -> bool:
    """Whether those that sleep there and are wanted have room on it: they can wake nowhere else."""
    if not any(one.owner in wanted for one in place.sleeping):
        return True
    then = _woken(place, wanted)
    if then.taken:  # it was promised all that was free then, of which engines leave a part
        return len(then.promised) == 1 and then.foreign <= then.total * (1 - WHOLE_SHARE)
    return then.foreign + sum(amount for _, amount in then.promised) <= then.total


def _try(places: Sequence[Place], demand: GpuDemand, component: str = "") -> Choice | None:
    try:
        return choose(places, demand, component=component)
    except NoRoom:
        return None


def _promise(places: Sequence[Place], owner: str, choice: Choice, *, alone: bool) -> list[Place]:
    amounts = {place.uuid: amount for place, amount in zip(choice.places, choice.amounts, strict=True)}
    return [
        replace(place, promised=(*place.promised, (owner, amounts[place.uuid])), taken=place.taken or alone)
        if place.uuid in amounts
        else place
        for place in places
    ]
