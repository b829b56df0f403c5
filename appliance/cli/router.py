"""`router`: the choice of a worker as a service of its own."""

from typing import Any

import click

from appliance.cli.router_flags import ROUTER_SETTINGS
from appliance.cli.setting_flags import setting_flags, setting_values
from appliance.cli.verb import Call, Verb

ELSEWHERE = {"router.mode", "router.queue_threshold", "router.queue_policy", "router.min_initial_workers"}
"""Settings of a router that places requests itself; here the caller sends them."""
UNUSED = (
    ELSEWHERE
    | {"router.replica_sync", "router.enforce_disagg", "router.session_affinity_ttl_s"}
    | {key for key in ROUTER_SETTINGS.values() if key.startswith("router.conditional_disagg")}
)
SETTINGS = {
    flag: key
    for flag, key in ROUTER_SETTINGS.items()
    if key not in UNUSED and key != "router.prefill_load_model" and not key.startswith("router.shared_cache")
}


@click.command(cls=Verb)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to bind.")
@click.option("--port", type=click.IntRange(0, 65535), default=8092, show_default=True, help="Port; 0 takes any.")
@click.option("--indexer-peers", default="", metavar="URL,...", help="Indexers; the first that answers is copied.")
@click.option("--replica-sync-port", type=click.IntRange(1, 65535), help="Tell reservations to other routers here.")
@click.option("--replica-sync-peers", default="", metavar="ENDPOINT,...", help="Routers to listen to, tcp://HOST:PORT.")
@click.option("--threads", type=click.IntRange(min=1), default=4, help="Accepted, without effect.")
@click.option("--insecure-no-auth", is_flag=True, help="Serve an address that others can reach; there are no keys.")
@setting_flags(SETTINGS)
@click.pass_context
def router(ctx: click.Context, /, **flags: Any) -> int:
    """Choose workers for prompts by cache and load, for programs that send the requests themselves.

    Workers come by POST /workers. Prints one line when ready.
    """
    from appliance.roles.router.role import RouterOptions, run_router

    call: Call = ctx.obj
    settings = call.settings(flags=setting_values(SETTINGS, flags)).settings
    return run_router(
        RouterOptions(
            host=flags["host"],
            port=flags["port"],
            settings=settings.router,
            indexer_peers=tuple(url for url in flags["indexer_peers"].split(",") if url),
            replica_sync_port=flags["replica_sync_port"],
            replica_sync_peers=tuple(peer for peer in flags["replica_sync_peers"].split(",") if peer),
            insecure_no_auth=flags["insecure_no_auth"],
            log=settings.log,
            debug=call.debug,
        )
    )
