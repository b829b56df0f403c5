"""The load of the last quarter of an hour as a series of samples, for the console's sparklines. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

SAMPLE_S = 2.0
KEPT_S = 15 * 60
COUNTERS = ("requests", "failed", "output_tokens")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What all front ends did up to one moment since the moment before it."""

    at: float
    """Unix time in seconds."""
    requests_per_s: float
    failed_per_s: float
    output_tokens_per_s: float
    active: int
    waiting: int
    ttft_p50_s: float | None
    """Median time to the first token of what ended lately; None when nothing did."""


class LoadHistory:
    """Samples made of what front ends report; a front end's counts may start again from zero."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=int(KEPT_S / SAMPLE_S))
        self._before: dict[str, Mapping[str, Any]] = {}
        self._before_at = 0.0

    def add(self, at: float, clock: float, loads: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the loads by front end. `at`: Unix time; `clock`: seconds of a clock that only goes forward."""
        span = max(clock - self._before_at, 1e-3)
        rates = {name: self._gain(name, loads) / span if self._before_at else 0.0 for name in COUNTERS}
        ttfts = [seconds for load in loads.values() for seconds in load["ttfts_s"]]
        self._samples.append(
            Sample(
                at=round(at, 3),
                requests_per_s=round(rates["requests"], 3),
                failed_per_s=round(rates["failed"], 3),
                output_tokens_per_s=round(rates["output_tokens"], 2),
                active=sum(load["active"] for load in loads.values()),
                waiting=sum(load["waiting"] for load in loads.values()),
                ttft_p50_s=round(median(ttfts), 4) if ttfts else None,
            )
        )
        self._before, self._before_at = dict(loads), clock

    def since(self, at: float) -> list[dict[str, Any]]:
        """The samples after a moment, oldest first, as plain data."""
        return [asdict(sample) for sample in self._samples if sample.at > at]

    def _gain(self, name: str, loads: Mapping[str, Mapping[str, Any]]) -> float:
        """How much a counter has grown over those front ends that were there before too."""
        return sum(self._grown(name, self._before.get(front_end), load) for front_end, load in loads.items())

    @staticmethod
    def _grown(name: str, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> float:
        if before is None:
            return 0.0
        return max(0.0, float(now[name] - before[name]))
