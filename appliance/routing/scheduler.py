"""The scheduler of one pool: the workers of one model that take the same kind of stream.

Pure: it is told the time and what happens, and answers with grants. A front end drives it in real time, a simulation
in virtual time. `DESIGN.md` has the picture.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from appliance.core.errors import ApplianceError
from appliance.core.identity import ModelName, WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.admission import AdmissionQueue
from appliance.routing.asking import Ask, Grant, RoutingRequest
from appliance.routing.cost import Prompt, Scores, cached_tokens, choose, prefer, score
from appliance.routing.decisions import Decisions
from appliance.routing.eligibility import Excluded, no_worker
from appliance.routing.measures import NO_WATCH, RouterMeasures, Stopwatch
from appliance.routing.modes import make_mode
from appliance.routing.overlap import NO_OVERLAPS
from appliance.routing.pool import Pool, all_full
from appliance.routing.prefill_pace import PrefillPace
from appliance.routing.prefixes import Prefixes
from appliance.routing.replica_sync import BookingAdded, BookingFreed, PrefillCompleted, Report
from appliance.routing.slots import BusyThresholds, Slot
from appliance.routing.weights import Role, overridden, weights_of

ROLES: tuple[Role, ...] = ("aggregated", "prefill", "decode")
NOBODY: Sequence[Ask] = ()


def _no_timer() -> float:
    return 0.0


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all pools of one router use."""

    settings: RouterSettings
    """With its preset spelled out (`weights.resolve`)."""
    source: Random = field(default_factory=Random)
    decisions: Decisions = field(default_factory=Decisions)
    measures: RouterMeasures = field(default_factory=RouterMeasures)
    timer: Callable[[], float] = _no_timer
    """Seconds, only to measure what placements cost."""
    router_id: str = ""
    report: Report | None = None
    """Takes placements to other routers."""
    thresholds: dict[ModelName, BusyThresholds] = field(default_factory=dict)
    """Of models that do not take those of the settings."""
    next_key: Callable[[], int] = field(default_factory=lambda: count().__next__)


