"""The front-end role without a supervisor: it finds its workers by their sockets, and hosts its own control app."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from appliance.core.errors import InternalError, UsageError
from appliance.core.identity import WorkerId
from appliance.core.requests import ModelCard
from appliance.core.settings import HttpSettings
from appliance.discovery.roster import Roster
from appliance.discovery.socket_places import worker_of
from appliance.discovery.worker_sockets import WorkerSockets
from appliance.frontend.control.public_app import build_public_app
from appliance.roles.frontend_serving import FrontEnd
from appliance.roles.frontend_standalone_view import StandaloneView
from appliance.roles.key_file import read_key_file
from appliance.roles.launching import run_standalone
from appliance.roles.options import FrontendOptions
from appliance.roles.signals import watch_stop_signals
from appliance.transport.links import open_links
from appliance.web.guards import is_loopback
from appliance.web.hypercorn_serving import serve_asgi
from appliance.web.sockets import bind_public, bind_unix, close_all

log = logging.getLogger(__name__)

NAME = "dynamo-frontend-0"
"""As front ends of a supervisor are named; metrics carry it."""
FIRST_LINKS_S = 5.0  # a large tokenizer takes a second or two; what takes longer may come later
LINKS_LOOK_S = 0.02


def run_standalone_frontend(options: FrontendOptions) -> int:
    """Serve until stopped; the exit code. Raises the `ApplianceError` that ended it."""
    front_end = _StandaloneFrontEnd(options)
    return run_standalone(front_end.run, options.settings.log, role="frontend", debug=options.debug)


class _StandaloneFrontEnd:
    """One front end and what tells it of workers."""

    def __init__(self, options: FrontendOptions) -> None:
        if options.workers is None:
            raise InternalError("a front end by itself needs a place to look for workers")
        settings = self._settings = options.settings
        self._warnings = options.warnings
        keys = read_key_file(settings.http.api_key_file)
        check_reachable(settings.http, has_keys=bool(keys))
        roster = Roster(keep_s=settings.requests.hold_s, enforce_disagg=settings.router.enforce_disagg)
        self._workers = WorkerSockets(options.workers, roster, read_card)
        self._front_end = FrontEnd(NAME, settings, on_lost=self._workers.lose, on_draining=self._workers.drain)
        self._view = StandaloneView(self._front_end, roster, keys, settings)

    async def run(self) -> None:
        began = trio.current_time()
        for warning in self._warnings:
            log.warning(warning)
        stop = trio.Event()
        http = self._settings.http
        with TemporaryDirectory(prefix="dynamo-") as folder, public_sockets(http) as sockets:
            async with trio.open_nursery() as nursery:
                await nursery.start(watch_stop_signals, stop.set, nursery.cancel_scope.cancel)
                self._front_end.open(nursery, self._view.picture())
                await nursery.start(partial(self._workers.run, self._view.take))
                await self._await_links()
                control = Path(folder) / "control.sock"
                app = build_public_app(self._view, self._settings.paths)
                await nursery.start(partial(serve_asgi, app, bind=[bind_unix(control)]))
                await self._front_end.listen(nursery, sockets, control)
                print(self._ready_line(sockets, trio.current_time() - began), flush=True)
                await stop.wait()  # no deadline: it serves until it is told to stop
                self._view.draining = True
                await self._front_end.drain(self._settings.drain.request_s)
                nursery.cancel_scope.cancel()

    async def _await_links(self) -> None:
        """Let the workers of the first look be linked, so that whoever reads the ready line can name any of them."""
        with trio.move_on_after(FIRST_LINKS_S):
            while not self._view.has_all_linked():  # noqa: ASYNC110  links have no event for it
                await trio.sleep(LINKS_LOOK_S)

    def _ready_line(self, sockets: list[socket.socket], took_s: float) -> str:
        http = self._settings.http
        scheme = "https" if http.tls_cert_path else "http"
        host = f"[{http.host}]" if ":" in http.host else http.host
        models = ",".join(one.name for one in self._view.models() if one.phase == "ready")
        return f"ready: {scheme}://{host}:{sockets[0].getsockname()[1]}/v1 models={models} took={took_s:.2f}s"


async def read_card(path: Path) -> ModelCard:
    """The card of the worker behind a socket, over a link of its own. Raises `WorkerLost`, `WorkerTimeout`."""
    async with open_links() as links:
        return await links.connect(WorkerId(worker_of(path)), str(path))


@contextmanager
def public_sockets(http: HttpSettings) -> Iterator[list[socket.socket]]:
    """The bound sockets of the port, closed at the end. Raises what `bind_public` does."""
    sockets = bind_public(http.host, http.port)
    try:
        for sock in sockets:
            sock.set_inheritable(False)
        yield sockets
    finally:
        close_all(sockets)


def check_reachable(http: HttpSettings, *, has_keys: bool) -> None:
    """Raise `UsageError` for an address that others can reach while nobody would need a key."""
    if not (has_keys or http.insecure_no_auth or is_loopback(http.host)):
        raise UsageError(
            f"cannot listen on {http.host} without an API key: give a file with keys (--api-key-file FILE), "
            "or pass --insecure-no-auth to serve everybody"
        )
