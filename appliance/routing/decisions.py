"""The last routing decisions with all that was weighed, for `why`. Written for every request, so kept raw till read."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.core.identity import ModelName, RequestId, WorkerId
from appliance.routing.asking import RoutingRequest
from appliance.routing.cost import Scores
from appliance.routing.eligibility import Excluded
from appliance.routing.overlap import Scores as Overlap
from appliance.routing.slots import Slot
from appliance.routing.weights import Role

MAX_DECISIONS = 1000
MAX_ROWS = 32_000  # of candidates over all decisions, so that hundreds of workers do not fill the memory


@dataclass(frozen=True, slots=True)
class Decision:
    """One request's placement, or why it had none."""

    request: RequestId
    model: ModelName
    role: Role
    at: float
    """By the router's clock."""
    mode: str
    candidates: Sequence[Slot]
    scores: Scores | None
    """None: the mode looks at counts of streams only."""
    overlap: Overlap
    chosen: Slot | None
    reason: str
    excluded: Excluded | tuple[()] = ()
    waited_s: float = 0.0
    prompt_tokens: int = 0
    """0 when the prompt is not tokenized here. Behind a move it holds the output so far too."""
    lost: Collection[WorkerId] = ()
    """Workers that had failed the request before."""

    def rows(self) -> list[dict[str, Any]]:
        """The candidates, each with the parts of its cost, then those that were left out, with the reason."""
        found: list[dict[str, Any]] = []
        for number, slot in enumerate(self.candidates):
            row = {**_name(slot), "chosen": slot is self.chosen}
            if self.scores is not None:
                row["overlap_blocks"] = self.overlap.get(slot.holder, 0)
                row["prefill_tokens"] = self.scores.prefill_tokens[number]
                row["decode_blocks"] = self.scores.decode_blocks[number]
                row["cost"] = round(self.scores.costs[number], 3)
            found.append(row)
        return found + [{**_name(slot), "chosen": False, "excluded": why} for slot, why in self.excluded]

    def plain(self, wall_offset_s: float = 0.0) -> dict[str, Any]:
        """The decision as plain data; `wall_offset_s` turns the router's clock into seconds since 1970."""
        return {
            "request": self.request,
            "model": self.model,
            "role": self.role,
            "time": self.at + wall_offset_s,
            "mode": self.mode,
            "worker": None if self.chosen is None else self.chosen.worker,
            "rank": None if self.chosen is None else self.chosen.rank,
            "reason": self.reason,
            "queue_wait_s": round(self.waited_s, 6),
            "prompt_tokens": self.prompt_tokens,
            "moved_from": list(self.lost),
            "candidates": self.rows(),
        }


class Decisions:
    """A bounded ring of decisions."""

    def __init__(self, max_decisions: int = MAX_DECISIONS, max_rows: int = MAX_ROWS) -> None:
        self._ring: deque[tuple[Any, ...]] = deque()
        """The rows of each, and the members of a `Decision` in order."""
        self._max_decisions, self._max_rows = max_decisions, max_rows
        self._rows = 0

    def add(
        self,
        request: RoutingRequest,
        at: float,
        mode: str,
        slots: Sequence[Slot],
        scores: Scores | None,
        overlap: Overlap,
        chosen: Slot | None,
        reason: str,
        excluded: Excluded | tuple[()],
        waited_s: float,
    ) -> None:
        """Keep the members of a `Decision`."""
        ring = self._ring
        rows = len(slots) + len(excluded)
        ring.append(
            (
                rows,
                request.id,
                request.model,
                request.role,
                at,
                mode,
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
        )
        self._rows += rows
        while len(ring) > self._max_decisions or (self._rows > self._max_rows and len(ring) > 1):
            self._rows -= ring.popleft()[0]

    def find(self, request: str) -> list[Decision]:
        """Decisions on a request, oldest first: one per stream and attempt."""
        return [Decision(*members) for _, *members in self._ring if members[0] == request]

    def __iter__(self) -> Iterator[Decision]:
        """All of them, newest first."""
        return (Decision(*members) for _, *members in reversed(self._ring))

    def __len__(self) -> int:
        return len(self._ring)


def _name(slot: Slot) -> dict[str, Any]:
    return {"worker": slot.worker, "rank": slot.rank, "instance": slot.number}
