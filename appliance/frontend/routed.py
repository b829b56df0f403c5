"""What routing did for one request: where it went, what its worker had cached, and how long each part took."""

import time
from typing import Any

from appliance.core.identity import WorkerId, instance_number
from appliance.routing.router import Placement, Router
from appliance.telemetry.spans import Attribute, RequestTrace


class Routed:
    """Facts of one request, of its latest placement. Times are `time.perf_counter` seconds.

    Each request has one and learns half of it, so what is not known yet is said by the class, not set in each.
    """

    worker: WorkerId | None = None
    """Where its output is made."""
    rank: int = 0
    prefill: WorkerId | None = None
    """Where a split request's prompt is computed."""
    prefill_rank: int = 0
    kv_hit_rate: float | None = None
    """Cached blocks by blocks of the prompt where that is computed; None in modes that do not look at prompts."""
    queue_depth: int | None = None
    """Requests that waited when it came to the router; None in modes that never let one wait."""
    asked_at: float = 0.0
    _taken_at: float = 0.0
    placed_at: float | None = None
    """When its prompt first had a place."""
    prefilled_at: float | None = None
    """When the prompt of a split request was ready elsewhere."""
    route_s: float = 0.0
    """Time with the router, waiting included, over all placements."""
    send_s: float | None = None
    """Time to hand the request to the link of its worker."""
    sent_at: float | None = None
    stage: str = "preprocess"
    phase: str = ""
    trace: RequestTrace | None = None
    """Set while the spans of this request are recorded."""

    def ask(self, router: Router, role: str) -> None:
        """The router is asked for a place from now on."""
        self.stage, self.phase = "route", role
        self.asked_at = time.perf_counter()
        if self.queue_depth is None and router.settings.mode == "kv":
            self.queue_depth = router.queue_depth

    def take(self, placement: Placement, *, prefill: bool = False) -> None:
        """The router has answered."""
        self._taken_at = now = time.perf_counter()
        self.stage = "dispatch"
        self.route_s += now - self.asked_at
        if self.placed_at is None:
            self.placed_at = now
        if prefill:
            self.prefill, self.prefill_rank = placement.worker, placement.rank
        else:
            self.worker, self.rank = placement.worker, placement.rank
        if prefill or self.prefill is None:
            blocks = placement.isl_blocks
            self.kv_hit_rate = placement.overlap_blocks / blocks if blocks else None
        if self.trace is not None:
            self._record(self.trace, placement, prefill=prefill)

    def sent(self) -> None:
        """The request was handed to its worker's link, right after it had its place."""
        self.sent_at = now = time.perf_counter()
        self.send_s = now - self._taken_at

    def _record(self, trace: RequestTrace, placement: Placement, *, prefill: bool) -> None:
        attributes: dict[str, Attribute] = {
            "worker_id": placement.worker,
            "dp_rank": placement.rank,
            "isl_blocks": placement.isl_blocks,
            "overlap_blocks": placement.overlap_blocks,
        }
        if self.queue_depth is not None:
            attributes["queue_depth"] = self.queue_depth
        trace.add("prefill_routing" if prefill else "route", self.asked_at, self._taken_at, attributes)

    def worker_ids(self) -> dict[str, Any]:
        """`nvext.worker_id`: numbers as `/health` shows them; empty before there is a place."""
        if self.worker is None:
            return {}
        split = self.prefill is not None
        return {
            "prefill_worker_id": instance_number(self.prefill or self.worker),
            "prefill_dp_rank": self.prefill_rank if split else self.rank,
            "decode_worker_id": instance_number(self.worker),
            "decode_dp_rank": self.rank,
        }

    def timing(self, received_at: float, first_at: float | None) -> dict[str, Any]:
        """Members of `nvext.timing` that only mode `kv` knows; times in milliseconds."""
        if self.queue_depth is None or self.placed_at is None:
            return {}
        members: dict[str, Any] = {"prefill_wait_time_ms": round((self.placed_at - received_at) * 1e3, 3)}
        prefilled_at = self.prefilled_at or first_at
        if prefilled_at is not None:
            members["prefill_time_ms"] = round((prefilled_at - self.placed_at) * 1e3, 3)
        if self.kv_hit_rate is not None:
            members["kv_hit_rate"] = round(self.kv_hit_rate, 4)
        members["router_queue_depth"] = self.queue_depth
        return members