class PoolScheduler:
    """Places streams on the workers of a pool, by load and by what they have cached, and queues what must wait.

    Calls that may free capacity return the requests that need not wait any longer: each has its `outcome`, a grant or
    an error. Whoever gets a grant must give it back by `on_free`.
    """

    def __init__(self, model: ModelName, *, prefill: bool, shared: Shared) -> None:
        """`prefill`: the pool of the model's prefill workers."""
        self.model, self.prefill = model, prefill
        self._shared = shared
        self._pace = PrefillPace()
        self.pool = Pool(shared.settings)
        self.prefixes = Prefixes(shared.settings, shared.measures)
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
            slot.reported_blocks, slot.reported_tokens = decode_blocks, prefill_tokens
            self.pool.weigh(slot)

    def on_request(self, request: RoutingRequest, now: float) -> Grant | Ask:
        """A place for a stream, or the request as it waits in the queue.

        Raises `ModelNotReady` without a worker that will do, `InvalidRequest` for a pin on nobody, `Overloaded` when
        all are too busy.
        """
        try:
            slots, excluded, reason = self.pool.narrow(request, now)
        except ApplianceError as error:
            self._record(request, (), None, None, now, None, error.message, (), 0.0)
            raise
        if self._mode is not None:
            number = self._mode.pick(slots, pinned=request.pinned is not None)
            return self._grant(request, slots, number, now, excluded, reason or self._mode_name)
        measures = self._shared.measures
        watch = measures.watch(self._shared.timer)
        ask = self._read(request, now, watch)
        if all_full(slots, now):
            self.queue.push(ask, self._uncached(ask, slots))
            return ask
        grant = self._place(ask, slots, now, excluded, reason)
        watch.lap(measures.scheduling_ms)
        watch.stop(measures.total_ms)
        return grant

    def on_prefill_complete(self, grant: Grant, now: float) -> Sequence[Ask]:
        """The stream's first token is there. Saying so again changes nothing."""
        if not grant.in_prefill or grant.ended:
            return NOBODY
        grant.in_prefill = False
        slot = grant.slot
        if self._models_prefill:
            self._pace.learn(grant.isl - grant.cached_tokens, now - max(grant.granted_at, slot.last_prefill_at))
            slot.last_prefill_at = now
        slot.load.complete_prefill(grant.key, now)
        self.pool.weigh(slot)
        if self._shared.report is not None:
            self._shared.report(PrefillCompleted(self._shared.router_id, grant.key, self.model, self.prefill))
        return self.drain(now) if self.queue.pending else NOBODY

    def on_output(self, grant: Grant, generated: int) -> None:
        """The stream has this many output tokens. Counts only with `track_output_blocks`; replicas are not told."""
        if self.tracks_output and grant.booked and not grant.ended:
            grant.slot.load.grow(grant.key, generated)
            self.pool.weigh(grant.slot)

    def on_free(self, grant: Grant, now: float) -> Sequence[Ask]:
        """The stream has ended, in whatever way. Saying so again changes nothing."""
        if grant.ended:
            return NOBODY
        grant.ended = True
        slot = grant.slot
        if grant.counted:
            slot.streams -= 1
        if grant.booked:
            slot.load.free(grant.key, now)
            self.pool.weigh(slot)
        if grant.session:
            hints = grant.request.hints
            self.pool.sessions.end(hints.session_id, slot.holder, now)
            if hints.session_action == "close":
                self.pool.sessions.close(hints.session_id)
        if self._shared.report is not None and grant.counted:
            self._shared.report(BookingFreed(self._shared.router_id, grant.key, self.model, self.prefill))
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
        return slots, scores._replace(prefill_tokens=new)

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
        self._models_prefill = settings.prefill_load_model != "none"
        # Replicas may grow by settings of their own, but never tell; only what is modelled here changes by itself.
        self._changing = self.tracks_output or self._models_prefill

    def _read(self, request: RoutingRequest, now: float, watch: Stopwatch = NO_WATCH) -> Ask:
        weights = self._weights[request.role]
        if request.hints.overrides is not None:
            weights = overridden(weights, request.hints.overrides)
        isl = len(request.token_ids)
        prompt = Prompt(isl, isl // self.pool.block_size, (), NO_OVERLAPS, request.shared_blocks)
        ask = Ask(request, prompt, weights, now)
        self.prefixes.read(ask, self.pool.block_size, self.pool.lora, guess=self.pool.guesses, now=now, watch=watch)
        return ask

    def _uncached(self, ask: Ask, slots: Sequence[Slot]) -> int:
        """Prompt tokens that the slot with the most of them cached would still have to compute."""
        size = self.pool.block_size
        return ask.prompt.isl - max(
            (cached_tokens(slot.holder, ask.prompt, ask.weights, size) for slot in slots), default=0
        )

    def _settle(self, ask: Ask, now: float) -> bool:
        try:
            slots, excluded, reason = self.pool.narrow(ask.request, now)
            if all_full(slots, now):
                return False
            self.prefixes.read(ask, self.pool.block_size, self.pool.lora, guess=self.pool.guesses, now=now)
            ask.outcome = self._place(ask, slots, now, excluded, reason)
        except ApplianceError as error:
            self._record(ask.request, (), None, None, now, None, error.message, (), now - ask.arrived)
            ask.outcome = error
        return True

    def _place(self, ask: Ask, slots: Sequence[Slot], now: float, excluded: Excluded, reason: str) -> Grant:
        """Choose by cost and book."""
        weights, prompt, request = ask.weights, ask.prompt, ask.request
        scores = score(slots, prompt, weights, self.pool.block_size, now, changing=self._changing)
        costs = scores.costs
        if request.hints.preferred_taints:
            costs = prefer(costs, slots, request.hints.preferred_taints)
            scores = scores._replace(costs=costs)
        number = choose(costs, weights.temperature, self._shared.source) if len(slots) > 1 else 0
        reason = reason or ("lowest cost" if weights.temperature == 0 else "drawn by cost")
        return self._grant(request, slots, number, now, excluded, reason, ask, scores)

    def _grant(
        self,
        request: RoutingRequest,
        slots: Sequence[Slot],
        number: int,
        now: float,
        excluded: Excluded,
        reason: str,
        ask: Ask | None = None,
        scores: Scores | None = None,
    ) -> Grant:
        slot = slots[number]
        grant = Grant(request, slot, len(slots), self._shared.next_key(), now, len(request.token_ids))
        if ask is not None:
            self._take_prompt(grant, ask, now)
        hints = request.hints
        if ask is not None and (not hints.query_only if request.remember is None else request.remember):
            self.prefixes.record(slot, ask, now)
        if not hints.query_only:
            grant.counted = True
            slot.streams += 1
            self._shared.measures.requests[request.role] += 1
            if ask is not None:
                self._book(grant, ask, now)
            if hints.session_id:
                ttl = hints.session_ttl_s if hints.session_action != "close" else 0.0
                grant.session = self.pool.sessions.start(hints.session_id, slot.holder, ttl, now)
            if self._shared.report is not None:
                self._shared.report(self._booking_added(grant, ask))
        self._record(request, slots, scores, ask, now, slot, reason, excluded, grant.waited_s)
        return grant

    def _take_prompt(self, grant: Grant, ask: Ask, now: float) -> None:
        prompt, slot = ask.prompt, grant.slot
        grant.waited_s = now - ask.arrived
        grant.isl_blocks = prompt.blocks
        if prompt.overlaps.disk:
            grant.overlap_blocks = prompt.overlaps.device.get(slot.holder, 0)
            grant.cached_tokens = cached_tokens(slot.holder, prompt, ask.weights, self.pool.block_size)
        if prompt.blocks and not ask.request.hints.query_only:
            self._shared.measures.kv_hit_rate.observe(grant.overlap_blocks / prompt.blocks)

    def _book(self, grant: Grant, ask: Ask, now: float) -> None:
        prompt, weights, slot = ask.prompt, ask.weights, grant.slot
        expected = self._pace.expect(prompt.isl - grant.cached_tokens) if self._models_prefill else None
        slot.load.book(
            grant.key,
            prompt.isl,
            cached=grant.cached_tokens,
            hashes=prompt.hashes,
            unshared=_unshared(ask),
            track_prefill=weights.track_prefill_tokens,
            expected_output=ask.request.hints.expected_output_tokens,
            expected_s=expected,
            now=now,
        )
        grant.booked = grant.in_prefill = True
        self.pool.weigh(slot)

    def _booking_added(self, grant: Grant, ask: Ask | None) -> BookingAdded:
        slot, request = grant.slot, grant.request
        return BookingAdded(
            self._shared.router_id,
            grant.key,
            self.model,
            self.prefill,
            request.id,
            slot.worker,
            slot.rank,
            grant.isl,
            grant.cached_tokens,
            grant.booked,
            [] if ask is None else list(ask.prompt.hashes),
            0 if ask is None else _unshared(ask),
            ask is None or ask.weights.track_prefill_tokens,
            request.hints.expected_output_tokens,
        )

    def _record(
        self,
        request: RoutingRequest,
        slots: Sequence[Slot],
        scores: Scores | None,
        ask: Ask | None,
        now: float,
        chosen: Slot | None,
        reason: str,
        excluded: Excluded | tuple[()],
        waited_s: float,
    ) -> None:
        overlap = ask.prompt.overlaps.device if ask is not None else NO_OVERLAPS.device
        self._shared.decisions.add(
            len(slots) + len(excluded),
            request.id,
            self.model,
            request.role,
            now,
            self._mode_name,
            slots,
            scores,
            overlap,
            chosen,
            reason,
            excluded,
            waited_s,
            len(request.token_ids),
            tuple(request.avoid) if request.avoid else (),
        )


def _unshared(ask: Ask) -> int:
    """Blocks that count for the request alone, because nothing is assumed to be reused."""
    weights = ask.weights
    return ask.prompt.blocks if weights.track_active_blocks and not weights.assume_kv_reuse else 0
