"""What a worker says of itself: its load to front ends, for the busy thresholds, and its counts to the supervisor."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from appliance.core.errors import ApplianceError
from appliance.core.ports import Engine, LoadSource, MetricsSource
from appliance.core.records import RankLoad
from appliance.core.requests import ModelCard
from appliance.events.local_indexer import LocalIndexer
from appliance.transport.worker_load import WorkerLoad

LOOK_S = 0.1
REPEAT_S = 2.0  # a front end that has just come knows nothing yet


async def report_loads(source: LoadSource, first_rank: int, publish: Callable[[list[RankLoad]], None]) -> None:
    """Publish the load whenever it has changed, for ever; while there is some, also now and then without a change."""
    told: list[RankLoad] | None = None
    told_at = 0.0
    while True:
        loads = [msgspec.structs.replace(one, rank=first_rank + one.rank) for one in source.loads()]
        now = trio.current_time()
        busy = any(one.decode_blocks or one.prefill_tokens for one in loads)
        if loads != told or (busy and now - told_at >= REPEAT_S):
            publish(loads)
            told, told_at = loads, now
        await trio.sleep(LOOK_S)


async def tell_engine_metrics(engine: MetricsSource, _: str) -> bytes | None:
    """What the engine measures of itself, as it writes it; None when it cannot be had now."""
    try:
        return await engine.read_metrics()
    except ApplianceError:
        return None


class WorkerCounts:
    """Plain data for the supervisor's metrics, made at each pull."""

    def __init__(self, engine: Engine, card: ModelCard, load: WorkerLoad, record: LocalIndexer, load_s: float) -> None:
        """`load_s`: how long the worker took to be able to serve."""
        self._engine, self._card, self._load, self._record, self._load_s = engine, card, load, record, load_s
        self._started = time.monotonic()

    def tell(self) -> dict[str, Any]:
        """Counts since the start, and the state of now."""
        load = self._load
        told: dict[str, Any] = {
            "requests": load.served,
            "inflight": load.open,
            "durations": [*load.durations.counts, load.durations.total],
            "cancelled": load.failed["cancelled"],
            "errors": {code: count for code, count in load.failed.items() if code != "cancelled"},
            "load_s": self._load_s,
            "uptime_s": time.monotonic() - self._started,
            "total_blocks": self._card.total_kv_blocks,
        }
        if isinstance(self._engine, LoadSource):
            told["active_blocks"] = sum(one.decode_blocks for one in self._engine.loads())
        if self._card.kv_events:
            told["events_dropped"] = self._record.dropped + self._record.unfounded
        return told
