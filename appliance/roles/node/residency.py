"""Loads and unloads models as the residency policy decides, and says what becomes of those that are not loaded."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from appliance.core.errors import Conflict, NotFound
from appliance.core.instances import ComponentInstance
from appliance.core.records import LedgerEvent
from appliance.core.settings import ResidencySettings
from appliance.roles.node.box import Box
from appliance.roles.node.demand import DemandBoard
from appliance.roles.node.model_units import Unit, Units
from appliance.roles.node.residence_notes import ResidenceNote, describe_residence
from appliance.roles.node.sleep import Sleepers
from appliance.roles.node.unit_sleep import own_views, sleep_level, why_not_asleep
from appliance.supervision.residency.forecast import smoothed
from appliance.supervision.residency.model_state import Decision, Effect, Load, ModelState, Residence
from appliance.supervision.residency.policy import Rules, decide
from appliance.supervision.views import WorkerView


class Residency:
    """The models of one node between disk and memory. All calls are made on the trio thread."""

    def __init__(
        self,
        box: Box,
        settings: Callable[[], ResidencySettings],
        views: Callable[[], list[WorkerView]],
        note: Callable[[LedgerEvent], None],
        sleepers: Sleepers,
    ) -> None:
        """`views`: the workers of now; `note` takes decisions down; `sleepers` carries out sleep."""
        self._sleepers = sleepers
        self._box, self._settings, self._views, self._note = box, settings, views, note
        self.demand = DemandBoard()
        self.units = Units()
        self.loaded: list[Unit] = []
        """Units that came to be loaded since somebody last looked; see `ModelFacts`."""
        self._nameless: list[ComponentInstance] = []
        self._devices = box.room_on_gpus(lambda name: self.units.by_name[name].instances)
        self._look_again_at: float | None = None
        self._told: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})

    # For those who start processes

    def admit(self, instances: Sequence[ComponentInstance]) -> list[ComponentInstance]:
        """Of the wanted worker instances those that shall run now."""
        self._nameless = self.units.set_instances(instances, trio.current_time())
        self.decide()
        awake = {one.key for unit in self.units.by_name.values() if unit.awake for one in unit.instances}
        awake |= {one.key for one in self._nameless}
        return [one for one in instances if one.key in awake]

    def decide(self) -> bool:
        """Look at everything and decide; True when other processes are wanted, or there is other news to tell."""
        now = trio.current_time()
        self._observe(now)
        known = [one for one in self.units.by_name.values() if not any(map(self._box.looks_at, one.instances))]
        states = [self._state(unit) for unit in known if not unit.failed]
        decision = decide(states, self._box.room(self._settings(), self._devices), self._rules(), now)
        for effect in decision.effects:
            self._apply(effect, states, now)
        self._take_down(decision, known)
        self._look_again_at = decision.look_again_at
        told, self._told = self._told, (decision.waits, decision.hopeless)
        return bool(decision.effects) or told != self._told

    async def run(
        self, wait_changed: Callable[[int], Any], version: Callable[[], int], want: Callable[[], Any]
    ) -> None:
        """Decide for ever: after each change of processes, each report of a front end, and when time is up.

        `want` has the wanted processes looked at anew; `wait_changed` returns once the count `version` has changed.
        """
        while True:
            seen, told = version(), self.demand.changes.version
            if self.decide():
                want()
            with trio.move_on_at(self._look_again_at if self._look_again_at is not None else float("inf")):
                async with trio.open_nursery() as nursery:

                    async def first(wait: Callable[[int], Any], count: int) -> None:
                        await wait(count)
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(first, wait_changed, seen)
                    nursery.start_soon(first, self.demand.changes.wait, told)

    # For users

    def load(self, name: str) -> dict[str, Any]:
        """Load a model as if a request waited for it. Raises `NotFound`, `Conflict`."""
        unit = self._unit(name)
        if unit.failed:
            raise Conflict(f"cannot load {name}: its workers failed; see `dynamo-appliance status`")
        if unit.hopeless:
            raise Conflict(f"cannot load {name}: {unit.hopeless}")
        if unit.residence is not Residence.RESIDENT and unit.asked_at is None:
            unit.asked_at = trio.current_time()
            self._record(name, "load", "asked for by a user", {})
            self.demand.changes.bump()
        return {"name": name, "residence": unit.residence.value}

    def unload(self, name: str, want: Callable[[], Any]) -> dict[str, Any]:
        """Unload a model once its running requests are done. Raises `NotFound`, `Conflict` for a pinned one."""
        unit = self._unit(name)
        if unit.wish.pinned:
            raise Conflict(f"cannot unload {name}: it is pinned")
        unit.asked_at = None
        if unit.awake:
            unit.awake, unit.sleep_level = False, 0
            self._move(unit, Residence.LEAVING, trio.current_time())
            self._record(name, "unload", "asked for by a user", {})
            want()
        return {"name": name, "residence": unit.residence.value}

    def has_decided(self) -> bool:
        """Whether it is known of every model if it is to be loaded; not so before the first look at the GPUs."""
        return not any(unit.preload for unit in self.units.by_name.values())

    def notes(self) -> Mapping[str, ResidenceNote]:
        """What to say about the models that are not loaded."""
        now, wall = trio.current_time(), time.time()
        return {
            name: describe_residence(unit, self._box.size_of, now=now, wall=wall)
            for name, unit in self.units.by_name.items()
            if unit.residence is not Residence.RESIDENT and not unit.failed
        }

    # Parts

    def _unit(self, name: str) -> Unit:
        unit = self.units.by_name.get(name)
        if unit is None:
            known = ", ".join(self.units.by_name) or "none"
            raise NotFound(f"no model {name!r} that could be loaded is served here; those that are: {known}")
        return unit

    def _observe(self, now: float) -> None:
        """Take in what the processes of all units do."""
        views = self._views()
        self._sleepers.forget_gone({view.id for view in views})
        for unit in self.units.by_name.values():
            if unit.sleep_level and (fault := why_not_asleep(unit, own_views(unit, views), self._sleepers)):
                unit.awake, unit.sleep_level = False, 0
                self._record(unit.name, "unload", fault, {})
        for name, sight in self.units.look(views, self._sleepers.of).items():
            unit = self.units.by_name[name]
            unit.failed = sight.failed
            if sight.fraction != unit.fraction[0]:
                unit.fraction = sight.fraction, now
            if sight.residence is Residence.RESIDENT and unit.residence is Residence.LOADING:
                self._on_loaded(unit, views, now)
            self._move(unit, sight.residence, now)

    def _on_loaded(self, unit: Unit, views: Sequence[WorkerView], now: float) -> None:
        unit.asked_at = None
        if unit.waking:
            unit.waking = False
            return
        unit.load_s = smoothed(unit.load_s, now - unit.since)
        cards = [view.card for view in own_views(unit, views) if view.card is not None]
        unit.context_length = cards[0].context_length if cards else unit.context_length
        self.loaded.append(unit)

    @staticmethod
    def _move(unit: Unit, to: Residence, now: float) -> None:
        if unit.residence is not to:
            unit.residence, unit.since = to, now

    def _state(self, unit: Unit) -> ModelState:
        use, wish, settings = self.demand.use(unit.name), unit.wish, self._settings()
        asked = [at for at in (unit.asked_at,) if at is not None]
        oldest = [use.oldest] if use.waiting else []
        level = sleep_level(unit, own_views(unit, self._views()), settings.sleep_level)
        return ModelState(
            name=unit.name,
            residence=unit.residence,
            since=unit.since,
            needs=self._box.needs(unit),
            needs_asleep=self._box.needs_asleep(unit, level),
            sleep_level=level,
            pinned=wish.pinned,
            groups=wish.groups,
            idle_s=settings.idle_s if wish.idle_s is None else wish.idle_s,
            preload=unit.preload,
            active=use.active,
            last_use=use.last_use,
            waiting=use.waiting + len(asked),
            oldest=min([*oldest, *asked], default=0.0),
        )

    def _rules(self) -> Rules:
        settings = self._settings()
        return Rules(min_residence_s=settings.min_residence_s, fairness_wait_s=settings.fairness_wait_s)

    def _apply(self, effect: Effect, states: Sequence[ModelState], now: float) -> None:
        unit = self.units.by_name[effect.model]
        state = next(one for one in states if one.name == effect.model)
        action = self._carry_out(effect, unit)
        loads = isinstance(effect, Load)
        self._move(unit, Residence.LOADING if loads else Residence.LEAVING, now)
        inputs: dict[str, Any] = {
            "waiting": state.waiting,
            "waited_s": round(now - state.oldest, 3) if state.waiting else 0.0,
            "active": state.active,
            "idle_s": round(now - state.idle_since, 3) if not loads else None,
            "needs": dict(state.needs),
            "loaded": [one.name for one in states if one.holds and one.name != unit.name],
        }
        self._record(unit.name, action, effect.reason, inputs)

    def _carry_out(self, effect: Effect, unit: Unit) -> str:
        """Do what was decided; the word for it in the ledger."""
        workers = [view.id for view in own_views(unit, self._views())]
        if isinstance(effect, Load):
            unit.waking, unit.awake, unit.sleep_level = unit.sleep_level > 0, True, 0
            if unit.waking:
                self._sleepers.wake(workers)
            return "wake" if unit.waking else "load"
        unit.awake, unit.sleep_level = effect.sleep_level > 0, effect.sleep_level
        if unit.awake:
            self._sleepers.sleep(workers, effect.sleep_level)
        return "sleep" if unit.awake else "unload"

    def _take_down(self, decision: Decision, known: Sequence[Unit]) -> None:
        for unit in known:
            name, unit.preload = unit.name, False
            unit.wait = decision.waits.get(name, "")
            hopeless = decision.hopeless.get(name, "")
            if hopeless and hopeless != unit.hopeless:
                self._record(name, "refuse", hopeless, {})
            unit.hopeless = hopeless

    def _record(self, model: str, action: str, reason: str, inputs: dict[str, Any]) -> None:
        self._note(LedgerEvent(subject=f"model/{model}", action=action, reason=reason, inputs=inputs))
