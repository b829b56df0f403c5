"""The front-end role: the public listener over links to workers; the supervisor tells it over the bus what exists."""

import gc
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial

import trio

from appliance.core.errors import UsageError
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent
from appliance.core.paths import control_socket_beside
from appliance.core.records import KeyRecord, RankLoad
from appliance.core.settings import HttpSettings, Settings
from appliance.events.index_feed import IndexFeed
from appliance.frontend.accounts import Accounts
from appliance.frontend.catalog import Catalog
from appliance.frontend.fleet import Fleet
from appliance.frontend.protocols.request_template import read_request_template
from appliance.frontend.routes import PublicRoutes
from appliance.frontend.service import GenerationService
from appliance.frontend.stages import PromptTimes
from appliance.frontend.token_service import TokenService
from appliance.frontend.tracing import RequestTracer
from appliance.roles.demand_reports import report_demand
from appliance.roles.frontend_measures import FrontendMeasures
from appliance.roles.frontend_recall import recall
from appliance.roles.launching import run_role
from appliance.roles.options import FrontendOptions
from appliance.roles.placement_sync import PlacementSync
from appliance.roles.request_records import RequestRecords
from appliance.roles.signals import watch_stop_signals
from appliance.routing.router import Router
from appliance.routing.slots import thresholds_by_model
from appliance.telemetry.cells import Metrics
from appliance.telemetry.event_loop import watch_event_loop
from appliance.telemetry.logs import set_log_level
from appliance.telemetry.metrics import TABLE
from appliance.transport.bus_client import BusClient, connect_bus
from appliance.transport.links import Links
from appliance.web.errors import render_error
from appliance.web.exchange import Exchange
from appliance.web.guards import AccessRules, KeyRing, hash_key, is_loopback
from appliance.web.listener import Listener
from appliance.web.proxy import UnixProxy
from appliance.web.sockets import adopt
from appliance.web.tls import renew_context, server_context
from appliance.wire.bus_messages import ChildHello, LastTotals, Picture, Ready, Stop

log = logging.getLogger(__name__)
access_log = logging.getLogger("appliance.access")

GC_THRESHOLDS = (20_000, 20, 50)
"""Container objects more than were freed before a look at the youngest, and looks per look at the older ones."""


def run_frontend(options: FrontendOptions) -> int:
    """Serve until stopped; the exit code."""
    settings = options.settings
    return run_role(_Frontend(options).run, options.child, settings.log, role="frontend", debug=options.debug)


