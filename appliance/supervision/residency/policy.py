"""Decides which models are loaded, which leave and which must wait. Pure: states, limits and the time in, effects out.

Models that requests wait for are served first come, first served by their oldest request. What one of them needs is
kept free of later ones, so that a large model is not starved by small ones. See DESIGN.md.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from appliance.supervision.residency.model_state import Decision, Effect, Load, ModelState, Residence, Unload
from appliance.supervision.residency.room import Room


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How patient the policy is, in seconds."""

    min_residence_s: float = 5.0
    """A loaded model is not pushed out before this, unless a request for another has waited for `fairness_wait_s`."""
    fairness_wait_s: float = 10.0
    """A request that has waited this long pushes out models that are in use."""
    quiet_s: float = 1.0
    """A model counts as in use until this long after its last request: the gaps of a busy client are no idleness."""

    @property
    def turn_s(self) -> float:
        """What a model in use has at least, however long others wait."""
        return min(self.min_residence_s, self.fairness_wait_s)


def decide(models: Sequence[ModelState], room: Room, rules: Rules, now: float) -> Decision:
    """The next steps; applied, they make a different input for the next call. The order of `models` breaks ties."""
    round_ = _Round(models, room, rules, now)
    round_.shrink()
    for model in _queue(models):
        round_.admit(model)
    for model in models:
        if model.preload and model.residence is Residence.COLD:
            round_.preload(model)
    for model in models:
        round_.retire(model)
    return round_.decision()


def _queue(models: Iterable[ModelState]) -> list[ModelState]:
    """Models to load: pinned ones, then those that requests wait for, by their oldest."""
    away = [model for model in models if model.residence in (Residence.COLD, Residence.ASLEEP)]
    asked = sorted((model for model in away if model.waiting and not model.pinned), key=lambda model: model.oldest)
    return [model for model in away if model.pinned] + asked


