"""Drives one rank in virtual time: requests arrive at given times, passes follow each other without any waiting."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from appliance.simulation.passes import PassResult
from appliance.simulation.scheduler import Scheduler
from appliance.simulation.sequence import RunningSequence, SimulatedRequest


@dataclass
class RequestTrace:
    """What became of one request; times are milliseconds since the start of the run."""

    arrival_ms: float
    token_times_ms: list[float] = field(default_factory=list)
    reused_tokens: int = 0
    """Most prompt tokens that an admission found in the cache."""
    preemptions: int = 0

    @property
    def ttft_ms(self) -> float:
        """From arrival to the first token."""
        return self.token_times_ms[0] - self.arrival_ms

    @property
    def gaps_ms(self) -> list[float]:
        """From each token to the next one."""
        return [after - before for before, after in pairwise(self.token_times_ms)]


def run_virtually(
    scheduler: Scheduler, arrivals: Sequence[tuple[float, SimulatedRequest]]
) -> tuple[list[RequestTrace], list[PassResult]]:
    """Run requests, given in the order of their arrival, to their end: one trace per request, and every pass.

    Raises `InvalidRequest` for a request that the engine refuses.
    """
    traces = [RequestTrace(at) for at, _ in arrivals]
    by_sequence: dict[RunningSequence, RequestTrace] = {}
    passes: list[PassResult] = []
    now, arrived = 0.0, 0
    while arrived < len(arrivals) or not scheduler.is_idle:
        while arrived < len(arrivals) and arrivals[arrived][0] <= now:
            by_sequence[scheduler.submit(arrivals[arrived][1])] = traces[arrived]
            arrived += 1
        done = scheduler.step(now)
        now += done.duration_ms
        _note(done, now, by_sequence)
        passes.append(done)
        if not done.did_something:
            times = [done.wake_ms, arrivals[arrived][0] if arrived < len(arrivals) else None]
            known = [time for time in times if time is not None]
            if not known:
                break
            now = max(now, min(known))
    return traces, passes


def _note(done: PassResult, now: float, by_sequence: dict[RunningSequence, RequestTrace]) -> None:
    for sequence, reused in done.admitted:
        trace = by_sequence[sequence]
        trace.reused_tokens = max(trace.reused_tokens, reused)
    for sequence in done.emitted:
        by_sequence[sequence].token_times_ms.append(now)
    for sequence in done.preempted:
        by_sequence[sequence].preemptions += 1
