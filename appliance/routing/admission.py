"""The queue of requests that wait while every slot has enough prompts to compute."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count

from appliance.core.errors import UsageError
from appliance.routing.asking import Ask

SPARE = 64  # entries of cancelled requests that may stay in the heap

Key = Callable[[float, float, int], float]
"""Seconds of priority, time of arrival, uncached prompt tokens; the highest key goes first."""

POLICIES: dict[str, Key] = {
    "fcfs": lambda jump, arrived, _tokens: jump - arrived,
    "lcfs": lambda jump, arrived, _tokens: jump + arrived,
    "wspt": lambda jump, _arrived, tokens: (1 + jump) / max(1, tokens),
}
"""First come, last come, and the shortest prompt by weight."""


class AdmissionQueue:
    """Waiting requests in the order of a policy. The key is fixed when a request joins; equal keys go by arrival."""

    def __init__(self, policy: str) -> None:
        """Raises `UsageError` for an unknown policy."""
        if policy not in POLICIES:
            raise UsageError(f"unknown queue policy {policy!r}; known: {', '.join(POLICIES)}")
        self._key = POLICIES[policy]
        self._heap: list[tuple[float, int, Ask]] = []
        self._number = count()
        self.pending = 0
        """Requests that wait."""
        self.pending_tokens = 0
        """Their prompts' tokens."""

    def push(self, ask: Ask, uncached_tokens: int) -> None:
        """Have a request wait."""
        key = self._key(ask.request.hints.priority_jump_s, ask.arrived, uncached_tokens)
        heappush(self._heap, (-key, next(self._number), ask))
        ask.waiting = True
        self.pending += 1
        self.pending_tokens += ask.prompt.isl

    def cancel(self, ask: Ask) -> None:
        """A request waits no longer. One that does not wait changes nothing."""
        if ask.waiting:
            ask.waiting = False
            self.pending -= 1
            self.pending_tokens -= ask.prompt.isl
            if len(self._heap) > 2 * self.pending + SPARE:
                self._heap = [entry for entry in self._heap if entry[2].waiting]
                heapify(self._heap)

    def waiting(self) -> list[Ask]:
        """Those that wait, in order."""
        return [ask for _, _, ask in sorted(self._heap) if ask.waiting]

    def drain(self, settle: Callable[[Ask], bool], is_full: Callable[[], bool]) -> list[Ask]:
        """Settle as many as possible, in order; those settled.

        `settle` says whether a request waits no longer. One that must go on waiting, because its own slots are busy,
        does not hold up those behind it. `is_full` is asked before each: nobody has a chance any more.
        """
        settled: list[Ask] = []
        kept: list[tuple[float, int, Ask]] = []
        while self._heap and not is_full():
            entry = heappop(self._heap)
            ask = entry[2]
            if not ask.waiting:
                continue
            if settle(ask):
                self.cancel(ask)
                settled.append(ask)
            else:
                kept.append(entry)
        for entry in kept:
            heappush(self._heap, entry)
        return settled
