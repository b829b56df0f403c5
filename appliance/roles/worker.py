"""The worker role: one engine behind a link server; with a supervisor it reports over the bus and obeys its Stop."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import trio

from appliance.core.config import environment
from appliance.core.errors import ApplianceError, ModelFileBad, ModelUnavailable, UsageError
from appliance.core.identity import WorkerId
from appliance.core.model_facts import EngineOptions
from appliance.core.paths import transfer_folder
from appliance.core.ports import AdapterHost, BackgroundEngine, Engine, KvEventSource, LoadSource, MetricsSource
from appliance.core.requests import ModelCard
from appliance.core.settings import DrainSettings
from appliance.discovery.socket_places import worker_of
from appliance.events.local_indexer import LocalIndexer
from appliance.preprocess.answer_parsing import check_parser_names
from appliance.roles.engine_choice import choose_engine, model_facts
from appliance.roles.hub_models import fetch_model, model_source
from appliance.roles.launching import run_role, run_standalone
from appliance.roles.model_names import default_served_name
from appliance.roles.options import WorkerOptions
from appliance.roles.signals import watch_stop_signals
from appliance.roles.trace_export import TraceExporter, WorkerSpans
from appliance.roles.worker_adapters import WorkerAdapters
from appliance.roles.worker_health import WorkerHealth
from appliance.roles.worker_reports import WorkerCounts, report_loads, tell_engine_metrics
from appliance.roles.worker_sleep import WorkerSleep
from appliance.transport.bus_client import BusClient, connect_bus
from appliance.transport.link_server import LinkServer
from appliance.transport.worker_link import OnEnded
from appliance.wire.bus_messages import (
    ADAPTERS,
    ENGINE_METRICS,
    LIFE,
    ChildHello,
    Progress,
    Ready,
    Sleep,
    StartFailed,
    Stop,
    Wake,
)
from appliance.wire.sockets import listen_unix

log = logging.getLogger(__name__)

FINAL = (ModelFileBad, ModelUnavailable, UsageError)
"""Errors that another start of the same worker would only repeat."""


def run_worker(options: WorkerOptions) -> int:
    """Serve until stopped; the exit code. Without a supervisor it raises the `ApplianceError` that ended it."""
    run = _Worker(options).run
    if options.child.bus_socket is None:
        return run_standalone(run, options.log, role="worker", debug=options.debug)
    return run_role(run, options.child, options.log, role="worker", debug=options.debug)


class _Worker:
    """One engine from load to drain."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._started = time.monotonic()
        self._stop = trio.Event()
        self._drain_s = options.drain.request_s
        self._bus: BusClient | None = None
        self._traces: TraceExporter | None = None
        self._sleep: WorkerSleep | None = None

    async def run(self) -> None:
        if self._options.child.bus_socket is None:
            with listen_unix(self._link_socket()):
                pass  # that it cannot listen there must not come out after minutes of loading
        async with self._on_the_bus(), trio.open_nursery() as nursery:
            await nursery.start(watch_stop_signals, self._stop.set, nursery.cancel_scope.cancel)
            nursery.start_soon(self._obey)
            try:
                await self._serve(nursery)
            except ApplianceError as error:
                await self._report_failure(error)
                raise
            nursery.cancel_scope.cancel()

    async def _serve(self, nursery: trio.Nursery) -> None:
        model = await self._local_model(nursery)
        if model is None:
            return
        engine = await self._make_engine(model)
        try:
            card = await engine.start(self._report_progress)
            if isinstance(engine, BackgroundEngine):
                await nursery.start(engine.run)
            worker = self._options.child.worker_id or worker_of(self._link_socket())
            server = await self._start_server(engine, card, WorkerId(worker), nursery)
            self._watch_health(WorkerHealth(engine, card, server.load, self._options.supervision), nursery)
            if self._bus is not None:
                self._sleep = WorkerSleep(engine, server, self._bus.post)
                nursery.start_soon(self._sleep.run)
            await self._report_ready(card)
            await self._stop.wait()  # no deadline: a worker serves until it is told to stop
            await server.drain(self._drain_s)
            if self._traces is not None:
                await self._traces.flush()
        finally:
            with trio.move_on_after(DrainSettings().term_s, shield=True):  # shield: the model's memory must be freed
                await engine.close()

    async def _start_server(
        self, engine: Engine, card: ModelCard, worker: WorkerId, nursery: trio.Nursery
    ) -> LinkServer:
        """Serve the engine, with what it says of its cache on record before the first stream."""
        record = LocalIndexer(range(card.rank, card.rank + card.ranks))
        server = LinkServer(
            engine,
            card,
            self._link_socket(),
            worker=worker,
            kv_log=record if card.kv_events else None,
            on_ended=self._trace_streams(worker, nursery),
        )
        if card.kv_events and isinstance(engine, KvEventSource):
            nursery.start_soon(record.run, server.publish_kv_events)
            engine.publish_kv_events(record.take)
        if isinstance(engine, LoadSource):
            nursery.start_soon(report_loads, engine, card.rank, server.publish_loads)
        if self._bus is not None:
            load_s = time.monotonic() - self._started
            self._bus.answer("metrics", WorkerCounts(engine, card, server.load, record, load_s).tell)
            if isinstance(engine, AdapterHost):
                self._bus.answer_later(ADAPTERS, nursery, WorkerAdapters(engine).obey)
            if isinstance(engine, MetricsSource):
                self._bus.answer_later(ENGINE_METRICS, nursery, partial(tell_engine_metrics, engine))
        await nursery.start(server.run)
        return server

    def _trace_streams(self, worker: WorkerId, nursery: trio.Nursery) -> OnEnded | None:
        """What makes spans of streams; None: they are not recorded."""
        if not self._options.trace.enabled:
            return None
        self._traces = TraceExporter(self._options.trace, role="worker", instance=worker)
        nursery.start_soon(self._traces.run)
        return WorkerSpans(worker, self._traces.add)

    async def _local_model(self, nursery: trio.Nursery) -> str | None:
        """Where the model lies, after it was pulled if need be; None when a stop came first."""
        options = self._options
        if options.models is None or "url" in options.engine_args:  # who runs the server has the model
            return options.model
        source = model_source(options.hub, options.models, environment())
        with trio.CancelScope() as pulling:
            nursery.start_soon(self._cancel_on_stop, pulling)
            return await fetch_model(options.engine, options.model, source, self._report_progress, log.info)
        return None

    async def _cancel_on_stop(self, scope: trio.CancelScope) -> None:
        await self._stop.wait()  # no deadline: it ends with the worker
        scope.cancel()

    async def _make_engine(self, model: str) -> Engine:
        options = self._options
        check_parser_names(options.tool_call_parser, options.reasoning_parser)
        facts = await trio.to_thread.run_sync(model_facts, options.engine, model)
        return choose_engine(
            options.engine,
            facts,
            EngineOptions(
                served_name=options.served_model_name or default_served_name(options.model),
                context_length=options.context_length,
                task=options.task,
                args=options.engine_args,
                transfer_dir=None if options.child.link_socket is None else transfer_folder(options.child.link_socket),
                tool_call_parser=options.tool_call_parser,
                reasoning_parser=options.reasoning_parser,
            ),
            state_dir=None if options.models is None else options.models.parent,
        )

    def _watch_health(self, health: WorkerHealth, nursery: trio.Nursery) -> None:
        if self._bus is not None:
            self._bus.answer(LIFE, lambda: msgspec.structs.asdict(health.sign()))
        nursery.start_soon(health.run)

    def _link_socket(self) -> Path:
        if self._options.child.link_socket is None:
            raise UsageError("a worker needs the socket to serve on: --link-socket PATH")
        return self._options.child.link_socket

    @asynccontextmanager
    async def _on_the_bus(self) -> AsyncIterator[None]:
        child = self._options.child
        if child.bus_socket is None:
            yield
            return
        async with connect_bus(child.bus_socket, ChildHello("worker", child.worker_id or "", 0)) as self._bus:
            yield

    async def _obey(self) -> None:
        """Stop when the supervisor says so, or is gone; sleep and wake in between."""
        if self._bus is None:
            return
        async for message in self._bus:
            if isinstance(message, Stop):
                self._drain_s = message.drain_s
                self._stop.set()
            elif isinstance(message, Sleep | Wake) and self._sleep is not None:
                self._sleep.order(message)
        self._stop.set()

    async def _report_ready(self, card: ModelCard) -> None:
        log.info("worker is ready model=%s engine=%s", card.name, card.engine)
        if self._bus is not None:
            await self._bus.send(Ready(card))
        else:
            took_s = time.monotonic() - self._started
            print(f"ready: unix:{self._link_socket()} models={card.name} took={took_s:.2f}s", flush=True)

    def _report_progress(self, fraction: float, text: str) -> None:
        if self._bus is not None:
            self._bus.post(Progress(fraction, text))

    async def _report_failure(self, error: ApplianceError) -> None:
        if self._bus is not None:
            await self._bus.send(StartFailed(error.code, error.message, isinstance(error, FINAL)))
