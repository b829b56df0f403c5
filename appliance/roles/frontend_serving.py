"""What serves in every front end: the public listener, and links to the workers behind it.

It is told what exists as whole pictures, and does not know by whom: a supervisor over the bus, or a look at sockets.
"""

import gc
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from appliance.core.errors import UsageError
from appliance.core.identity import WorkerId
from appliance.core.kv_events import KvEvent
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
from appliance.roles.access_log import on_done
from appliance.roles.frontend_measures import FrontendMeasures
from appliance.roles.request_records import RequestRecords
from appliance.routing.replica_sync import Report
from appliance.routing.router import Router
from appliance.routing.slots import thresholds_by_model
from appliance.telemetry.cells import Metrics
from appliance.telemetry.event_loop import watch_event_loop
from appliance.telemetry.logs import set_log_level
from appliance.telemetry.metrics import TABLE
from appliance.transport.links import Links
from appliance.web.errors import render_error
from appliance.web.guards import AccessRules, KeyRing, hash_key, is_loopback
from appliance.web.listener import Listener
from appliance.web.proxy import UnixProxy
from appliance.web.tls import renew_context, server_context
from appliance.wire.bus_messages import Picture

log = logging.getLogger(__name__)

GC_THRESHOLDS = (20_000, 20, 50)
"""Container objects more than were freed before a look at the youngest, and looks per look at the older ones."""


class FrontEnd:
    """The serving part of one front-end process: `open`, then `apply` with each picture, `listen`, at last `drain`.

    It raises what settings and files deserve (`UsageError`) in `open` and `listen`. Its tasks run in the nursery that
    `open` gets, and end with it.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        report: Report | None = None,
        on_lost: Callable[[WorkerId], None] = lambda _: None,
        on_draining: Callable[[WorkerId], None] = lambda _: None,
    ) -> None:
        """`report` takes placements for other front ends. `on_lost` and `on_draining` hear what links say of workers,
        after the streams and the router did.
        """
        self.name, self.settings = name, settings
        self._on_lost_worker, self._on_draining_worker = on_lost, on_draining
        self._tls: ssl.SSLContext | None = None
        self._reloads = 0
        self._rules = AccessRules()
        self._metrics = Metrics(TABLE)
        self.accounts = Accounts(self._metrics)
        self._catalog = Catalog(PromptTimes(self._metrics))
        self.router = Router(settings.router, self._catalog.check_hope, router_id=name, report=report)
        self.router.report_placements(False)  # until there is somebody to tell
        self.measures = FrontendMeasures(self._metrics, self.router, self.accounts, name)

    def open(self, nursery: trio.Nursery, first: Picture) -> None:
        """Begin to link the workers of the first picture, in the nursery."""
        nursery.start_soon(watch_event_loop, self._metrics)
        links = Links(
            nursery,
            on_lost=self._on_lost,
            on_draining=self._on_draining,
            on_kv_events=self._on_kv_events,
            on_load=self._on_load,
        )
        self._caches = IndexFeed(nursery, links, self.router, self._count_warning)
        self._fleet = Fleet(links, self._catalog, self.router, nursery, self._caches)
        self.apply(first)
        self._records = RequestRecords(self.settings, self.name, self._metrics)
        self._records.start(nursery)
        self.service = GenerationService(
            self._catalog, self.router, links, self.accounts, lambda: self.settings.requests, self._records.audit
        )
        nursery.start_soon(self.service.run)

    async def listen(self, nursery: trio.Nursery, sockets: Sequence[socket.socket], control_socket: Path) -> None:
        """Serve the sockets, and return when they accept; what is no hot route goes to the app at `control_socket`."""
        http, paths, template_file = self.settings.http, self.settings.paths, self.settings.requests.template_file
        template = None if template_file is None else read_request_template(template_file)
        tls = self._tls = server_context(http.tls_cert_path, http.tls_key_path)
        tokens = TokenService(self._catalog, self.router, lambda: self.settings.requests)
        tracer = self._records.tracer
        self._listener = Listener(
            sockets,
            PublicRoutes(self.service, tokens, self._catalog, http, paths, template),
            http,
            fallback=UnixProxy(str(control_socket), secure=tls is not None),
            tls=tls,
            guard=lambda exchange: self._rules(exchange),
            render=partial(render_error, messages_path=paths.messages),
            on_request=None if tracer is None else tracer.begin,
            on_done=on_done(tracer, access_log=http.access_log),
        )
        await nursery.start(self._listener.run)
        spare_the_collector()

    def placeable(self) -> set[WorkerId]:
        """Workers that requests can be placed on now: linked, their model learnt, not draining."""
        return {row.worker for row in self.router.loads()}

    async def drain(self, drain_s: float, idle_s: float = 0.0) -> None:
        """Take no more, finish what runs within `drain_s`, write down what is left of it. See `Listener.drain`.

        Pictures may go on coming: held requests wait for workers that are still to come.
        """
        await self._listener.drain(drain_s, idle_s)
        await self._records.flush()

    def apply(self, picture: Picture) -> None:
        """Make it so: settings, keys, models, workers."""
        self.settings = picture.settings
        self.router.configure(picture.settings.router)
        self.router.set_busy_thresholds(thresholds_by_model(picture.busy_thresholds))
        self.router.report_placements(picture.front_ends > 1)
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
        self._caches.set_wanted(self.router.wants_kv_events)
        self._fleet.apply(picture.workers)

    def _reload(self, settings: Settings) -> None:
        """Take up what was read anew; certificates are in files, which each front end reads."""
        set_log_level(settings.log.level)
        cert, key = settings.http.tls_cert_path, settings.http.tls_key_path
        if self._tls is not None and cert and key:
            try:
                renew_context(self._tls, cert, key)
            except UsageError as error:
                log.error("the old certificate stays in use: %s", error)

    def _on_lost(self, worker: WorkerId, reason: str) -> None:
        self._fleet.on_lost(worker, reason)
        self._on_lost_worker(worker)

    def _on_load(self, worker: WorkerId, loads: list[RankLoad]) -> None:
        for one in loads:
            self.router.report_load(
                worker, one.rank, decode_blocks=one.decode_blocks, prefill_tokens=one.prefill_tokens
            )

    def _on_draining(self, worker: WorkerId) -> None:
        self._fleet.on_draining(worker)
        self._on_draining_worker(worker)

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
