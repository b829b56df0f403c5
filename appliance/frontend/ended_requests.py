"""The last requests of a front end that have ended, with their timings; bounded, and never their text."""

import time
from collections import deque

import msgspec

from appliance.core.generation import PublicEndpoint
from appliance.core.identity import RequestId

KEPT = 200
TTFT_WINDOW_S = 30.0
"""How far back the times to the first token go that describe the load of now."""


class EndedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request after its end. Times are `time.perf_counter` seconds."""

    id: RequestId
    model: str
    endpoint: PublicEndpoint
    stream: bool
    started: float
    first_token: float | None
    ended: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    workers: tuple[str, ...]
    status: str
    """`success`, `cancelled`, or the kind of its error."""
    error: str
    """The error as the client was told it; empty for a success."""

    def row(self, now: float, wall: float) -> dict[str, object]:
        """Plain data. `now` and `wall` are one moment on both clocks; `started` becomes Unix time in seconds."""
        ttft = None if self.first_token is None else round(self.first_token - self.started, 4)
        return {
            "id": self.id,
            "model": self.model,
            "endpoint": self.endpoint,
            "stream": self.stream,
            "started": round(wall - (now - self.started), 3),
            "ttft_s": ttft,
            "duration_s": round(self.ended - self.started, 4),
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "workers": list(self.workers),
            "status": self.status,
            "error": self.error,
        }


class EndedRequests:
    """A ring of the last `KEPT` of them, and counts of all since the start."""

    def __init__(self) -> None:
        self._ring: deque[EndedRequest] = deque(maxlen=KEPT)
        self.count = 0
        self.failed = 0
        self.output_tokens = 0

    def add(self, one: EndedRequest) -> None:
        """A request has ended."""
        self._ring.append(one)
        self.count += 1
        self.failed += one.status not in ("success", "cancelled")
        self.output_tokens += one.output_tokens

    def rows(self) -> list[dict[str, object]]:
        """Newest first, as plain data."""
        now, wall = time.perf_counter(), time.time()
        return [one.row(now, wall) for one in reversed(self._ring)]

    def recent_ttfts(self) -> list[float]:
        """Seconds to the first token of what ended in the last `TTFT_WINDOW_S`."""
        oldest = time.perf_counter() - TTFT_WINDOW_S
        return [one.first_token - one.started for one in self._ring if one.first_token and one.ended >= oldest]
