"""What a front end writes down of single requests, as its settings say: spans for a collector, the audit log."""

import logging
import sys
from pathlib import Path

import trio

from appliance.core.settings import AuditSettings, Settings, TraceSettings
from appliance.frontend.audit import AuditLog, Sink
from appliance.frontend.audit_file import RollingFile
from appliance.frontend.tracing import RequestTracer
from appliance.roles.trace_export import TraceExporter
from appliance.telemetry.cells import Metrics
from appliance.telemetry.sampling import Sampler

log = logging.getLogger(__name__)

AUDIT_RECORDS = "appliance_audit_records_total"


class RequestRecords:
    """Both, each only where it is wanted. `start` begins, `flush` ends it."""

    def __init__(self, settings: Settings, front_end: str, metrics: Metrics) -> None:
        self.tracer: RequestTracer | None = None
        self.audit: AuditLog | None = None
        self._exporter: TraceExporter | None = None
        self._metrics = metrics
        if settings.trace.enabled:
            self._begin_traces(settings.trace, front_end)
        if settings.audit.sinks:
            self._begin_audit(settings.audit)

    def start(self, nursery: trio.Nursery) -> None:
        """Run what there is in the nursery."""
        if self._exporter is not None:
            nursery.start_soon(self._exporter.run)
        if self.audit is not None:
            nursery.start_soon(self.audit.run)

    async def flush(self) -> None:
        """Write and send what is left; takes seconds at most."""
        if self.audit is not None:
            await self.audit.flush()
        if self._exporter is not None:
            await self._exporter.flush()

    def _begin_traces(self, settings: TraceSettings, front_end: str) -> None:
        self._exporter = TraceExporter(settings, role="frontend", instance=front_end, metrics=self._metrics)
        self.tracer = RequestTracer(Sampler(settings.sampler, settings.sampler_arg), self._exporter.add)

    def _begin_audit(self, settings: AuditSettings) -> None:
        sinks: list[Sink] = []
        if "jsonl" in settings.sinks and settings.output_path is not None:
            file = RollingFile(Path(settings.output_path), roll_bytes=settings.roll_bytes, kept=settings.kept_files)
            sinks.append(file.append)
        if "stderr" in settings.sinks:
            sinks.append(write_stderr)
        self.audit = AuditLog(sinks, capacity=settings.capacity, force=settings.force_logging, count=self._count_audit)
        which = "all chat requests" if settings.force_logging else "chat requests with store: true"
        log.info("the audit log keeps the text of %s: %s", which, settings.output_path or "stderr")

    def _count_audit(self, fate: str, count: int) -> None:
        self._metrics.cell(AUDIT_RECORDS, fate).add(count)


def write_stderr(line: bytes) -> None:
    """One line on stderr."""
    sys.stderr.write(line.decode())
    sys.stderr.flush()
