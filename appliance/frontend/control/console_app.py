"""The web console on the public port: its files, open to all, and the API behind them, which needs the key."""

import math
from dataclasses import asdict

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from appliance.core import errors
from appliance.core.settings import PathSettings
from appliance.frontend.control.console_files import INDEX, TYPES, ConsoleFile, make_file, read_console_files
from appliance.frontend.control.console_views import ConsoleService
from appliance.frontend.control.serving import answer_json, read_int, read_json

STATIC = "/static/console/"
API = "/console/api/"
ACTION_HEADER = "x-appliance-console"
"""A page of another site cannot send it without a preflight, which is refused."""
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # asked again each time; the validator makes that cheap
}
DEFAULT_LINES = 400
DEFAULT_EVENTS = 50


class ScaleOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST scale."""

    component: str
    replicas: int
    graph: str | None = None


class ModelOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST load_model and unload_model."""

    model: str


class RestartOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST restart."""

    worker: str


def add_console_pages(app: QuartTrio, paths: PathSettings) -> None:
    """The page at `/` and its files; `paths.js` tells them where the public routes are."""
    files = read_console_files()
    routes = b"export const PATHS = " + msgspec.json.encode(asdict(paths)) + b";\n"
    files["paths.js"] = make_file(routes, TYPES[".js"])

    @app.get("/")
    async def console() -> Response:
        return _send(files[INDEX])

    @app.get(STATIC + "<name>")
    async def console_file(name: str) -> Response:
        if name not in files:
            raise errors.NotFound(f"no such file: {name}")
        return _send(files[name])


def add_console_api(app: QuartTrio, console: ConsoleService) -> None:
    """What the pages read and do."""
    _add_reads(app, console)
    _add_actions(app, console)


def _add_reads(app: QuartTrio, console: ConsoleService) -> None:
    @app.get(API + "status")
    async def console_status() -> Response:
        return _fresh(await console.status())

    @app.get(API + "requests")
    async def console_requests() -> Response:
        return _fresh(await console.requests())

    @app.get(API + "why")
    async def console_why() -> Response:
        return _fresh(await console.why(_read_text("subject"), _read_limit()))

    @app.get(API + "events")
    async def console_events() -> Response:
        return _fresh({"items": await console.events(request.args.get("subject"), _read_limit())})

    @app.get(API + "load")
    async def console_load() -> Response:
        return _fresh(console.load(_read_time("since")))

    @app.get(API + "logs")
    async def console_logs() -> Response:
        limit = read_int("lines", DEFAULT_LINES, least=1, most=5000)
        return _fresh({"lines": console.log_lines(_read_text("component"), _read_time("after"), limit)})


def _add_actions(app: QuartTrio, console: ConsoleService) -> None:
    @app.post(API + "scale")
    async def console_scale() -> Response:
        _check_action(console)
        order: ScaleOrder = await read_json(ScaleOrder)
        return answer_json(await console.scale(order.component, order.replicas, order.graph))

    @app.post(API + "restart")
    async def console_restart() -> Response:
        _check_action(console)
        order: RestartOrder = await read_json(RestartOrder)
        await console.restart(order.worker)
        return answer_json({"restarting": order.worker}, 202)

    @app.post(API + "load_model")
    async def console_load_model() -> Response:
        _check_action(console)
        order: ModelOrder = await read_json(ModelOrder)
        return answer_json(await console.load_model(order.model), 202)

    @app.post(API + "unload_model")
    async def console_unload_model() -> Response:
        _check_action(console)
        order: ModelOrder = await read_json(ModelOrder)
        return answer_json(await console.unload_model(order.model), 202)


def _check_action(console: ConsoleService) -> None:
    """Only our own pages may act, and only for somebody who was let in by a key or sits at the machine."""
    if request.headers.get(ACTION_HEADER) is None:
        raise errors.Forbidden(
            f"cannot act without the header {ACTION_HEADER}: actions are for the console's own pages"
        )
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is not None and origin.lower().partition("://")[2] != host.lower():
        raise errors.Forbidden("cannot act for another Origin: actions are for the console's own pages")
    if not console.allows_actions():
        raise errors.Forbidden("cannot act where nobody needs a key: make one with `dynamo-appliance keys create NAME`")


def _send(file: ConsoleFile) -> Response:
    headers = PAGE_HEADERS | {"etag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(b"", 304, headers=headers)
    return Response(file.body, headers=headers, content_type=file.content_type)


def _fresh(body: object) -> Response:
    response = answer_json(body)
    response.headers["cache-control"] = "no-store"
    return response


def _read_text(name: str) -> str:
    text = request.args.get(name)
    if not text:
        raise errors.InvalidRequest(f"{name} is missing", param=name)
    return text


def _read_limit() -> int:
    return read_int("limit", DEFAULT_EVENTS, least=1, most=1000)


def _read_time(name: str) -> float:
    """A Unix time of the query in seconds; 0 when it is left out. Raises `InvalidRequest`."""
    text = request.args.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise errors.InvalidRequest(f"{name} must be a time in seconds", param=name)
    return value
