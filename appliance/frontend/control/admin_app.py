"""The admin API on the unix socket, for the command line. Who may open the socket may do everything."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import msgspec
from quart import Response, request
from quart.wrappers.response import ResponseBody
from quart_trio import QuartTrio

from appliance.frontend.control.serving import answer_json, make_app, read_flag, read_int, read_json
from appliance.frontend.control.views import AdminService, Diagnosis, KeyAdmin, Object, ObjectAdmin

DEFAULT_LOG_LINES = 100
DEFAULT_EVENTS = 100


class ScaleOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /scale."""

    component: str
    replicas: int
    graph: str | None = None


class RestartOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /restart."""

    component: str
    graph: str | None = None


class ModelOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /models/load and /models/unload."""

    name: str


class AdapterOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /loras."""

    model: str
    name: str
    path: str


class KeyOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /keys."""

    name: str


def build_admin_app(admin: AdminService) -> QuartTrio:
    """The app, acting through `admin`."""
    app = make_app("appliance.admin")
    _add_objects(app, admin)
    _add_keys(app, admin)
    _add_diagnosis(app, admin)

    @app.get("/backup")
    async def backup() -> Response:
        blocks = StreamBody(admin.backup(read_flag("models")))
        return Response(blocks, content_type="application/zstd")

    @app.post("/restart")
    async def restart() -> Response:
        order: RestartOrder = await read_json(RestartOrder)
        return answer_json(await admin.restart(order.component, order.graph), 202)

    @app.post("/models/load")
    async def load_model() -> Response:
        order: ModelOrder = await read_json(ModelOrder)
        return answer_json(await admin.load_model(order.name), 202)

    @app.post("/models/unload")
    async def unload_model() -> Response:
        order: ModelOrder = await read_json(ModelOrder)
        return answer_json(await admin.unload_model(order.name), 202)

    @app.get("/loras")
    async def list_adapters() -> Response:
        return answer_json({"items": await admin.list_adapters()})

    @app.post("/loras")
    async def load_adapter() -> Response:
        order: AdapterOrder = await read_json(AdapterOrder)
        return answer_json(await admin.load_adapter(order.model, order.name, order.path))

    @app.delete("/loras/<path:name>")
    async def unload_adapter(name: str) -> Response:
        return answer_json(await admin.unload_adapter(name))

    @app.post("/stop")
    async def stop() -> Response:
        await admin.stop()
        return answer_json({"stopping": True}, 202)

    return app


def _add_objects(app: QuartTrio, admin: ObjectAdmin) -> None:
    @app.get("/objects/<kind>")
    async def list_objects(kind: str) -> Response:
        return answer_json({"items": await admin.list_objects(kind)})

    @app.get("/objects/<kind>/<name>")
    async def read_object(kind: str, name: str) -> Response:
        return answer_json(await admin.read_object(kind, name))

    @app.put("/objects")
    async def apply_objects() -> Response:
        manifests: Object | list[Object] = await read_json(Object | list[Object])
        applied = await admin.apply_objects(manifests if isinstance(manifests, list) else [manifests])
        return answer_json({"items": applied})

    @app.delete("/objects/<kind>/<name>")
    async def delete_object(kind: str, name: str) -> Response:
        return answer_json(await admin.delete_object(kind, name))

    @app.post("/scale")
    async def scale() -> Response:
        order: ScaleOrder = await read_json(ScaleOrder)
        return answer_json(await admin.scale(order.component, order.replicas, order.graph))


def _add_keys(app: QuartTrio, admin: KeyAdmin) -> None:
    @app.get("/keys")
    async def list_keys() -> Response:
        return answer_json({"items": await admin.list_keys()})

    @app.post("/keys")
    async def create_key() -> Response:
        order: KeyOrder = await read_json(KeyOrder)
        return answer_json(await admin.create_key(order.name), 201)

    @app.delete("/keys/<name>")
    async def delete_key(name: str) -> Response:
        return answer_json(await admin.delete_key(name))


def _add_diagnosis(app: QuartTrio, admin: Diagnosis) -> None:
    @app.get("/status")
    async def status() -> Response:
        return answer_json(await admin.status())

    @app.get("/events")
    async def events() -> Response:
        limit = read_int("limit", DEFAULT_EVENTS, least=1, most=10_000)
        return answer_json({"items": await admin.events(request.args.get("subject"), limit)})

    @app.get("/config")
    async def config() -> Response:
        return answer_json(await admin.config())

    @app.patch("/config")
    async def change_config() -> Response:
        return answer_json(await admin.change_config(await read_json(dict[str, str])))

    @app.get("/decisions/<path:request_id>")
    async def decisions(request_id: str) -> Response:
        return answer_json(await admin.decisions(request_id))

    @app.get("/logs/<path:component>")
    async def logs(component: str) -> Response:
        lines = read_int("lines", DEFAULT_LOG_LINES, most=100_000)
        name = await admin.find_logs(component)
        body = StreamBody(as_bytes(admin.logs(name, lines, read_flag("follow"))))
        return Response(body, content_type="text/plain; charset=utf-8")


class StreamBody(ResponseBody):
    """A response body of parts, each sent when it is there; the source is open exactly while it is sent."""

    def __init__(self, opened: AbstractAsyncContextManager[AsyncIterable[bytes]]) -> None:
        self._opened = opened

    async def __aenter__(self) -> AsyncIterable[bytes]:
        """Open the source."""
        return await self._opened.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source."""
        await self._opened.__aexit__(kind, error, trace)


@asynccontextmanager
async def as_bytes(
    opened: AbstractAsyncContextManager[AsyncIterable[str]],
) -> AsyncIterator[AsyncIterable[bytes]]:
    """A source of log lines as bytes with one line end each."""
    async with opened as lines:
        yield LogLines(lines)


class LogLines:
    """Log lines as bytes with one line end each."""

    def __init__(self, lines: AsyncIterable[str]) -> None:
        self._lines = aiter(lines)

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> bytes:
        """The next line."""
        return (await anext(self._lines)).rstrip("\n").encode() + b"\n"
