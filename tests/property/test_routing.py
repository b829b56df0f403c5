"""Load, queue, sessions and guessed prefixes against naive models, over random operations."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.errors import ApplianceError
from appliance.core.generation import RoutingHints
from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.active_load import ActiveLoad
from appliance.routing.admission import POLICIES, AdmissionQueue
from appliance.routing.approximate_index import ApproximateIndex
from appliance.routing.asking import Ask, Grant, RoutingRequest
from appliance.routing.block_hash import LocalHash, sequence_hashes
from appliance.routing.cost import Prompt
from appliance.routing.index_events import Holder
from appliance.routing.scheduler import PoolScheduler, Shared
from appliance.routing.sessions import Sessions
from appliance.routing.weights import Weights

SIZE = 4
MODEL = ModelName("m")
Chain = tuple[int, ...]


def names(chain: Chain) -> list[int]:
    """A number for each prefix of a chain."""
    return [hash(chain[: end + 1]) for end in range(len(chain))]


@dataclass
class Live:
    """A request as the naive model has it."""

    chain: Chain
    isl: int
    tokens: int
    expected: int | None
    output: int = 0
    keep: float = 1.0

    def grow(self, generated: int) -> None:
        wanted = math.ceil((self.isl + generated) / SIZE) - len(self.chain)
        if wanted > self.output:
            self.output = wanted
            if self.expected is not None:
                self.keep = max(0.0, 1 - generated / max(self.expected, 1))


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_load_is_what_a_recount_gives(random: Random) -> None:
    load = ActiveLoad(SIZE)
    live: dict[int, Live] = {}
    for _ in range(60):
        key = random.randrange(12)
        one = live.get(key)
        match random.randrange(5):
            case 0 | 1 if one is None:
                chain = tuple(random.randrange(2) for _ in range(random.randrange(5)))
                isl = len(chain) * SIZE + random.randrange(SIZE)
                cached = random.randrange(isl + 3)
                expected = random.choice([None, 0, 10])
                assert load.book(key, isl, cached=cached, hashes=names(chain), expected_output=expected)
                live[key] = Live(chain, isl, max(0, isl - cached), expected)
            case 0 | 1:
                assert not load.book(key, 1000)
            case 2 if one is not None:
                load.complete_prefill(key)
                one.tokens = 0
            case 3:
                load.free(key)
                live.pop(key, None)
            case 4:
                generated = random.randrange(30)
                load.grow(key, generated)
                if one is not None:
                    one.grow(generated)
        check_load(load, list(live.values()), random)
    for key in list(live):
        load.free(key)
    assert (load.prefill_tokens, load.decode_blocks, load.blocks_now(), len(load)) == (0, 0, 0, 0)


def check_load(load: ActiveLoad, live: list[Live], random: Random) -> None:
    assert load.prefill_tokens == sum(one.tokens for one in live)
    users: dict[int, list[Live]] = {}
    for one in live:
        for name in names(one.chain):
            users.setdefault(name, []).append(one)
    assert load.decode_blocks == len(users) + sum(one.output for one in live)
    weighted = sum(1.0 if len(who) > 1 else who[0].keep for who in users.values())
    weighted += sum(one.output * one.keep for one in live)
    assert abs(load.blocks_now() - weighted) <= 0.5 + 1e-9
    asked = tuple(random.randrange(2) for _ in range(random.randrange(6)))
    assert load.shared_blocks(names(asked)) == sum(name in users for name in names(asked))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(POLICIES)),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50), st.booleans()), max_size=40),
)
def test_the_queue_keeps_its_order_and_everybody(policy: str, joining: list[tuple[int, int, bool]]) -> None:
    queue = AdmissionQueue(policy)
    asks = []
    for arrived, (jump, tokens, _) in enumerate(joining):
        hints = RoutingHints(priority_jump_s=float(jump))
        made = RoutingRequest(id=RequestId(str(arrived)), model=MODEL, hints=hints)
        ask = Ask(made, Prompt(tokens, 0), Weights(), float(arrived))
        queue.push(ask, tokens)
        asks.append(ask)
    for ask, (_, _, leaves) in zip(asks, joining, strict=True):
        if leaves:
            queue.cancel(ask)
            queue.cancel(ask)
    left = [ask for ask, (_, _, leaves) in zip(asks, joining, strict=True) if not leaves]
    assert (queue.pending, queue.pending_tokens) == (len(left), sum(ask.prompt.isl for ask in left))
    held = {ask for number, ask in enumerate(left) if number % 3 == 0}  # their own slots are busy at first
    first = queue.drain(lambda ask: ask not in held, lambda: False)
    second = queue.drain(lambda _: True, lambda: False)
    key = POLICIES[policy]

    def order(ask: Ask) -> tuple[float, float]:
        return -key(ask.request.hints.priority_jump_s, ask.arrived, ask.prompt.isl), ask.arrived

    assert first == sorted((ask for ask in left if ask not in held), key=order)
    assert second == sorted(held, key=order)
    assert queue.pending == queue.pending_tokens == 0


class Crowd:
    """Everybody who wants a place in one pool: who waits for it, and who has it."""

    workers = (WorkerId("a"), WorkerId("b"))
    card = ModelCard(name=MODEL, context_length=100, engine="mocker", max_num_batched_tokens=10, ranks=2)

    def __init__(self, random: Random) -> None:
        rules = RouterSettings(
            mode="kv",
            queue_policy=random.choice(sorted(POLICIES)),
            kv_events=False,
            ttl_s=20.0,
            active_prefill_tokens_threshold_frac=None,
        )
        self._random = random
        self.pool = PoolScheduler(MODEL, prefill=False, shared=Shared(settings=rules, source=random))
        self.waiting: set[Ask] = set()
        self.running: list[Grant] = []

    def act(self, step: int) -> None:
        """One event: a request, the end of a prompt or a stream, a worker that comes or goes, a cancellation."""
        random, now = self._random, float(step)
        match random.randrange(8):
            case 0 | 1 | 2:
                self._ask(RequestId(str(step)), now)
            case 3 if self.running:
                self._settle(self.pool.on_prefill_complete(random.choice(self.running), now))
            case 4 | 5 if self.running:
                self._free(random.randrange(len(self.running)), now)
            case 6:
                self._settle(self.pool.add_worker(random.choice(self.workers), self.card, now))
            case 7 if random.random() < 0.4:
                self._settle(self.pool.remove_worker(random.choice(self.workers), now))
            case 7 if self.waiting:
                gone = random.choice(sorted(self.waiting, key=lambda ask: ask.arrived))
                self.pool.cancel(gone)
                self.waiting.remove(gone)

    def end_all(self) -> None:
        """All streams end, and a fresh worker takes whoever waits."""
        self._free_all(100.0)
        self._settle(self.pool.add_worker(WorkerId("fresh"), self.card, 101.0))
        self._free_all(102.0)

    def _ask(self, name: RequestId, now: float) -> None:
        tokens = [self._random.randrange(3)] * self._random.randrange(60)
        try:
            found = self.pool.on_request(RoutingRequest(id=name, model=MODEL, token_ids=tokens), now)
        except ApplianceError:
            return
        if isinstance(found, Ask):
            self.waiting.add(found)
        else:
            self.running.append(found)

    def _free_all(self, now: float) -> None:
        while self.running:
            self._free(-1, now)

    def _free(self, at: int, now: float) -> None:
        self._settle(self.pool.on_free(self.running.pop(at), now))

    def _settle(self, settled: Iterable[Ask]) -> None:
        for ask in settled:
            self.waiting.remove(ask)
            if isinstance(ask.outcome, Grant):
                self.running.append(ask.outcome)
            else:
                assert isinstance(ask.outcome, ApplianceError)


@given(st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_nobody_is_lost_and_nothing_stays_booked(random: Random) -> None:
    crowd = Crowd(random)
    for step in range(80):
        crowd.act(step)
        assert crowd.pool.queue.pending == len(crowd.waiting)
    crowd.end_all()
    assert not crowd.waiting
    for slot in crowd.pool.pool.slots:
        assert (slot.streams, slot.load.prefill_tokens, slot.load.decode_blocks) == (0, 0, 0)


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_sessions_end_when_idle_and_never_before(random: Random) -> None:
    sessions = Sessions()
    holders = [Holder(WorkerId(name)) for name in "ab"]
    bound: dict[str, tuple[Holder, float, int, float]] = {}  # holder, ttl, active, idle since
    now = 0.0
    for _ in range(60):
        now += random.choice([0.0, 1.0, 3.0])
        name = random.choice("xyz")
        entry = bound.get(name)
        if entry is not None and entry[2] == 0 and now - entry[3] >= entry[1]:
            del bound[name]
            entry = None
        assert sessions.find(name, now) == (None if entry is None else entry[0])
        match random.randrange(4):
            case 0:
                holder = entry[0] if entry else random.choice(holders)
                ttl = random.choice([0.0, 4.0])
                belongs = sessions.start(name, holder, ttl, now)
                assert belongs == (entry is not None or ttl > 0)
                if entry is not None:
                    bound[name] = (holder, ttl or entry[1], entry[2] + 1, entry[3])
                elif ttl:
                    bound[name] = (holder, ttl, 1, now)
            case 1 if entry is not None and entry[2]:
                sessions.end(name, entry[0], now)
                bound[name] = (entry[0], entry[1], entry[2] - 1, now)
            case 2:
                sessions.forget(name)
                bound.pop(name, None)
            case 3 if random.random() < 0.2:
                sessions.forget_worker(WorkerId("a"))
                bound = {key: value for key, value in bound.items() if value[0].worker != "a"}


@given(st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_guessed_prefixes_are_those_used_lately(random: Random) -> None:
    ttl = 5.0
    index = ApproximateIndex(ttl)
    used: dict[Holder, dict[Chain, float]] = {}
    holders = [Holder(WorkerId("a"), 0), Holder(WorkerId("a"), 1), Holder(WorkerId("b"), 0)]
    now = 0.0
    for _ in range(50):
        now += random.choice([0.0, 0.5, 2.0])
        chain = tuple(random.randrange(2) for _ in range(random.randrange(6)))
        local = [LocalHash(number + 10) for number in chain]
        if random.random() < 0.6:
            holder = random.choice(holders)
            index.record(holder, local, sequence_hashes(local), now)
            for end in range(len(chain)):
                used.setdefault(holder, {})[chain[: end + 1]] = now + ttl
        elif random.random() < 0.1:
            index.forget_worker(WorkerId("a"))
            used = {holder: blocks for holder, blocks in used.items() if holder.worker != "a"}
        expected = {}
        for holder, blocks in used.items():
            depth = 0
            while depth < len(chain) and blocks.get(chain[: depth + 1], 0.0) > now:
                depth += 1
            if depth:
                expected[holder] = depth
        assert index.find_matches(local, now).device == expected
        assert len(index) == sum(expiry > now for blocks in used.values() for expiry in blocks.values())
