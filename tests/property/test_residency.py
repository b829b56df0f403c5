"""The residency policy on a box in virtual time: nobody is lost or waits for ever, memory is never overdrawn."""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.supervision.residency.model_state import Load, ModelState, Residence, Unload
from appliance.supervision.residency.policy import Rules, decide
from appliance.supervision.residency.room import Room

RULES = Rules(min_residence_s=5, fairness_wait_s=10)
LOAD_S, STOP_S, DRAIN_S = 3.0, 0.5, 30.0


@dataclass(order=True)
class Request:
    """One request of a client."""

    arrival: float
    model: str
    service_s: float
    started: float | None = None
    done: float | None = None
    whole: "Request | None" = field(default=None, compare=False)
    """What this is the rest of."""


class Box:
    """Models that take time to load and to leave; requests run as soon as their model is loaded."""

    def __init__(self, models: list[ModelState], room: Room, requests: list[Request], rules: Rules = RULES) -> None:
        self.models = {model.name: model for model in models}
        self.room, self.rules = room, rules
        self.waiting: dict[str, list[Request]] = {name: [] for name in self.models}
        self.running: dict[str, list[Request]] = {name: [] for name in self.models}
        self.loads: Counter[str] = Counter()
        self.unloads: Counter[str] = Counter()
        self.refused: list[Request] = []
        self.now, self.number = 0.0, 0
        self.events: list[tuple[float, int, str, object]] = []
        for request in sorted(requests):
            self.at(request.arrival, "arrive", request)

    def at(self, when: float, what: str, whom: object) -> None:
        self.number += 1
        heapq.heappush(self.events, (when, self.number, what, whom))

    def run(self) -> None:
        self.decide()
        while self.events:
            self.now = self.events[0][0]
            while self.events and self.events[0][0] == self.now:  # all that happens at one moment, then one look
                _, _, what, whom = heapq.heappop(self.events)
                getattr(self, what)(whom)
            self.decide()
            assert self.number < 100_000, "it never comes to rest"

    def look(self, _: object) -> None:
        pass

    def arrive(self, request: Request) -> None:
        if self.models[request.model].residence is Residence.RESIDENT:
            self.begin(request)
        else:
            self.waiting[request.model].append(request)

    def begin(self, request: Request) -> None:
        request.started = self.now
        self.running[request.model].append(request)
        self.at(self.now + request.service_s, "end", request)

    def end(self, request: Request) -> None:
        if all(one is not request for one in self.running[request.model]):
            return
        self.running[request.model] = [one for one in self.running[request.model] if one is not request]
        part: Request | None = request
        while part is not None:
            part.done, part = self.now, part.whole
        self.set(request.model, last_use=self.now)
        if self.models[request.model].residence is Residence.LEAVING and not self.running[request.model]:
            self.at(self.now + STOP_S, "gone", request.model)

    def ready(self, name: str) -> None:
        self.set(name, residence=Residence.RESIDENT, since=self.now)
        batch, self.waiting[name] = self.waiting[name], []
        for request in batch:
            self.begin(request)

    def cut(self, name: str) -> None:
        """The drain deadline: what still runs is held again."""
        if self.models[name].residence is Residence.LEAVING and self.running[name]:
            for request in self.running[name]:  # it goes on behind what it has
                assert request.started is not None
                left_s = request.service_s - (self.now - request.started)
                self.waiting[name].append(replace(request, arrival=self.now, service_s=left_s, whole=request))
            self.running[name] = []
            self.gone(name)

    def gone(self, name: str) -> None:
        if self.models[name].residence is Residence.LEAVING:
            self.set(name, residence=Residence.COLD, since=self.now)

    def set(self, name: str, **changes: object) -> None:
        self.models[name] = replace(self.models[name], **changes)  # type: ignore[arg-type]  # any member of it

    def states(self) -> list[ModelState]:
        return [
            replace(
                model,
                active=len(self.running[name]),
                waiting=len(self.waiting[name]),
                oldest=min((request.arrival for request in self.waiting[name]), default=0.0),
            )
            for name, model in self.models.items()
        ]

    def decide(self) -> None:
        decision = decide(self.states(), self.room, self.rules, self.now)
        for effect in decision.effects:
            self.apply(effect)
        for name in self.models:
            self.set(name, preload=False)
        for name in decision.hopeless:
            self.refused += self.waiting[name]
            self.waiting[name] = []
        holding = [model for model in self.models.values() if model.holds]
        assert not self.room.excess(holding), self.room.excess(holding)
        if decision.look_again_at is not None:
            assert decision.look_again_at > self.now
            if not any(what == "look" and when == decision.look_again_at for when, _, what, _ in self.events):
                self.at(decision.look_again_at, "look", None)

    def apply(self, effect: Load | Unload) -> None:
        model = self.models[effect.model]
        if isinstance(effect, Load):
            assert model.residence is Residence.COLD, "it is loaded once"
            self.loads[effect.model] += 1
            self.set(effect.model, residence=Residence.LOADING, since=self.now)
            self.at(self.now + LOAD_S, "ready", effect.model)
            return
        assert model.residence is Residence.RESIDENT
        assert not model.pinned
        self.unloads[effect.model] += 1
        self.set(effect.model, residence=Residence.LEAVING, since=self.now)
        if self.running[effect.model]:
            self.at(self.now + DRAIN_S, "cut", effect.model)
        else:
            self.at(self.now + STOP_S, "gone", effect.model)


