"""Whether the workers of a model can answer requests between them. Pure."""

from collections.abc import Sequence

from appliance.core.records import WorkerRecord
from appliance.routing.eligibility import runs_whole


def can_generate(ready: Sequence[WorkerRecord], *, enforce_disagg: bool) -> bool:
    """Of the ready workers of one model: prefill workers alone never can, decode workers alone where that is allowed.

    A worker whose card is not known counts as one that does all of a request.
    """
    cards = [worker.card for worker in ready]
    if any(card is not None and card.role == "prefill" for card in cards):
        return any(card is None or card.role != "prefill" for card in cards)
    return any(card is None or runs_whole(card, enforce_disagg) for card in cards)
