"""A node from its first look at the box on: folders, lock, store, port; then its services, until they end."""

from contextlib import AsyncExitStack

import structlog

from appliance.core.errors import StateUnavailable
from appliance.core.paths import Paths
from appliance.core.settings import Settings
from appliance.frontend.protocols.request_template import read_request_template
from appliance.models.demo import DEMO_NAME
from appliance.roles.key_file import read_key_file
from appliance.roles.node.first_graph import write_first_graph
from appliance.roles.node.keys import KeyStore
from appliance.roles.node.public_sockets import PublicSockets
from appliance.roles.node.services import NodeServices
from appliance.roles.options import NodeOptions
from appliance.state.archive import remove_leftovers
from appliance.state.lock import hold_lock
from appliance.state.sqlite import open_store
from appliance.web.guards import check_bind
from appliance.web.tls import server_context

log = structlog.get_logger(__name__)


class Node:
    """One appliance on one box."""

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self._settings = options.settings

    async def run(self) -> None:
        """Serve until a stop signal. Raises `ApplianceError` when the start is not possible."""
        paths = self._options.paths
        make_folders(paths)
        file_keys = read_key_file(self._settings.http.api_key_file)
        check_files_of_front_ends(self._settings)
        async with AsyncExitStack() as stack:
            stack.enter_context(hold_lock(paths.lock))
            remove_leftovers(paths.state_dir)
            store = await stack.enter_async_context(open_store(paths.database))
            stored_keys = await KeyStore(store).records()
            check_bind(self._settings.http, has_keys=bool(file_keys or stored_keys))
            sockets = PublicSockets(self._settings.http.host, self._settings.http.port)
            stack.callback(sockets.close)
            if await write_first_graph(store, self._options):
                log.info("the store is empty: serving the built-in demo model", model=DEMO_NAME)
            await NodeServices(self._options, store, sockets, file_keys).run()


def check_files_of_front_ends(settings: Settings) -> None:
    """Read what only front ends use: with a bad file they would fail over and over. Raises `UsageError`."""
    if settings.requests.template_file is not None:
        read_request_template(settings.requests.template_file)
    server_context(settings.http.tls_cert_path, settings.http.tls_key_path)


def make_folders(paths: Paths) -> None:
    """Create state and run dir, readable by the owner only. Raises `StateUnavailable`."""
    for folder in (paths.state_dir, paths.run_dir, paths.logs):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateUnavailable(f"cannot create {folder}: {error.strerror}") from None
