"""The router role from start to stop."""

import logging
import secrets
import time
from dataclasses import dataclass, field, replace

import trio

from appliance.core.errors import InvalidRequest
from appliance.core.settings import LogSettings, RouterSettings
from appliance.events.router_events import read_router_event
from appliance.events.zmq_broadcast import broadcasting
from appliance.events.zmq_sockets import ZmqContext
from appliance.roles.indexer.listeners import listening
from appliance.roles.indexer.measures import Measures
from appliance.roles.indexer.peers import Peers, fetch_first
from appliance.roles.indexer.registry import ModelKey, Registry
from appliance.roles.launching import run_standalone
from appliance.roles.router.app import build_router_app
from appliance.roles.router.replica_sync import ReplicaSync
from appliance.roles.router.selection import Selector
from appliance.roles.router.subscriptions import Subscriptions
from appliance.roles.standalone import check_open, serve_until_stopped
from appliance.routing.weights import resolve
from appliance.web.guards import is_loopback

log = logging.getLogger(__name__)

SWEEP_S = 30.0


@dataclass(frozen=True, kw_only=True)
class RouterOptions:
    """One run of `router`."""

    host: str = "127.0.0.1"
    port: int = 8092
    settings: RouterSettings = field(default_factory=RouterSettings)
    indexer_peers: tuple[str, ...] = ()
    replica_sync_port: int | None = None
    """Where reservations are told to other routers; None: to nobody."""
    replica_sync_peers: tuple[str, ...] = ()
    insecure_no_auth: bool = False
    log: LogSettings = field(default_factory=LogSettings)
    debug: bool = False


def run_router(options: RouterOptions) -> int:
    """Serve until stopped; the exit code. Raises the `ApplianceError` that ended it."""
    check_open(options.host, options.insecure_no_auth)

    async def main() -> None:
        began = trio.current_time()
        async with listening() as listeners, trio.open_nursery() as nursery:
            selector = Selector(resolve(replace(options.settings, mode="kv")))
            await recover(selector, Peers(options.indexer_peers))
            replicas = ReplicaSync(selector, secrets.token_hex(8), time.monotonic)
            nursery.start_soon(_sweep, selector, replicas)
            if options.replica_sync_port is not None:
                await nursery.start(_sync, replicas, listeners.context, options)
            measures = Measures(Registry(listeners.start, listeners.close), listeners)
            subscriptions = Subscriptions(listeners)
            loopback = is_loopback(options.host)
            app = build_router_app(selector, subscriptions, replicas, measures, time.monotonic, loopback=loopback)
            await serve_until_stopped(app, options.host, options.port, "workers=0", began)
            nursery.cancel_scope.cancel()

    return run_standalone(main, options.log, role="router", debug=options.debug)


async def recover(selector: Selector, peers: Peers) -> None:
    """Begin with what the first indexer that answers knows."""
    for name, one in (await fetch_first(peers)).items():
        model, _, group_name = name.rpartition(":")
        group = selector.group_of(ModelKey(model, group_name), one.block_size)
        selector.groups[ModelKey(model, group_name)] = group
        for event in one.events:
            try:
                holder, change = read_router_event(event)
            except InvalidRequest as error:
                log.warning("a peer's event was left out: %s", error.message)
                continue
            group.prefixes.apply(holder, [change])


async def _sync(
    replicas: ReplicaSync,
    context: ZmqContext,
    options: RouterOptions,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    endpoint = f"tcp://{options.host}:{options.replica_sync_port}"
    async with broadcasting(context, endpoint, replicas.take) as replicas.broadcast:
        for peer in options.replica_sync_peers:
            replicas.broadcast.listen_to(peer)
        task_status.started()
        await replicas.keep_alive()


async def _sweep(selector: Selector, replicas: ReplicaSync) -> None:
    while True:
        await trio.sleep(SWEEP_S)
        ended = selector.expire(time.monotonic())
        for name in ended:
            replicas.freed(name)
        if ended:
            log.warning("reservations were never freed count=%s", len(ended))
