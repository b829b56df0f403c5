"""The models of the stored graphs as units of residence: which processes make one, and where it is by what they do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.core.identity import WorkerId
from appliance.core.instances import ComponentInstance, ResidenceWish
from appliance.graph.arguments import flag_value
from appliance.roles.model_names import served_name
from appliance.roles.node.sleep import Rest
from appliance.supervision.residency.model_state import Residence
from appliance.supervision.views import WorkerView

RestOf = Callable[[WorkerId], Rest | None]
"""What a worker does that neither serves nor starts."""


@dataclass
class Unit:
    """One served name, with all components that serve it: they are loaded and unloaded together."""

    name: str
    instances: tuple[ComponentInstance, ...] = ()
    awake: bool = False
    """Its processes are wanted."""
    sleep_level: int = 0
    """Its processes are to sleep, at this level; 0: they are to serve."""
    waking: bool = False
    """It is being loaded out of its sleep."""
    sleepless: bool = False
    """It could not sleep once, and is not told to again."""
    residence: Residence = Residence.COLD
    since: float = 0.0
    failed: bool = False
    """It was given up; loading it again does not help."""
    preload: bool = True
    """Nothing was decided about it yet."""
    asked_at: float | None = None
    """When a user asked for it, until it is loaded."""
    load_s: float | None = None
    """How long it takes to load, by past loads."""
    memory_bytes: int | None = None
    """Main memory that it took when it was last loaded."""
    context_length: int | None = None
    fraction: tuple[float, float] = (-1.0, 0.0)
    """What its worker says is done, and since when it says how far it is."""
    wait: str = ""
    """Why it is not loaded though it should be."""
    hopeless: str = ""
    """Why it cannot be loaded at all."""

    @property
    def wish(self) -> ResidenceWish:
        """The wishes of its components together."""
        wishes = [one.residence for one in self.instances]
        idle = [wish.idle_s for wish in wishes if wish.idle_s is not None]
        return ResidenceWish(
            pinned=any(wish.pinned for wish in wishes),
            idle_s=max(idle, default=None),
            groups=frozenset[str]().union(*(wish.groups for wish in wishes)),
        )


@dataclass(frozen=True)
class Sight:
    """What the processes of a unit say about it."""

    residence: Residence
    failed: bool = False
    fraction: float = -1.0


@dataclass(frozen=True, kw_only=True)
class PastLoad:
    """What is remembered of a model's loads."""

    model: str
    """Its `--model`: another model may be served under the same name."""
    load_s: float | None
    memory_bytes: int | None
    context_length: int | None


@dataclass
class Units:
    """All units by name, in the order of the graphs."""

    by_name: dict[str, Unit] = field(default_factory=dict)
    past: dict[str, PastLoad] = field(default_factory=dict)
    """By name; units that appear begin with it."""

    def set_instances(self, instances: Iterable[ComponentInstance], now: float) -> list[ComponentInstance]:
        """Replace what the graphs want; returns the instances that say no name, which are always wanted."""
        named: dict[str, list[ComponentInstance]] = {}
        nameless: list[ComponentInstance] = []
        for one in instances:
            name = served_name(one.argv)
            (nameless if name is None else named.setdefault(name, [])).append(one)
        self.by_name = {name: self.by_name.get(name) or self._new(name, own, now) for name, own in named.items()}
        for name, own in named.items():
            self.by_name[name].instances = tuple(own)
        return nameless

    def _new(self, name: str, instances: Sequence[ComponentInstance], now: float) -> Unit:
        past = self.past.get(name)
        if past is None or past.model != model_of(instances):
            return Unit(name, since=now)
        return Unit(
            name,
            since=now,
            load_s=past.load_s,
            memory_bytes=past.memory_bytes,
            context_length=past.context_length,
        )

    def look(self, views: Sequence[WorkerView], rests: RestOf) -> Mapping[str, Sight]:
        """Where each unit is, by its processes."""
        by_key: dict[str, list[WorkerView]] = {}
        for view in views:
            by_key.setdefault(view.key, []).append(view)
        return {
            name: sight(unit, [view for one in unit.instances for view in by_key.get(one.key, ())], rests)
            for name, unit in self.by_name.items()
        }


def model_of(instances: Sequence[ComponentInstance]) -> str:
    """The `--model` of a unit's workers."""
    return next((model for one in instances if (model := flag_value(one.argv, "--model"))), "")


def sight(unit: Unit, views: Sequence[WorkerView], rests: RestOf) -> Sight:
    """Where a unit is, by the views of its own processes."""
    if not unit.awake:
        ended = all(view.phase in ("failed", "stopped") for view in views)
        return Sight(Residence.COLD if ended else Residence.LEAVING)
    if unit.sleep_level:
        return Sight(Residence.ASLEEP if all(rests(view.id) is Rest.ASLEEP for view in views) else Residence.LEAVING)
    components = {one.component for one in unit.instances}
    ready = {view.instance.component for view in views if view.phase == "ready" and rests(view.id) is None}
    if components and components <= ready:
        return Sight(Residence.RESIDENT)
    if views and all(view.phase == "failed" for view in views):
        return Sight(Residence.COLD, failed=True)
    fractions = [view.progress.fraction for view in views if view.progress and view.phase == "starting"]
    return Sight(Residence.LOADING, fraction=max(fractions, default=-1.0))