class _Round:
    """One decision in the making."""

    def __init__(self, models: Sequence[ModelState], room: Room, rules: Rules, now: float) -> None:
        self._room, self._rules, self._now = room, rules, now
        self._holding = {model.name: model for model in models if model.holds}
        """What takes memory until it is gone, and what was let in in this round."""
        self._staying = {name: one for name, one in self._holding.items() if one.residence is not Residence.LEAVING}
        """What is to be in memory once everything decided has happened; room for models that wait is kept here."""
        self._effects: list[Effect] = []
        self._waits: dict[str, str] = {}
        self._hopeless: dict[str, str] = {}
        self._times: list[float] = []

    def decision(self) -> Decision:
        later = [at for at in self._times if at > self._now]
        return Decision(
            effects=tuple(self._effects),
            waits=self._waits,
            hopeless=self._hopeless,
            look_again_at=min(later, default=None),
        )

    def shrink(self) -> None:
        """Let idle models go while what is loaded is too much: needs or limits have turned out to be others."""
        anybody = ModelState(name="")
        for one in self._movable(anybody):
            excess = self._room.excess(self._staying.values())
            if excess and one.idle and self._may_push_out(one, 0.0):
                self._effects.append(Unload(one.name, f"what is loaded is too much: {excess}", self._level(one)))
                del self._staying[one.name]

    def admit(self, model: ModelState) -> None:
        """Load it, or make room for it, or let it wait for room that is kept for it."""
        loaded = replace(model, residence=Residence.LOADING)
        if self._fits_beside(self._staying, loaded):
            self._staying[model.name] = loaded
            if self._fits_beside(self._holding, loaded):
                self._let_in(loaded, _why_load(model))
            else:
                self._waits[model.name] = f"waiting for memory: {self._leaving()} is being unloaded"
            return
        if not self._fits_beside(self._only(lambda one: one.pinned), loaded):
            self._hopeless[model.name] = self._why_hopeless(loaded)
            return
        self._push_out(loaded)

    def preload(self, model: ModelState) -> None:
        """Load it if nothing is in its way."""
        loaded = replace(model, residence=Residence.LOADING)
        if model.name not in self._staying and all(
            self._fits_beside(those, loaded) for those in (self._staying, self._holding)
        ):
            self._staying[model.name] = loaded
            self._let_in(loaded, "there is room for it")

    def retire(self, model: ModelState) -> None:
        """Let a model go that nobody has used for long."""
        away = model.residence is not Residence.RESIDENT or model.name not in self._staying
        if away or model.pinned or not model.idle_s or not model.idle:
            return
        due = model.idle_since + model.idle_s
        self._times.append(due)
        if due <= self._now:
            self._effects.append(Unload(model.name, f"it was idle for {model.idle_s:g} s", self._level(model)))

    def _push_out(self, loaded: ModelState) -> None:
        """Unload what is in the way, or say what keeps it."""
        waited = self._now - loaded.oldest if loaded.waiting else 0.0
        if loaded.waiting:
            self._times.append(loaded.oldest + self._rules.fairness_wait_s)
        movable = self._movable(loaded)
        free_now = [one for one in movable if self._may_push_out(one, waited)]
        victims = self._fewest(free_now, loaded)
        for victim in victims or ():
            level = self._level(victim, victims or (), loaded)
            self._effects.append(Unload(victim.name, _why_unload(victim, loaded, waited), level))
        in_the_way = victims or self._fewest(movable, loaded) or movable
        doing = "being unloaded" if victims else "in use"
        self._waits[loaded.name] = f"waiting for memory: {_list_names(in_the_way)} {doing}"
        for one in in_the_way:
            self._staying.pop(one.name, None)
        self._staying[loaded.name] = loaded

    def _movable(self, loaded: ModelState) -> list[ModelState]:
        """What may ever be pushed out for it, the first to go first: sleeping, idle by last use, in use by its turn."""
        candidates = [
            one
            for one in self._only(lambda one: not one.pinned).values()
            if one.name != loaded.name and one.residence in (Residence.RESIDENT, Residence.ASLEEP)
        ]

        def rank(one: ModelState) -> tuple[int, float]:
            if one.residence is Residence.ASLEEP:
                return 0, one.since
            return (1, one.idle_since) if one.idle else (2, one.since)

        return sorted(candidates, key=rank)

    def _may_push_out(self, one: ModelState, waited: float) -> bool:
        if one.residence is Residence.ASLEEP:
            return True
        rules, age = self._rules, self._now - one.since
        patient = waited < rules.fairness_wait_s
        if one.idle and one.last_use < one.since:
            return True  # nobody has used it since it was loaded
        if one.idle:
            free_at = max(one.since + rules.min_residence_s, one.last_use + rules.quiet_s)
            self._times.append(free_at)
            return not patient or self._now >= free_at
        turn_s = rules.fairness_wait_s if one.owes else rules.turn_s
        self._times.append(one.since + turn_s)
        return not patient and age >= turn_s

    def _fewest(self, movable: Sequence[ModelState], loaded: ModelState) -> list[ModelState] | None:
        """Of these, in their order, as few as make room; None when all of them do not."""
        gone: list[ModelState] = []
        for one in movable:
            gone.append(one)
            if self._fits_without(gone, loaded):
                break
        else:
            return None
        for one in gone[:-1]:
            others = [other for other in gone if other is not one]
            if self._fits_without(others, loaded):
                gone = others
        return gone

    def _fits_without(self, gone: Iterable[ModelState], loaded: ModelState) -> bool:
        names = {one.name for one in gone}
        return self._fits_beside(self._only(lambda one: one.name not in names), loaded)

    def _fits_beside(self, others: dict[str, ModelState], loaded: ModelState) -> bool:
        return self._room.fits((others | {loaded.name: loaded}).values())

    def _only(self, keep: Callable[[ModelState], bool]) -> dict[str, ModelState]:
        return {name: one for name, one in self._staying.items() if keep(one)}

    def _let_in(self, loaded: ModelState, reason: str) -> None:
        self._holding[loaded.name] = loaded
        self._effects.append(Load(loaded.name, reason))

    def _level(self, victim: ModelState, victims: Sequence[ModelState] = (), loaded: ModelState | None = None) -> int:
        """A sleeping model in the way has to end, and one of which there is no room for what it keeps.

        `victims`: all that leave, `loaded`: what comes in their place.
        """
        if victim.residence is Residence.ASLEEP or not victim.sleep_level:
            return 0
        leaving = victims or (victim,)
        names = {one.name for one in leaving}
        staying = self._only(lambda one: one.name not in names)
        for one in leaving:
            if one.residence is Residence.RESIDENT and one.sleep_level:
                staying[one.name] = replace(one, residence=Residence.ASLEEP)
        if loaded is not None:
            staying[loaded.name] = loaded
        return victim.sleep_level if self._room.fits(staying.values()) else 0

    def _leaving(self) -> str:
        return ", ".join(name for name in self._holding if name not in self._staying) or "another model"

    def _why_hopeless(self, loaded: ModelState) -> str:
        if alone := self._room.excess([loaded]):
            return alone
        pinned = _list_names(self._only(lambda one: one.pinned).values())
        return f"its memory is taken: {pinned} pinned"


def _why_load(model: ModelState) -> str:
    if model.waiting:
        return f"{model.waiting} request{'' if model.waiting == 1 else 's'} waiting"
    return "it is pinned"


def _why_unload(victim: ModelState, loaded: ModelState, waited: float) -> str:
    if victim.residence is Residence.ASLEEP or victim.idle:
        return f"makes room for {loaded.name}, which {_asks(loaded)}; it was the one not used for longest"
    return f"makes room for {loaded.name}, which a request has waited for for {waited:.1f} s; it had its turn"


def _asks(loaded: ModelState) -> str:
    return "requests wait for" if loaded.waiting else "is pinned"


def _list_names(models: Iterable[ModelState]) -> str:
    names = [model.name for model in models]
    return f"{', '.join(names) or 'every model'} {'is' if len(names) < 2 else 'are'}"
