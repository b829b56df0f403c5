"""Which slots a request may go to: allow-list, pins, rank, taints, what it avoids, and what is too busy."""

from collections.abc import Sequence

from appliance.core.errors import InvalidRequest, ModelNotReady, Overloaded
from appliance.core.requests import ModelCard
from appliance.routing.asking import RoutingRequest
from appliance.routing.slots import Slot

OVERLOAD_RETRY_S = 1
NO_WORKER_RETRY_S = 1
Excluded = list[tuple[Slot, str]]
"""Slots that were left out, and why."""


def no_worker(model: str) -> ModelNotReady:
    """The error for a model without any slot."""
    return ModelNotReady(f"model {model!r} has no ready worker", retry_after_s=NO_WORKER_RETRY_S)


def compatible(slots: Sequence[Slot], request: RoutingRequest, excluded: Excluded) -> Sequence[Slot]:
    """The slots that can serve a request at all, never none; the others are added to `excluded`.

    Raises `InvalidRequest` for a pin that names no worker, `ModelNotReady` when no worker has what is required.
    """
    hints, pinned = request.hints, request.pinned
    if hints.allowed_workers is not None:
        slots = _keep(slots, [slot.number in hints.allowed_workers for slot in slots], "not allowed", excluded)
        if not slots:
            raise ModelNotReady(f"model {request.model!r} has no ready worker among those that the request allows")
    if pinned is not None:
        known = sorted({slot.number for slot in slots})
        slots = _keep(slots, [slot.number == pinned for slot in slots], "another worker is pinned", excluded)
        if not slots:
            raise InvalidRequest(
                f"model {request.model!r} has no worker instance {pinned}; instances here: {', '.join(map(str, known))}"
            )
    rank = request.pinned_rank
    if rank is not None and any(slot.rank == rank for slot in slots):
        slots = _keep(slots, [slot.rank == rank for slot in slots], "another rank is pinned", excluded)
    if hints.required_taints:
        wanted = set(hints.required_taints)
        slots = _keep(slots, [wanted <= set(slot.card.taints) for slot in slots], "lacks a required taint", excluded)
        if not slots:
            raise ModelNotReady(f"no ready worker of model {request.model!r} has {', '.join(sorted(wanted))}")
    if request.avoid and pinned is None:
        fresh = [slot.worker not in request.avoid for slot in slots]
        if any(fresh):
            slots = _keep(slots, fresh, "failed this request", excluded)
    return slots


def fitting_role(slots: Sequence[Slot], request: RoutingRequest, excluded: Excluded) -> Sequence[Slot]:
    """Those of compatible slots that are made for the request's role: never none, the others go to `excluded`.

    The second half of a split request goes to decode workers where there are any. Raises `ModelNotReady` when a whole
    request finds only workers that must not, or cannot, compute its prompt.
    """
    if request.role == "decode":
        halves = [slot.card.role == "decode" for slot in slots]
        return _keep(slots, halves, "runs whole requests", excluded) if any(halves) else slots
    able = [runs_whole(slot.card, request.spares_decode) for slot in slots]
    slots = _keep(slots, able, "runs no whole requests", excluded)
    if not slots:
        raise ModelNotReady(
            f"model {request.model!r} has no ready prefill worker, without which its decode workers serve nothing",
            retry_after_s=NO_WORKER_RETRY_S,
        )
    return slots


def runs_whole(card: ModelCard, spares_decode: bool) -> bool:
    """Whether a worker of this card, no prefill worker, may do all of a request. `spares_decode`: no decode worker."""
    return card.role != "decode" or not (spares_decode or card.needs_prefill)


def not_busy(slots: Sequence[Slot], request: RoutingRequest, excluded: Excluded) -> Sequence[Slot]:
    """Those of compatible slots that are not too busy. Raises `Overloaded` when all are: a pin is never moved."""
    free = _keep(slots, [not slot.busy for slot in slots], "busy", excluded)
    if free:
        return free
    if request.pinned is not None:
        text = f"worker instance {request.pinned} of model {request.model!r} is overloaded"
    else:
        text = f"every worker of model {request.model!r} is overloaded"
    raise Overloaded(f"{text}; try again later", retry_after_s=OVERLOAD_RETRY_S)


def _keep(slots: Sequence[Slot], flags: Sequence[bool], reason: str, excluded: Excluded) -> Sequence[Slot]:
    if all(flags):
        return slots
    excluded.extend((slot, reason) for slot, kept in zip(slots, flags, strict=True) if not kept)
    return [slot for slot, kept in zip(slots, flags, strict=True) if kept]
