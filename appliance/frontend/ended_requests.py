"""The last requests of a front end that have ended, with their timings; bounded, and never their text."""

import time
from collections import deque

from appliance.frontend.account import Account

KEPT = 200
TTFT_WINDOW_S = 30.0
"""How far back the times to the first token go that describe the load of now."""


class EndedRequests:
    """A ring of the last `KEPT` of them, and counts of all since the start."""

    def __init__(self) -> None:
        self._ring: deque[Account] = deque(maxlen=KEPT)
        self.count = 0
        self.failed = 0
        self.output_tokens = 0

    def add(self, *ended: Account) -> None:
        """Requests have ended, in this order."""
        self._ring.extend(ended)
        self.count += len(ended)
        self.failed += sum([one.status not in ("success", "cancelled") for one in ended])
        self.output_tokens += sum([one.output_tokens for one in ended])

    def rows(self) -> list[dict[str, object]]:
        """Newest first, as plain data."""
        now, wall = time.perf_counter(), time.time()
        return [row(one, now, wall) for one in reversed(self._ring)]

    def recent_ttfts(self) -> list[float]:
        """Seconds to the first token of what ended in the last `TTFT_WINDOW_S`."""
        oldest = time.perf_counter() - TTFT_WINDOW_S
        return [one.first_token - one.started for one in self._ring if one.first_token and one.ended >= oldest]


def row(one: Account, now: float, wall: float) -> dict[str, object]:
    """Plain data. `now` and `wall` are one moment on both clocks; `started` becomes Unix time in seconds."""
    return {
        "id": one.id,
        "model": one.model,
        "endpoint": one.endpoint,
        "stream": one.stream,
        "started": round(wall - (now - one.started), 3),
        "ttft_s": None if one.first_token is None else round(one.first_token - one.started, 4),
        "duration_s": round(one.ended - one.started, 4),
        "prompt_tokens": one.prompt_tokens,
        "output_tokens": one.output_tokens,
        "cached_tokens": one.cached_tokens,
        "workers": list(one.workers),
        "status": one.status,
        "error": one.complaint,
    }
