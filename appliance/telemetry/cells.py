"""Counters, gauges and histograms for one trio thread: no locks, cells looked up once and kept by the caller.

The request path touches them per request, or per stream with a batch of values, never per token.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from appliance.telemetry.buckets import count_values

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One row of the metric table."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds in rising order, without +Inf."""
    merge: Literal["sum", "max"] = "sum"
    """What the values of several processes come to."""


class Cell:
    """One series of a counter or gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        self.value += amount

    def set(self, value: float) -> None:
        self.value = value


class HistogramCell:
    """One series of a histogram; the last count is of values above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Fold many values in at once."""
        self.total += count_values(self.bounds, self.counts, values)


class Series(msgspec.Struct, array_like=True):
    """The state of one series, as it crosses the bus: `values` is [value] or histogram counts followed by the sum."""

    name: str
    labels: tuple[str, ...]
    values: list[float]


class Metrics:
    """All series of one process."""

    def __init__(self, table: Iterable[MetricSpec]) -> None:
        self.table = {spec.name: spec for spec in table}
        self._cells: dict[tuple[str, tuple[str, ...]], Cell] = {}
        self._histograms: dict[tuple[str, tuple[str, ...]], HistogramCell] = {}

    def cell(self, name: str, *labels: str) -> Cell:
        """The counter or gauge series with these label values, made at first use."""
        key = (name, labels)
        found = self._cells.get(key)
        if found is None:
            self._check(name, labels)
            found = self._cells[key] = Cell()
        return found

    def histogram(self, name: str, *labels: str) -> HistogramCell:
        """The histogram series with these label values, made at first use."""
        key = (name, labels)
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = HistogramCell(self._check(name, labels).buckets)
        return found

    def forget(self, name: str, *labels: str) -> None:
        """Drop a series whose subject is gone."""
        self._cells.pop((name, labels), None)

    def series(self) -> list[Series]:
        """A snapshot of everything."""
        plain = [Series(name, labels, [cell.value]) for (name, labels), cell in self._cells.items()]
        shaped = [Series(name, labels, [*cell.counts, cell.total]) for (name, labels), cell in self._histograms.items()]
        return plain + shaped

    def _check(self, name: str, labels: tuple[str, ...]) -> MetricSpec:
        spec = self.table[name]
        if len(labels) != len(spec.labels):
            raise ValueError(f"{name} has labels {spec.labels}, got values {labels}")
        return spec


def merge_series(snapshots: Iterable[Iterable[Series]], largest: Collection[str] = ()) -> list[Series]:
    """Add up the series of several processes, gauges too; of the names in `largest` only the largest value counts."""
    sums: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for snapshot in snapshots:
        for one in snapshot:
            key = (one.name, tuple(one.labels))
            have = sums.get(key)
            if have is None:
                sums[key] = list(one.values)
            elif one.name in largest:
                sums[key] = max(have, list(one.values))
            else:
                sums[key] = [a + b for a, b in zip(have, one.values, strict=True)]
    return [Series(name, labels, values) for (name, labels), values in sums.items()]
