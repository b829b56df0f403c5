"""Whether a unit can sleep, or still does: one whose workers cannot all do so is unloaded like any other."""

from collections.abc import Sequence

from appliance.roles.node.model_units import Unit
from appliance.roles.node.sleep import Sleepers
from appliance.supervision.views import WorkerView


def own_views(unit: Unit, views: Sequence[WorkerView]) -> list[WorkerView]:
    """The views of a unit's processes."""
    keys = {one.key for one in unit.instances}
    return [view for view in views if view.key in keys]


def sleep_level(unit: Unit, own: Sequence[WorkerView], deepest: int) -> int:
    """The level at which a unit sleeps, else the best one, up to `deepest`, that all its workers can; 0: none."""
    if unit.sleep_level or unit.sleepless:
        return unit.sleep_level
    levels = [set(view.card.sleep_levels) for view in own if view.card is not None and view.phase == "ready"]
    if not levels or len(levels) < len(own):
        return 0
    return max((one for one in set.intersection(*levels) if one <= deepest), default=0)


def why_not_asleep(unit: Unit, own: Sequence[WorkerView], sleepers: Sleepers) -> str:
    """What keeps a unit from its sleep; empty: nothing. Workers that ended meanwhile are not started to sleep."""
    faults = [sleepers.faults[view.id] for view in own if view.id in sleepers.faults]
    resting = [view for view in own if sleepers.of(view.id) is not None and view.phase == "ready"]
    if faults:
        unit.sleepless = True
        return faults[0]
    return "" if own and len(resting) == len(own) else "a worker of it ended while it slept"
