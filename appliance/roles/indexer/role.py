"""The indexer role from start to stop."""

from dataclasses import dataclass, field

import trio

from appliance.core.settings import LogSettings
from appliance.events.zmq_subscriber import Source
from appliance.roles.indexer.app import build_indexer_app
from appliance.roles.indexer.listeners import listening
from appliance.roles.indexer.measures import Measures
from appliance.roles.indexer.peers import Peers, recover
from appliance.roles.indexer.registry import ModelKey, Registry
from appliance.roles.launching import run_standalone
from appliance.roles.standalone import check_open, serve_until_stopped
from appliance.web.guards import is_loopback


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """One publisher to follow from the start."""

    instance_id: int
    rank: int
    endpoint: str


@dataclass(frozen=True, kw_only=True)
class IndexerOptions:
    """One run of `indexer`."""

    host: str = "127.0.0.1"
    port: int = 8090
    block_size: int
    """Tokens in a block, of the publishers named here and of what peers know."""
    model_name: str = "default"
    tenant_id: str = "default"
    publishers: tuple[Publisher, ...] = ()
    peers: tuple[str, ...] = ()
    insecure_no_auth: bool = False
    log: LogSettings = field(default_factory=LogSettings)
    debug: bool = False


def run_indexer(options: IndexerOptions) -> int:
    """Serve until stopped; the exit code. Raises the `ApplianceError` that ended it."""
    check_open(options.host, options.insecure_no_auth)

    async def main() -> None:
        began = trio.current_time()
        async with listening() as listeners:
            registry = Registry(listeners.start, listeners.close)
            peers = Peers(options.peers)
            await recover(registry, peers, options.block_size)
            register_all(registry, options)
            measures = Measures(registry, listeners)
            app = build_indexer_app(registry, peers, measures, loopback=is_loopback(options.host))
            facts = f"workers={len(options.publishers)}"
            await serve_until_stopped(app, options.host, options.port, facts, began)

    return run_standalone(main, options.log, role="indexer", debug=options.debug)


def register_all(registry: Registry, options: IndexerOptions) -> None:
    """Follow the publishers named on the command line. Raises `InvalidRequest` and `AlreadyRegistered`."""
    key = ModelKey(options.model_name, options.tenant_id)
    for one in options.publishers:
        source = Source(endpoint=one.endpoint)
        registry.register(key, one.instance_id, one.rank, source, options.block_size)
