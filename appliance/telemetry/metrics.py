"""Series as Prometheus text, in the order of the table of metrics."""

import re
from collections.abc import Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.telemetry.cells import MetricSpec, Series
from appliance.telemetry.metric_table import TABLE

__all__ = ["CONTENT_TYPE", "TABLE", "render"]

PREFIX = "dynamo_frontend"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BARE_COUNTERS = tuple(spec.name for spec in TABLE if spec.kind == "counter" and not spec.name.endswith("_total"))


class _Snapshot(Collector):
    """Hands merged series to prometheus_client's text renderer."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._by_name: dict[str, list[Series]] = {}
        for one in series:
            self._by_name.setdefault(one.name, []).append(one)

    def collect(self) -> Iterator[Metric]:
        for spec in TABLE:
            rows = self._by_name.get(spec.name)
            if rows:
                yield _family(spec, rows)


class _Registry:
    """The part of a prometheus_client registry that the renderer calls."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        return self._collector.collect()


def render(series: Iterable[Series], prefix: str = PREFIX) -> bytes:
    """Series as Prometheus text, in the order of the table; `prefix` takes the place of `dynamo_frontend`."""
    text = _restore_types(generate_latest(_Registry(_Snapshot(series))))
    if prefix == PREFIX:
        return text
    return re.sub(rb"^(# (?:HELP|TYPE) )?%b_" % PREFIX.encode(), rb"\g<1>%b_" % prefix.encode(), text, flags=re.M)


def _restore_types(text: bytes) -> bytes:
    for name in _BARE_COUNTERS:
        text = text.replace(f"# TYPE {name} gauge\n".encode(), f"# TYPE {name} counter\n".encode())
    return text


def _family(spec: MetricSpec, rows: list[Series]) -> Metric:
    if spec.kind == "histogram":
        histogram = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        for row in rows:
            histogram.add_metric(row.labels, _cumulative(spec, row.values), row.values[-1])
        return histogram
    # The renderer would add `_total` to the type line of a counter: `_restore_types` gives it its type back.
    counts = spec.kind == "counter" and spec.name.endswith("_total")
    family = (CounterMetricFamily if counts else GaugeMetricFamily)(spec.name, spec.help, labels=spec.labels)
    for row in rows:
        family.add_metric(row.labels, row.values[0])
    return family


def _cumulative(spec: MetricSpec, values: list[float]) -> list[tuple[str, float]]:
    total, out = 0.0, []
    for bound, count in zip([*map(str, map(float, spec.buckets)), "+Inf"], values[:-1], strict=True):
        total += count
        out.append((bound, total))
    return out