names = st.sampled_from("abcde")
requests_ = st.lists(
    st.builds(Request, arrival=st.floats(0, 120), model=names, service_s=st.floats(0.01, 60)), max_size=60
)
models_ = st.lists(
    st.builds(
        ModelState,
        name=st.just(""),
        needs=st.fixed_dictionaries({"memory": st.integers(1, 4)}),
        pinned=st.sampled_from([False, False, False, True]),
        groups=st.sets(st.sampled_from("xy"), max_size=1).map(frozenset),
        idle_s=st.sampled_from([0.0, 0.0, 2.0, 30.0]),
        preload=st.booleans(),
    ),
    min_size=5,
    max_size=5,
).map(lambda found: [replace(model, name=name) for model, name in zip(found, "abcde", strict=True)])


@settings(max_examples=100, deadline=None)
@given(models_, requests_, st.sampled_from([None, 1, 2, 3]), st.integers(3, 9))
def test_nobody_is_lost_and_every_wait_is_bounded(
    models: list[ModelState], requests: list[Request], most: int | None, memory: int
) -> None:
    box = Box(models, Room(most=most, limits={"memory": memory}), requests)
    box.run()
    turn = RULES.fairness_wait_s + DRAIN_S + STOP_S + LOAD_S
    for request in requests:
        assert (request.done is None) == any(request is refused for refused in box.refused)
        if request.started is not None:
            assert request.started - request.arrival <= turn * len(models)
    for model in models:
        asked = sum(1 for request in requests if request.model == model.name)
        assert box.loads[model.name] <= asked * 3 + model.preload + model.pinned, "no load without a reason"


@pytest.mark.parametrize("seed", range(5))
def test_three_hundred_interleaved_requests_on_memory_for_two_of_three_models(seed: int) -> None:
    """All at once: each model is loaded once, and one of the first two goes once."""
    source = random.Random(seed)
    requests = [Request(source.uniform(0, 4), "abc"[number % 3], source.uniform(0.1, 1)) for number in range(300)]
    box = Box([ModelState(name=name, preload=True) for name in "abc"], Room(most=2), requests)
    box.run()
    assert all(request.done is not None for request in requests)
    assert sum(box.loads.values()) == 3
    assert sum(box.unloads.values()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_under_lasting_load_on_all_models_swaps_are_as_rare_as_fairness_allows(seed: int) -> None:
    """Each swap lets a request through that waited for `fairness_wait_s`, or takes a model that nobody used."""
    source = random.Random(seed)
    minutes = 5
    requests = [Request(n / 10, source.choice("abc"), source.uniform(0.1, 0.5)) for n in range(minutes * 600)]
    box = Box([ModelState(name=name, preload=True) for name in "abc"], Room(most=2), requests)
    box.run()
    waits = [request.started - request.arrival for request in requests if request.started is not None]
    assert len(waits) == len(requests)
    assert max(waits) <= RULES.fairness_wait_s + STOP_S + LOAD_S + 1
    assert sum(box.unloads.values()) <= 2 * (minutes * 60 / (RULES.fairness_wait_s + STOP_S) + 1), "per place"


def test_a_busy_model_cannot_starve_a_rare_one() -> None:
    flood = [Request(n / 20, "a", 2.0) for n in range(2000)]
    rare = [Request(5 + 20 * n, "b", 0.5) for n in range(5)]
    box = Box([ModelState(name="a", preload=True), ModelState(name="b")], Room(most=1), flood + rare)
    box.run()
    for request in rare:
        assert request.started is not None
        assert request.started - request.arrival <= RULES.fairness_wait_s + 2.0 + STOP_S + LOAD_S
