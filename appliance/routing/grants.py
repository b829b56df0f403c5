"""Places that are given and taken back: what a stream counts as load, its session, what replicas and records are told.

Pure, like the scheduler that chooses the places.
"""

from collections.abc import Sequence

from appliance.core.errors import ApplianceError
from appliance.core.generation import RoutingHints
from appliance.core.identity import ModelName
from appliance.routing.asking import Ask, Grant, RoutingRequest
from appliance.routing.cost import Scores, cached_tokens
from appliance.routing.eligibility import Excluded
from appliance.routing.overlap import NO_OVERLAPS
from appliance.routing.pool import Pool
from appliance.routing.prefill_pace import PrefillPace
from appliance.routing.prefixes import Prefixes
from appliance.routing.replica_sync import BookingAdded, BookingFreed, PrefillCompleted
from appliance.routing.shared import Shared
from appliance.routing.slots import Slot


class Grants:
    """The places of one pool. Each is to be given back by `free`."""

    def __init__(self, model: ModelName, prefill: bool, pool: Pool, prefixes: Prefixes, shared: Shared) -> None:
        """`prefill`: the pool of the model's prefill workers."""
        self._model, self._prefill = model, prefill
        self._pool, self._prefixes, self._shared = pool, prefixes, shared
        self._decisions, self._measures = shared.decisions, shared.measures
        self._pace = PrefillPace()
        self.configure()

    def configure(self) -> None:
        """Take in the shared settings, which have changed."""
        self._mode = self._shared.settings.mode
        self._tracks_output = self._shared.settings.track_output_blocks
        self._models_prefill = self._shared.settings.prefill_load_model != "none"

    def give(
        self, request: RoutingRequest, slots: Sequence[Slot], number: int, now: float, excluded: Excluded, reason: str
    ) -> Grant:
        """The place of that number for a stream that counts as such, whatever its prompt."""
        slot = slots[number]
        grant = Grant(request, slot, len(slots), self._shared.next_key(), now, len(request.token_ids))
        if not request.hints.query_only:
            grant.counted = True
            self._count(grant, None, now)
        self._decisions.add(request, now, self._mode, slots, None, NO_OVERLAPS.device, slot, reason, excluded, 0.0)
        return grant

    def give_prompt(
        self, ask: Ask, slots: Sequence[Slot], number: int, scores: Scores, now: float, excluded: Excluded, reason: str
    ) -> Grant:
        """The place of that number for a stream whose prompt was read: its tokens and blocks count."""
        request, prompt, slot = ask.request, ask.prompt, slots[number]
        device = prompt.overlaps.device
        overlap = cached = 0
        if prompt.overlaps.disk:
            overlap = device.get(slot.holder, 0)
            cached = cached_tokens(slot.holder, prompt, ask.weights, self._pool.block_size)
        waited_s = now - ask.arrived
        key = self._shared.next_key()
        counts = not request.hints.query_only
        grant = Grant(
            request,
            slot,
            len(slots),
            key,
            now,
            prompt.isl,
            prompt.blocks,
            overlap,
            cached,
            waited_s,
            counts,
            counts,
            counts,
        )
        if not slot.says_events and (counts if request.remember is None else request.remember):
            self._prefixes.record(slot, ask, now)
        if counts:
            if prompt.blocks:
                self._measures.kv_hit_rate.observe(overlap / prompt.blocks)
            self._book(grant, ask, now)
            self._count(grant, ask, now)
        self._decisions.add(request, now, self._mode, slots, scores, device, slot, reason, excluded, waited_s)
        return grant

    def refuse(self, request: RoutingRequest, error: ApplianceError, now: float, waited_s: float = 0.0) -> None:
        """Record that a stream gets no place, and why."""
        nobody = NO_OVERLAPS.device
        self._decisions.add(request, now, self._mode, (), None, nobody, None, error.message, (), waited_s)

    def complete_prefill(self, grant: Grant, now: float) -> None:
        """The first token of a stream that is in its prefill is there."""
        grant.in_prefill = False
        slot = grant.slot
        if self._models_prefill:
            self._pace.learn(grant.isl - grant.cached_tokens, now - max(grant.granted_at, slot.last_prefill_at))
            slot.last_prefill_at = now
        slot.load.complete_prefill(grant.key, now)
        if slot.busy:
            self._pool.weigh(slot)
        if self._shared.report is not None:
            self._shared.report(PrefillCompleted(self._shared.router_id, grant.key, self._model, self._prefill))

    def grow(self, grant: Grant, generated: int) -> None:
        """A stream has this many output tokens; counts only where output is tracked."""
        if self._tracks_output and grant.booked and not grant.ended:
            grant.slot.load.grow(grant.key, generated)
            self._pool.weigh(grant.slot)

    def free(self, grant: Grant, now: float) -> None:
        """A stream has ended. To be said once."""
        grant.ended = True
        slot = grant.slot
        if grant.counted:
            slot.streams -= 1
        if grant.booked:
            slot.load.free(grant.key, now)
            if slot.busy:
                self._pool.weigh(slot)
        if grant.session:
            self._end_session(grant, now)
        if grant.counted and self._shared.report is not None:
            self._shared.report(BookingFreed(self._shared.router_id, grant.key, self._model, self._prefill))

    def _book(self, grant: Grant, ask: Ask, now: float) -> None:
        prompt, slot = ask.prompt, grant.slot
        slot.load.book(
            grant.key,
            prompt.isl,
            grant.cached_tokens,
            prompt.hashes,
            0 if prompt.hashes else _unshared(ask),
            ask.weights.track_prefill_tokens,
            ask.request.hints.expected_output_tokens,
            self._pace.expect(prompt.isl - grant.cached_tokens) if self._models_prefill else None,
            now,
        )
        self._pool.weigh(slot)

    def _count(self, grant: Grant, ask: Ask | None, now: float) -> None:
        """Count a stream, bind its session, and tell replicas."""
        request = grant.request
        grant.slot.streams += 1
        self._measures.requests[request.role] += 1
        if request.hints.session_id:
            self._begin_session(grant, request.hints, now)
        if self._shared.report is not None:
            self._shared.report(self._booking_added(grant, ask))

    def _begin_session(self, grant: Grant, hints: RoutingHints, now: float) -> None:
        ttl = hints.session_ttl_s if hints.session_action != "close" else 0.0
        grant.session = self._pool.sessions.start(hints.session_id, grant.slot.holder, ttl, now)

    def _end_session(self, grant: Grant, now: float) -> None:
        hints = grant.request.hints
        self._pool.sessions.end(hints.session_id, grant.slot.holder, now)
        if hints.session_action == "close":
            self._pool.sessions.close(hints.session_id)

    def _booking_added(self, grant: Grant, ask: Ask | None) -> BookingAdded:
        slot, request = grant.slot, grant.request
        return BookingAdded(
            self._shared.router_id,
            grant.key,
            self._model,
            self._prefill,
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


def _unshared(ask: Ask) -> int:
    """Blocks that count for the request alone, because nothing is assumed to be reused."""
    weights = ask.weights
    return ask.prompt.blocks if weights.track_active_blocks and not weights.assume_kv_reuse else 0
