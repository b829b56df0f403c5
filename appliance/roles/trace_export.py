"""Sends spans to a collector of OpenTelemetry, beside the work that they are about.

A collector that is slow, down or wrong costs a bounded queue of spans, two log lines, and never a request.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from appliance import __version__
from appliance.core.collector import GRPC_PORT, HTTP_PORT, parse_collector
from appliance.core.errors import ApplianceError
from appliance.core.requests import EngineRequest, EngineUsage
from appliance.core.settings import TraceSettings
from appliance.engines.http.address import ServerAddress
from appliance.engines.http.client import HttpClient
from appliance.telemetry.cells import Metrics
from appliance.telemetry.otlp import export_request
from appliance.telemetry.spans import Attribute, FinishedSpan, SpanClock, SpanQueue
from appliance.telemetry.trace import continue_trace

log = logging.getLogger(__name__)

BATCH_SPANS = 512
RETRYABLE = frozenset((429, 500, 502, 503, 504))
"""Statuses after which the same batch is sent again. OTLP leaves out 500, with which collectors say the same as 503."""
TRACE_SPANS = "appliance_trace_spans_total"


@dataclass(frozen=True, kw_only=True)
class ExportPace:
    """How patient an exporter is; all in seconds."""

    gather_s: float = 1.0
    """From the first span of a batch to its export."""
    answer_s: float = 10.0
    first_retry_s: float = 1.0
    """Doubled after each failure in a row."""
    longest_retry_s: float = 30.0
    flush_s: float = 2.0
    """Longest wait for the collector at the end of a process."""


class _Refused(Exception):
    """The collector does not want this batch."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class TraceExporter:
    """The queue of a process's spans, and the task that empties it. One `run` per exporter."""

    def __init__(
        self,
        settings: TraceSettings,
        *,
        role: str,
        instance: str,
        metrics: Metrics | None = None,
        pace: ExportPace | None = None,
    ) -> None:
        """`role` and `instance` say which process recorded the spans; `metrics` counts them where there are any."""
        collector = parse_collector(settings.endpoint)
        self._client = HttpClient(ServerAddress(scheme=collector.scheme, host=collector.host, port=collector.port))
        self._path, self._port, self._url = collector.path, collector.port, settings.endpoint
        self._resource: dict[str, Attribute] = {
            "service.name": settings.service_name,
            "service.version": __version__,
            "service.instance.id": instance,
            "appliance.role": role,
        }
        self._pace = pace or ExportPace()
        self._wake = trio.Event()
        self._queue = SpanQueue(settings.queue_spans, lambda: self._wake.set())
        self._metrics = metrics
        self._running = trio.CancelScope()
        self._exporting = trio.Lock()
        self._failing = self._said_slow = False
        self._told = 0  # drops that were counted
        self._lost = 0  # spans that were given up since the last log line

    def add(self, span: FinishedSpan) -> None:
        """Take a span. Never waits and never fails: without room it is dropped."""
        self._queue.add(span)

    async def run(self) -> None:
        """Export until `flush`. Cancelling leaves what was not exported in the queue."""
        with self._running:
            while True:
                await self._wake.wait()  # no deadline: nothing to send
                await trio.sleep(self._pace.gather_s)
                await self._export_all()
                self._wake = trio.Event()

    async def flush(self) -> None:
        """End `run`, and send what is left: one try within `flush_s`, also while being cancelled."""
        self._running.cancel()
        with trio.move_on_after(self._pace.flush_s, shield=True):  # shield: the last spans are those of the stop itself
            while len(self._queue) and await self._export():
                pass
        self._count_drops()
        if left := len(self._queue):
            self._give_up(left)
        with trio.move_on_after(self._pace.flush_s, shield=True):  # shield: sockets must be closed
            await self._client.close()

    async def _export_all(self) -> None:
        retry_s = self._pace.first_retry_s
        while len(self._queue):
            if await self._export():
                retry_s = self._pace.first_retry_s
            else:
                await trio.sleep(retry_s)
                retry_s = min(retry_s * 2, self._pace.longest_retry_s)

    async def _export(self) -> bool:
        """Send the oldest spans. False: they stay, for another try."""
        async with self._exporting:  # a flush must not send, and discard, what is just being sent
            return await self._export_oldest()

    async def _export_oldest(self) -> bool:
        batch = self._queue.peek(BATCH_SPANS)
        try:
            await self._post(batch)
        except _Refused as refusal:
            self._fail(f"it answers {refusal.status}")
            if refusal.status in RETRYABLE:
                return False
            self._give_up(len(batch))
            return True
        except ApplianceError as error:
            self._fail(error.message)
            return False
        self._queue.discard(len(batch))
        self._count("exported", len(batch))
        self._recover()
        return True

    async def _post(self, batch: list[FinishedSpan]) -> None:
        body = export_request(self._resource, __version__, batch)
        answer = await self._client.request("POST", self._path, body, deadline_s=self._pace.answer_s)
        if not answer.ok:
            raise _Refused(answer.status)

    def _give_up(self, count: int) -> None:
        self._queue.discard(count)
        self._lost += count
        self._count("dropped", count)

    def _fail(self, reason: str) -> None:
        self._count_drops()
        if not self._failing:
            self._failing = True
            hint = f"; OTLP over HTTP is at port {HTTP_PORT}, not {GRPC_PORT}" if self._port == GRPC_PORT else ""
            log.warning("cannot send traces to %s: %s%s", self._url, reason, hint)

    def _recover(self) -> None:
        self._count_drops()
        if self._failing:
            log.info("traces are sent again; %d spans were lost meanwhile", self._lost)
            self._failing, self._lost = False, 0
        elif self._lost and not self._said_slow:
            self._said_slow = True
            log.warning("spans are dropped: requests give more than %s takes", self._url)

    def _count_drops(self) -> None:
        fresh, self._told = self._queue.dropped - self._told, self._queue.dropped
        self._lost += fresh
        if fresh:
            self._count("dropped", fresh)

    def _count(self, fate: str, count: int) -> None:
        if self._metrics is not None:
            self._metrics.cell(TRACE_SPANS, fate).add(count)


class WorkerSpans:
    """Makes the span of each traced stream of a worker; see `transport.worker_link.OnEnded`."""

    def __init__(self, worker: str, keep: Callable[[FinishedSpan], None]) -> None:
        self._worker, self._keep = worker, keep

    def __call__(self, request: EngineRequest, started: float, usage: EngineUsage | None, outcome: str) -> None:
        """A stream has ended."""
        span = continue_trace(request.traceparent.encode()) if request.traceparent else None
        if span is None or not span.sampled:
            return
        ended = time.perf_counter()
        clock = SpanClock(ended, time.time_ns())
        attributes: dict[str, Attribute] = {
            "request_id": request.id,
            "model": request.model,
            "worker_id": self._worker,
            "status": outcome or "success",
        }
        if request.kv_transfer is not None:
            attributes["phase"] = request.kv_transfer.phase
        if usage is not None:
            attributes |= {
                "input_tokens": usage.prompt_tokens,
                "output_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
            }
        self._keep(
            FinishedSpan(
                name="handle_payload",
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_id=span.parent_id,
                start_ns=clock.unix_ns(started),
                end_ns=clock.unix_ns(ended),
                failed=bool(outcome),
                attributes=attributes,
            )
        )
