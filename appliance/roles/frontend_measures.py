"""All series of a front end, as the supervisor pulls them: what requests counted, and the router's state of now."""

import time

from appliance.core.identity import WorkerId, instance_number
from appliance.frontend.accounts import Accounts
from appliance.routing.measures import Histogram
from appliance.routing.router import Router
from appliance.telemetry.cells import Cell, Metrics, Series, merge_series
from appliance.telemetry.metric_table import CO, FE, OV, RO, RP

SHARED_WITH_ROUTER = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "input_sequence_tokens",
    "output_sequence_tokens",
    "kv_transfer_estimated_latency_seconds",
)
"""Histograms of the front end that are the router's too, all models together: every request passes it."""
PER_WORKER = (
    "active_decode_blocks",
    "active_prefill_tokens",
    "last_time_to_first_token_seconds",
    "last_inter_token_latency_seconds",
    "last_input_sequence_tokens",
)


class FrontendMeasures:
    """Joins them at each pull; between pulls it costs nothing."""

    def __init__(self, metrics: Metrics, router: Router, accounts: Accounts, front_end: str) -> None:
        self._metrics, self._router, self._accounts, self._id = metrics, router, accounts, front_end
        self._started = time.monotonic()
        namespace = front_end.partition("-")[0] or "dynamo"
        self._router_labels = namespace, "router", front_end, f"{instance_number(WorkerId(front_end)):x}"
        self._workers: set[tuple[str, str, str]] = set()
        self._stages = {("preprocess", ""), ("route", "aggregated"), ("dispatch", "aggregated")}

    def series(self) -> list[Series]:
        """A snapshot of everything."""
        self._accounts.tell_metrics()
        self._tell_workers()
        self._tell_queue()
        self._tell_stages()
        self._tell_events()
        self._metrics.cell(CO + "uptime_seconds", self._router_labels[-1]).set(time.monotonic() - self._started)
        self._metrics.cell(RO + "requests_total", *self._router_labels).set(self._placements())
        found = self._metrics.series()
        return found + self._router_series(found)

    def _placements(self) -> int:
        """Of streams that generate: the prefill half of a split one is no request of its own."""
        counts = self._router.measures.requests
        return counts["aggregated"] + counts["decode"]

    def _tell_workers(self) -> None:
        """The load of each worker's ranks, and what its last request was like. Those that are gone go here too."""
        present: set[tuple[str, str, str]] = set()
        for row in self._router.loads():
            labels = str(instance_number(row.worker)), str(row.rank), row.worker_type
            present.add(labels)
            mark = self._accounts.marks.get((row.worker, row.rank))
            values = [row.decode_blocks, row.prefill_tokens, *(() if mark is None else mark)]
            for name, value in zip(PER_WORKER, values, strict=False):
                self._metrics.cell(f"{FE}worker_{name}", *labels).set(value)
        for labels in self._workers - present:
            for name in PER_WORKER:
                self._metrics.forget(f"{FE}worker_{name}", *labels)
        self._workers = present
        kept = {(row.worker, row.rank) for row in self._router.loads()}
        for gone in self._accounts.marks.keys() - kept:
            del self._accounts.marks[gone]

    def _tell_queue(self) -> None:
        for worker_type, (requests, tokens) in self._router.queued().items():
            self._metrics.cell(FE + "router_queue_pending_requests", worker_type).set(requests)
            self._metrics.cell(FE + "router_queue_pending_isl_tokens", worker_type).set(tokens)

    def _tell_stages(self) -> None:
        counts = self._accounts.stages()
        self._stages |= counts.keys()
        for stage, phase in self._stages:
            self._metrics.cell(FE + "stage_requests", stage, phase).set(counts[stage, phase])
        with_workers = sum(row.streams for row in self._router.loads())
        self._metrics.cell(RP + "inflight_requests").set(with_workers)

    def _tell_events(self) -> None:
        for (kind, outcome), count in self._router.measures.events.items():
            self._cell("kv_cache_events_applied", kind, outcome).set(count)

    def _cell(self, name: str, *labels: str) -> Cell:
        return self._metrics.cell(CO + name, *labels)

    def _router_series(self, own: list[Series]) -> list[Series]:
        labels, measures = self._router_labels, self._router.measures
        wanted = {FE + name: RO + name for name in SHARED_WITH_ROUTER}
        found = merge_series([[Series(wanted[one.name], labels, one.values)] for one in own if one.name in wanted])
        overheads = {
            "block_hashing_ms": measures.block_hashing_ms,
            "seq_hashing_ms": measures.sequence_hashing_ms,
            "indexer_find_matches_ms": measures.find_matches_ms,
            "scheduling_ms": measures.scheduling_ms,
            "total_ms": measures.total_ms,
        }
        found += [_series(OV + name, (self._id,), histogram) for name, histogram in overheads.items()]
        return [*found, _series(RO + "kv_hit_rate", labels, measures.kv_hit_rate)]


def _series(name: str, labels: tuple[str, ...], histogram: Histogram) -> Series:
    return Series(name, labels, [*histogram.counts, histogram.sum])
