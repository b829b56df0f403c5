"""What a role does that a user or a pod starts by itself: its own HTTP port, the ready line, signals."""

from functools import partial
from typing import Any

import trio

from appliance.core.errors import UsageError
from appliance.roles.signals import watch_stop_signals
from appliance.web.guards import is_loopback
from appliance.web.hypercorn_serving import serve_asgi
from appliance.web.sockets import bind_public


def check_open(host: str, insecure: bool) -> None:
    """Raise `UsageError` for an address that others can reach, unless the user wants that: these ports have no keys."""
    if not insecure and not is_loopback(host):
        raise UsageError(
            f"cannot listen on {host}: this port has no API keys, and whoever reaches it may do everything; "
            "pass --insecure-no-auth if only trusted programs can"
        )


async def serve_until_stopped(app: Any, host: str, port: int, facts: str, began: float) -> None:
    """Serve an ASGI app until SIGTERM or SIGINT; a second signal ends it at once.

    Prints `ready: http://HOST:PORT FACTS took=...` when it accepts; `began` is the role's start on trio's clock.
    Raises what `bind_public` does.
    """
    sockets = bind_public(host, port)
    address = f"[{host}]" if ":" in host else host
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_stop_signals, stop.set, nursery.cancel_scope.cancel)
        async with trio.open_nursery() as serving:
            await serving.start(partial(serve_asgi, app, bind=sockets, stop=stop))
            took = trio.current_time() - began
            print(f"ready: http://{address}:{sockets[0].getsockname()[1]} {facts} took={took:.2f}s", flush=True)
        nursery.cancel_scope.cancel()
