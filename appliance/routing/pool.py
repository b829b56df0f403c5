"""The slots of one pool: who is there, who is busy, who may take a request."""

from collections.abc import Sequence

from appliance.core.generation import NO_HINTS, NO_PINS
from appliance.core.identity import WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import RouterSettings
from appliance.routing.asking import RoutingRequest
from appliance.routing.eligibility import Excluded, compatible, fitting_role, no_worker, not_busy
from appliance.routing.index_events import Holder
from appliance.routing.sessions import Sessions
from appliance.routing.slots import BusyThresholds, Slot

NONE_EXCLUDED: Excluded = []


class Pool:
    """Candidates of one model and kind. `slots` is replaced, never changed: whoever holds one keeps what was true."""

    def __init__(self, settings: RouterSettings) -> None:
        self.slots: tuple[Slot, ...] = ()
        self.block_size, self.lora = 16, ""
        self.guesses = False
        """Some slot says nothing of its cache."""
        self.needs_prefill = False
        """Some slot computes no prompts."""
        self._mixed = False
        self.sessions = Sessions()
        self._by_holder: dict[Holder, Slot] = {}
        self._busy = 0
        self.configure(settings)

    def find(self, worker: WorkerId, rank: int) -> Slot | None:
        """The slot of a worker's rank."""
        return self._by_holder.get(Holder(worker, rank))

    def configure(self, settings: RouterSettings) -> None:
        """Take new settings; thresholds that were set since the last ones go too."""
        self._events = settings.kv_events
        self._queue_threshold = settings.queue_threshold if settings.mode == "kv" else None
        for slot in self.slots:
            slot.says_events = self._events and slot.card.kv_events
        self.set_thresholds(
            BusyThresholds(
                decode_blocks=settings.active_decode_blocks_threshold,
                prefill_tokens=settings.active_prefill_tokens_threshold,
                prefill_tokens_frac=settings.active_prefill_tokens_threshold_frac,
            )
        )

    def set_thresholds(self, thresholds: BusyThresholds) -> None:
        """When slots count as busy."""
        self.thresholds = thresholds
        self._replace(self.slots)

    def add(self, worker: WorkerId, card: ModelCard) -> bool:
        """Slots for all ranks of a worker. False when it is there already and shows the same card."""
        present = [slot for slot in self.slots if slot.worker == worker]
        if present and present[0].card == card:
            return False
        others = tuple(slot for slot in self.slots if slot.worker != worker)
        if not others:
            self.block_size, self.lora = card.block_size, card.lora
        ranks = range(card.rank, card.rank + max(1, card.ranks))
        self._replace((*others, *(Slot(worker, rank, card, self._events and card.kv_events) for rank in ranks)))
        return True

    def remove(self, worker: WorkerId) -> bool:
        """Forget a worker's slots and sessions; streams that run there keep theirs. False when it was not there."""
        others = tuple(slot for slot in self.slots if slot.worker != worker)
        if len(others) == len(self.slots):
            return False
        self._replace(others)
        self.sessions.forget_worker(worker)
        return True

    def weigh(self, slot: Slot) -> None:
        """A slot's load has changed: is it busy now?"""
        load = slot.load
        over = load.decode_blocks > slot.block_limit or load.prefill_tokens > slot.prefill_limit or slot.says_busy
        if over != slot.busy:
            slot.busy = over
            if self._by_holder.get(slot.holder) is slot:
                self._busy += 1 if over else -1
                self._open_up()

    def narrow(self, request: RoutingRequest, now: float) -> tuple[Sequence[Slot], Excluded, str]:
        """The slots that may take a request, never none; those left out; and why, in a word.

        Raises `ModelNotReady`, `InvalidRequest`, `Overloaded`.
        """
        hints = request.hints
        plain = hints is NO_HINTS and request.pins is NO_PINS and not request.avoid and not request.spares_decode
        if plain and self._open:
            return self._everyone
        slots: Sequence[Slot] = self.slots
        if not slots:
            raise no_worker(request.model)
        by_role = self._mixed if request.role == "decode" else request.spares_decode or self.needs_prefill
        excluded: Excluded = []
        slots = compatible(slots, request, excluded)
        if by_role:
            slots = fitting_role(slots, request, excluded)
        reason = "" if request.pinned is None else "pinned"
        if hints.session_id and not reason:
            bound = self._bound(request, slots, now)
            if bound is not None:
                return [bound], excluded, "session"
        if self._busy:
            slots = not_busy(slots, request, excluded)
        return slots, excluded, reason

    def _bound(self, request: RoutingRequest, slots: Sequence[Slot], now: float) -> Slot | None:
        """The slot of the request's session, unless it has just failed the request, or is too busy."""
        session = request.hints.session_id
        holder = self.sessions.find(session, now)
        if holder is None:
            return None
        if holder.worker in request.avoid:
            self.sessions.forget(session)
            return None
        return next((slot for slot in slots if slot.holder == holder and not slot.busy), None)

    def _replace(self, slots: tuple[Slot, ...]) -> None:
        self.slots = slots
        self._everyone = slots, NONE_EXCLUDED, ""
        self.worker_count = len({slot.worker for slot in slots})
        self._by_holder = {slot.holder: slot for slot in slots}
        self.guesses = any(not slot.says_events for slot in slots)
        self.needs_prefill = any(slot.card.needs_prefill for slot in slots)
        self._mixed = len({slot.card.role for slot in slots}) > 1
        for slot in slots:
            slot.limit(self.thresholds, self._queue_threshold)
            slot.busy = False
        self._busy = 0
        for slot in slots:
            self.weigh(slot)
        self._open_up()

    def _open_up(self) -> None:
        """Work out whether a request without any wish may go to every slot, whatever its role."""
        self._open = bool(self.slots) and not (self._busy or self._mixed or self.needs_prefill)


def all_full(slots: Sequence[Slot], now: float) -> bool:
    """Every slot has more prompts to compute than requests may be added to."""
    for slot in slots:
        load = slot.load
        if load.prefill_tokens <= slot.queue_limit or load.prefill_at(now) <= slot.queue_limit:
            return False
    return True
