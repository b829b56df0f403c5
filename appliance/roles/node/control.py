"""Serves the public control app and the admin app on unix sockets. Imported late: quart and hypercorn are heavy."""

from functools import partial

import trio

from appliance.core.paths import Paths
from appliance.core.settings import Settings
from appliance.frontend.control.admin_app import build_admin_app
from appliance.frontend.control.console_views import ConsoleService
from appliance.frontend.control.public_app import build_public_app
from appliance.frontend.control.views import AdminService, ControlView
from appliance.web.hypercorn_serving import serve_asgi
from appliance.web.sockets import bind_unix


async def serve_control(
    view: ControlView,
    admin: AdminService,
    console: ConsoleService,
    paths: Paths,
    settings: Settings,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve both until cancelled; `started` once both accept."""
    async with trio.open_nursery() as nursery:
        control = bind_unix(paths.control_socket)
        private = bind_unix(paths.admin_socket, int(settings.admin.socket_mode, 8))
        public = build_public_app(view, settings.paths, console)
        await nursery.start(partial(serve_asgi, public, bind=[control]))
        await nursery.start(partial(serve_asgi, build_admin_app(admin), bind=[private]))
        task_status.started()
