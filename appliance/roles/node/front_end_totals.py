"""The metrics of all front ends, with what those that have ended had counted: totals do not fall at a restart."""

from collections.abc import Iterable
from typing import Any

import msgspec

from appliance.telemetry.cells import Series, merge_series
from appliance.telemetry.metric_table import GROWING, LARGEST, TABLE
from appliance.transport.bus_server import BusServer

PULL_S = 2.0  # a scrape must not wait for a busy front end

_OWN = frozenset(spec.name for spec in TABLE if "router_id" in spec.labels)
"""Series that each front end has for itself: they end with it."""


class FrontEndTotals:
    """Pulls the metrics of the front ends. Of one that was killed, what it counted after the last pull is lost."""

    def __init__(self) -> None:
        self._last: dict[str, list[Series]] = {}
        """As last seen, by id."""
        self._ended: list[Series] = []
        """Sums of counters and histograms of front ends that are gone."""
        self._gone: set[str] = set()

    async def pull(self, bus: BusServer) -> list[Series]:
        """The sums over all front ends, now and before; one that does not answer counts as when it last did."""
        for front_end, answer in (await bus.pull_all("frontend", "metrics", PULL_S)).items():
            self.note(front_end, answer)
        return self.sums()

    def note(self, front_end: str, data: Any) -> None:
        """Take the metrics of a front end, as it sent them. What comes after its end is late, and counted already."""
        if front_end not in self._gone:
            self._last[front_end] = msgspec.convert(data, list[Series])

    def on_end(self, front_end: str) -> None:
        """A front end has ended, or has said its last; ids are never used again."""
        self._gone.add(front_end)
        self._ended = merge_series([self._ended, _totals(self._last.pop(front_end, ()))])

    def sums(self) -> list[Series]:
        """The sums as last seen."""
        return merge_series([self._ended, *self._last.values()], LARGEST)


def _totals(series: Iterable[Series]) -> list[Series]:
    return [one for one in series if one.name in GROWING - _OWN]