class _Frontend:
    """One front-end process."""

    def __init__(self, options: FrontendOptions) -> None:
        if options.child.bus_socket is None:
            raise UsageError("a front end needs the supervisor's bus; start the appliance with `serve`")
        self._bus_socket = options.child.bus_socket
        self._id = options.child.worker_id or "frontend"
        self._fds = options.child.listen_fds
        self._settings = options.settings
        self._tls: ssl.SSLContext | None = None
        self._reloads = 0
        self._rules = AccessRules()
        self._metrics = Metrics(TABLE)
        self._accounts = Accounts(self._metrics)
        self._catalog = Catalog(PromptTimes(self._metrics))
        self._sync = PlacementSync()
        self._router = Router(
            options.settings.router, self._catalog.check_hope, router_id=self._id, report=self._sync.reporter.report
        )
        self._router.report_placements(False)  # until there is somebody to tell
        self._measures = FrontendMeasures(self._metrics, self._router, self._accounts, self._id)

    async def run(self) -> None:
        sockets = adopt(self._fds)
        async with connect_bus(self._bus_socket, ChildHello("frontend", self._id, 0)) as bus:
            bus.answer("metrics", self._measures.series)
            bus.answer("requests", self._accounts.snapshot)
            bus.answer("ended_requests", self._accounts.ended)
            bus.answer("load", self._accounts.load)
            async with trio.open_nursery() as nursery:
                # An orderly stop comes over the bus; a signal means that its time is over.
                cancel = nursery.cancel_scope.cancel
                await nursery.start(watch_stop_signals, cancel, cancel)
                nursery.start_soon(watch_event_loop, self._metrics)
                nursery.start_soon(self._sync.run, self._router, bus)
                await self._serve(bus, sockets, nursery)
                nursery.cancel_scope.cancel()

    async def _serve(self, bus: BusClient, sockets: list[socket.socket], nursery: trio.Nursery) -> None:
        first = await anext(aiter(bus))
        if not isinstance(first, Picture):
            return
        links = Links(
            nursery,
            on_lost=self._on_lost,
            on_draining=self._on_draining,
            on_kv_events=self._on_kv_events,
            on_load=self._on_load,
        )
        self._caches = IndexFeed(nursery, links, self._router, self._count_warning)
        self._fleet = Fleet(links, self._catalog, self._router, nursery, self._caches)
        self._apply(first)
        records = self._records = RequestRecords(self._settings, self._id, self._metrics)
        records.start(nursery)
        service = GenerationService(
            self._catalog, self._router, links, self._accounts, lambda: self._settings.requests, records.audit
        )
        bus.answer_about("why", partial(recall, service.client_ids, self._router, self._accounts))
        nursery.start_soon(service.run)
        nursery.start_soon(report_demand, bus, self._router, self._accounts)
        tokens = TokenService(self._catalog, self._router, lambda: self._settings.requests)
        http, paths, template_file = self._settings.http, self._settings.paths, self._settings.requests.template_file
        template = None if template_file is None else read_request_template(template_file)
        tls = self._tls = server_context(http.tls_cert_path, http.tls_key_path)
        proxy = UnixProxy(str(control_socket_beside(self._bus_socket)), secure=tls is not None)
        listener = Listener(
            sockets,
            PublicRoutes(service, tokens, self._catalog, http, paths, template),
            http,
            fallback=proxy,
            tls=tls,
            guard=lambda exchange: self._rules(exchange),
            render=partial(render_error, messages_path=paths.messages),
            on_request=None if records.tracer is None else records.tracer.begin,
            on_done=on_done(records.tracer, access_log=http.access_log),
        )
        await nursery.start(listener.run)
        spare_the_collector()
        await bus.send(Ready())
        await self._follow(bus, listener)

    async def _follow(self, bus: BusClient, listener: Listener) -> None:
        """Take in pictures until told to stop; without a supervisor there is nothing to go on for.

        While it drains it goes on doing so: held requests wait for workers that are still to come.
        """
        leaving = False
        async with trio.open_nursery() as nursery:
            async for message in bus:
                if isinstance(message, Picture):
                    self._apply(message)
                elif isinstance(message, Stop) and not leaving:
                    leaving = True
                    nursery.start_soon(self._leave, bus, listener, message, nursery.cancel_scope)
            nursery.cancel_scope.cancel()

    async def _leave(self, bus: BusClient, listener: Listener, stop: Stop, following: trio.CancelScope) -> None:
        await listener.drain(stop.drain_s, stop.idle_s)
        await self._records.flush()
        bus.post(LastTotals(self._measures.series()))
        following.cancel()

    def _apply(self, picture: Picture) -> None:
        self._settings = picture.settings
        self._router.configure(picture.settings.router)
        self._router.set_busy_thresholds(thresholds_by_model(picture.busy_thresholds))
        self._router.report_placements(picture.front_ends > 1)
        if picture.reloads != self._reloads:
            self._reloads = picture.reloads
            self._reload(picture.settings)
        self._rules = AccessRules(
            keys=key_ring(picture.keys, picture.settings.http),
            loopback=is_loopback(picture.settings.http.host),
            cors_origins=picture.settings.http.cors_origins,
            open_paths=frozenset((picture.settings.paths.health, picture.settings.paths.live)),
        )
        self._catalog.set_records(picture.models)
        self._caches.set_wanted(self._router.wants_kv_events)
        self._fleet.apply(picture.workers)

    def _reload(self, settings: Settings) -> None:
        """Take up what the supervisor has read anew; certificates are in files, which each front end reads."""
        set_log_level(settings.log.level)
        cert, key = settings.http.tls_cert_path, settings.http.tls_key_path
        if self._tls is not None and cert and key:
            try:
                renew_context(self._tls, cert, key)
            except UsageError as error:
                log.error("the old certificate stays in use: %s", error)

    def _on_lost(self, worker: WorkerId, reason: str) -> None:
        self._fleet.on_lost(worker, reason)

    def _on_load(self, worker: WorkerId, loads: list[RankLoad]) -> None:
        for one in loads:
            self._router.report_load(
                worker, one.rank, decode_blocks=one.decode_blocks, prefill_tokens=one.prefill_tokens
            )

    def _on_draining(self, worker: WorkerId) -> None:
        self._fleet.on_draining(worker)

    def _on_kv_events(self, worker: WorkerId, rank: int, first_id: int, events: list[KvEvent]) -> None:
        self._caches.on_kv_events(worker, rank, first_id, events)

    def _count_warning(self, kind: str) -> None:
        self._metrics.cell("dynamo_component_kv_cache_event_warnings", kind).add()


def key_ring(keys: Sequence[KeyRecord], http: HttpSettings) -> KeyRing:
    """The keys that open the port. One that others can reach stays shut when its last key is revoked."""
    hashes = [key.sha256 for key in keys]
    if not hashes and not is_loopback(http.host) and not http.insecure_no_auth:
        hashes = [hash_key(secrets.token_urlsafe())]  # nobody has this one
    return KeyRing(hashes)


def spare_the_collector() -> None:
    """Keep the garbage collector off what lives for ever, and let it look rarely: requests leave few cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def access_line(exchange: Exchange) -> str:
    """Client, method, path as it was sent, outcome, and the ids that the client gave; without line breaks in any."""
    request = exchange.request
    outcome = "broken off" if exchange.broken else exchange.status
    line = f"{request.peer} {request.method} {_shown(request.raw_path)} {outcome}"
    request_id, span = request.headers.get(b"x-request-id"), request.span
    if request_id is not None:
        line += f" x_request_id={_shown(request_id)}"
    if span is not None:
        line += f" trace_id={span.trace_id} span_id={span.span_id}"
        line += f" parent_id={span.parent_id}" if span.parent_id else ""
    return line


def _shown(text: bytes) -> str:
    return text.decode("ascii", "backslashreplace").replace(" ", "\\x20")


def on_done(tracer: RequestTracer | None, *, access_log: bool) -> Callable[[Exchange], None] | None:
    """What the listener calls for each answered request."""
    if tracer is None or not access_log:
        return log_access if access_log else None if tracer is None else tracer.end

    def log_and_end(exchange: Exchange) -> None:
        log_access(exchange)
        tracer.end(exchange)

    return log_and_end


def log_access(exchange: Exchange) -> None:
    """One line per answered request; never its text."""
    access_log.info(access_line(exchange))
