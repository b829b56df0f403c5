"""What became of the cache events that reached a front end, under upstream's metric names."""

from collections.abc import Iterable

from appliance.core.kv_events import ClearedBlocks, KvEvent, RemovedBlocks, StoredBlocks
from appliance.routing.index_events import Outcome
from appliance.telemetry.cells import Cell, Metrics

APPLIED = "dynamo_component_kv_cache_events_applied"
WARNINGS = "dynamo_component_kv_cache_event_warnings"
KINDS: dict[type[KvEvent], str] = {StoredBlocks: "stored", RemovedBlocks: "removed", ClearedBlocks: "cleared"}


class FeedCounters:
    """Cells looked up once. Series without a count do not exist."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._applied: dict[tuple[type[KvEvent], Outcome], Cell] = {}

    def count(self, events: Iterable[KvEvent], outcomes: Iterable[Outcome]) -> None:
        """Count each event by its outcome; one that has none is not counted."""
        for event, outcome in zip(events, outcomes, strict=False):
            key = (type(event), outcome)
            cell = self._applied.get(key)
            if cell is None:
                cell = self._applied[key] = self._metrics.cell(APPLIED, KINDS[key[0]], outcome.value)
            cell.add()

    def cleared(self) -> None:
        """A rank's blocks were dropped as a whole."""
        self._metrics.cell(APPLIED, "cleared", Outcome.APPLIED.value).add()

    def warn(self, kind: str) -> None:
        """Something was not as it should be: `gap`, `stale`, `unknown_worker`, `unknown_rank`, `gave_up`."""
        self._metrics.cell(WARNINGS, kind).add()
