"""The scheduler of one pool: the workers of one model that take the same kind of stream.

Pure: it is told the time and what happens, and answers with grants. A front end drives it in real time, a simulation
in virtual time. `DESIGN.md` has the picture.
"""

from collections.abc import Iterable, Sequence

from appliance.core.errors import ApplianceError
from appliance.core.identity import ModelName, WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.requests import ModelCard
from appliance.routing.admission import AdmissionQueue
from appliance.routing.asking import Ask, Grant, RoutingRequest
from appliance.routing.cost import Prompt, Scores, cached_tokens, choose, prefer, score
from appliance.routing.eligibility import Excluded, no_worker
from appliance.routing.grants import Grants
from appliance.routing.measures import Stopwatch
from appliance.routing.modes import make_mode
from appliance.routing.overlap import NO_OVERLAPS
from appliance.routing.pool import Pool, all_full
from appliance.routing.prefixes import Prefixes
from appliance.routing.shared import Shared
from appliance.routing.slots import Slot
from appliance.routing.weights import Role, overridden, weights_of

__all__ = ["PoolScheduler", "Shared"]

ROLES: tuple[Role, ...] = ("aggregated", "prefill", "decode")
NOBODY: Sequence[Ask] = ()


class PoolScheduler:
    """Places streams on the workers of a pool, by load and by what they have cached, and queues what must wait.

    Calls that may free capacity return the requests that need not wait any longer: each has its `outcome`, a grant or
    an error. Whoever gets a grant must give it back by `on_free`.
    """

    def __init__(self, model: ModelName, *, prefill: bool, shared: Shared) -> None:
        """`prefill`: the pool of the model's prefill workers."""
        self.model, self.prefill = model, prefill
        self._shared = shared
        self.pool = Pool(shared.settings)
        self.prefixes = Prefixes(shared.settings, shared.measures)
        self._grants = Grants(model, prefill, self.pool, self.prefixes, shared)
        self.queue = AdmissionQueue(shared.settings.queue_policy)
        self._take_settings()
        self._limit_model()

    def add_worker(self, worker: WorkerId, card: ModelCard, now: float) -> Sequence[Ask]:
        """A worker takes streams from now on. One that is there already and shows the same card changes nothing."""
        return self.drain(now) if self.pool.add(worker, card) else NOBODY

    def remove_worker(self, worker: WorkerId, now: float) -> Sequence[Ask]:
        """Place nothing more on a worker and forget its cache. Its streams are still to be freed."""
        if not self.pool.remove(worker):
            return NOBODY
        self.prefixes.forget_worker(worker)
        return self.drain(now)

    def configure(self, now: float) -> Sequence[Ask]:
        """Take in the shared settings, which have changed."""
        self._take_settings()
        self._grants.configure()
        self.pool.configure(self._shared.settings)
        self._limit_model()
        self.prefixes.configure(self._shared.settings)
        old, self.queue = self.queue, AdmissionQueue(self._shared.settings.queue_policy)
        for ask in old.waiting():
            self.queue.push(ask, self._uncached(ask, self.pool.slots))
        return self.drain(now)

    def apply_kv_events(self, worker: WorkerId, rank: int, events: Iterable[KvEvent]) -> None:
        """Take in what a worker says of its cache. What one with another block size says is of no use here."""
        slot = self.pool.find(worker, rank)
        if slot is not None and slot.says_events and slot.card.block_size == self.pool.block_size:
            self.prefixes.apply(slot.holder, events)

    def report_load(self, worker: WorkerId, rank: int, decode_blocks: int, prefill_tokens: int) -> None:
        """What a worker itself says of its load; it counts for the busy thresholds only."""
        slot = self.pool.find(worker, rank)
        if slot is not None:
            slot.report(decode_blocks, prefill_tokens)
            self.pool.weigh(slot)

    def on_request(self, request: RoutingRequest, now: float) -> Grant | Ask:
        """A place for a stream, or the request as it waits in the queue.

        Raises `ModelNotReady` without a worker that will do, `InvalidRequest` for a pin on nobody, `Overloaded` when
        all are too busy.
        """
        try:
            slots, excluded, reason = self.pool.narrow(request, now)
        except ApplianceError as error:
            self._grants.refuse(request, error, now)
            raise
        if self._mode is not None:
            number = self._mode.pick(slots, pinned=request.pinned is not None)
            return self._grants.give(request, slots, number, now, excluded, reason or self._mode_name)
        measures = self._shared.measures
        watch = measures.watch(self._shared.timer)
        ask = self._read(request, now, watch)
        if all_full(slots, now):
            self.queue.push(ask, self._uncached(ask, slots))
            return ask
        grant = self._place(ask, slots, now, excluded, reason)
        if watch is not None:
            watch.lap(measures.scheduling_ms)
            watch.stop(measures.total_ms)
        return grant

    def on_prefill_complete(self, grant: Grant, now: float) -> Sequence[Ask]:
        """The stream's first token is there. Saying so again changes nothing."""
        if not grant.in_prefill or grant.ended:
            return NOBODY
        self._grants.complete_prefill(grant, now)
        return self.drain(now) if self.queue.pending else NOBODY

    def on_output(self, grant: Grant, generated: int) -> None:
        """The stream has this many output tokens. Counts only with `track_output_blocks`; replicas are not told."""
        self._grants.grow(grant, generated)

    def on_free(self, grant: Grant, now: float) -> Sequence[Ask]:
        """The stream has ended, in whatever way. Saying so again changes nothing."""
        if grant.ended:
            return NOBODY
        self._grants.free(grant, now)
        return self.drain(now) if self.queue.pending else NOBODY

    def cancel(self, ask: Ask) -> None:
        """A request waits no longer. One that was granted a place keeps it: free that."""
        self.queue.cancel(ask)

    def drain(self, now: float) -> Sequence[Ask]:
        """Settle what waits: place it, or fail it when nobody can serve it any more."""
        if not self.queue.pending:
            return NOBODY
        return self.queue.drain(
            lambda ask: self._settle(ask, now), lambda: bool(self.pool.slots) and all_full(self.pool.slots, now)
        )

    def potential_loads(self, request: RoutingRequest, now: float) -> tuple[Sequence[Slot], Scores]:
        """What each slot would have to do with this request. Books nothing. Raises `ModelNotReady` without a slot."""
        slots, size = self.pool.slots, self.pool.block_size
        if not slots:
            raise no_worker(self.model)
        ask = self._read(request, now)
        scores = score(slots, ask.prompt, ask.weights, size, now)
        new = [
            tokens + ask.prompt.isl - cached_tokens(slot.holder, ask.prompt, ask.weights, size)
            for slot, tokens in zip(slots, scores.prefill_tokens, strict=True)
        ]
        scores.prefill_tokens = new
        return slots, scores

    def uncached_tokens(self, request: RoutingRequest, now: float) -> int:
        """Prompt tokens that the slot with the most of them cached would have to compute, whatever their number."""
        return self._uncached(self._read(request, now), self.pool.slots)

    def _limit_model(self) -> None:
        own = self._shared.thresholds.get(self.model)
        if own is not None:
            self.pool.set_thresholds(own)

    def _take_settings(self) -> None:
        settings = self._shared.settings
        self._mode = make_mode(settings, self._shared.source)
        self._mode_name = settings.mode
        self._weights = {role: weights_of(settings, role) for role in ROLES}
        self.tracks_output = settings.track_output_blocks
        """`on_output` has an effect."""
        # Replicas may grow by settings of their own, but never tell; only what is modelled here changes by itself.
        self._changing = self.tracks_output or settings.prefill_load_model != "none"

    def _read(self, request: RoutingRequest, now: float, watch: Stopwatch | None = None) -> Ask:
        weights = self._weights[request.role]
        if request.hints.overrides is not None:
            weights = overridden(weights, request.hints.overrides)
        pool = self.pool
        isl = len(request.token_ids)
        prompt = Prompt(isl, isl // pool.block_size, (), NO_OVERLAPS, request.shared_blocks)
        ask = Ask(request, prompt, weights, now)
        self.prefixes.read(ask, pool.block_size, pool.lora, pool.guesses, now, watch)
        return ask

    def _uncached(self, ask: Ask, slots: Sequence[Slot]) -> int:
        """Prompt tokens that the slot with the most of them cached would still have to compute."""
        size = self.pool.block_size
        return ask.prompt.isl - max(
            (cached_tokens(slot.holder, ask.prompt, ask.weights, size) for slot in slots), default=0
        )

    def _settle(self, ask: Ask, now: float) -> bool:
        pool = self.pool
        try:
            slots, excluded, reason = pool.narrow(ask.request, now)
            if all_full(slots, now):
                return False
            self.prefixes.read(ask, pool.block_size, pool.lora, pool.guesses, now)
            ask.outcome = self._place(ask, slots, now, excluded, reason)
        except ApplianceError as error:
            self._grants.refuse(ask.request, error, now, now - ask.arrived)
            ask.outcome = error
        return True

    def _place(self, ask: Ask, slots: Sequence[Slot], now: float, excluded: Excluded, reason: str) -> Grant:
        """Choose by cost and book."""
        weights, preferred = ask.weights, ask.request.hints.preferred_taints
        scores = score(slots, ask.prompt, weights, self.pool.block_size, now, self._changing)
        if preferred:
            scores.costs = prefer(scores.costs, slots, preferred)
        number = choose(scores.costs, weights.temperature, self._shared.source) if len(slots) > 1 else 0
        reason = reason or ("lowest cost" if weights.temperature == 0 else "drawn by cost")
        return self._grants.give_prompt(ask, slots, number, scores, now, excluded, reason)
