"""The public control app: health, metrics, thresholds, documentation and the web console."""

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from appliance.core.errors import InvalidRequest
from appliance.core.settings import PathSettings
from appliance.frontend.control.console_app import add_console_api, add_console_pages
from appliance.frontend.control.console_views import ConsoleService
from appliance.frontend.control.openapi import describe_api
from appliance.frontend.control.pages import docs_page
from appliance.frontend.control.serving import answer_json, make_app, read_json
from appliance.frontend.control.views import BusyThresholdOrder, ControlView, MeasuredEngine

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# The page holds its own style, and loads nothing from anywhere.
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def build_public_app(
    view: ControlView, paths: PathSettings | None = None, console: ConsoleService | None = None
) -> QuartTrio:
    """The app, showing what `view` says; the probes are at `paths`. Without `console` the pages have no data."""
    paths = paths or PathSettings()
    app = make_app("appliance.public")
    _add_probes(app, view, paths)
    _add_thresholds(app, view)
    _add_documents(app, paths)
    add_console_pages(app, paths)
    if console is not None:
        add_console_api(app, console)
    return app


def _add_probes(app: QuartTrio, view: ControlView, paths: PathSettings) -> None:
    @app.get(paths.live)
    async def live() -> Response:
        return answer_json({"status": "live", "message": "Service is live"})

    @app.get(paths.health)
    async def health() -> Response:
        report = view.health()
        body: dict[str, object] = {
            "status": report.status,
            "endpoints": sorted({f"dyn://{i.namespace}.{i.component}.{i.endpoint}" for i in report.instances}),
            "instances": report.instances,
        }
        if report.message:
            body["message"] = report.message
        return answer_json(body, 200 if report.status == "healthy" else 503)

    @app.get(paths.metrics)
    async def metrics() -> Response:
        return Response(await view.metrics(), content_type=METRICS_TYPE)

    @app.get(f"{paths.metrics}/workers")
    async def engines() -> Response:
        """Where a Prometheus finds the engines' own metrics, in the form of its HTTP service discovery."""
        measured = await view.measured_engines()
        return answer_json([_scrape_target(one, request.host, paths.metrics) for one in measured])

    @app.get(f"{paths.metrics}/workers/<worker>")
    async def engine_metrics(worker: str) -> Response:
        return Response(await view.engine_metrics(worker), content_type=METRICS_TYPE)


def _scrape_target(one: MeasuredEngine, host: str, path: str) -> dict[str, object]:
    labels = {"__metrics_path__": f"{path}/workers/{one.worker}", **msgspec.structs.asdict(one)}
    return {"targets": [host], "labels": labels}


def _add_thresholds(app: QuartTrio, view: ControlView) -> None:
    @app.get("/busy_threshold")
    async def list_thresholds() -> Response:
        return answer_json({"thresholds": view.busy_thresholds()})

    @app.post("/busy_threshold")
    async def set_threshold() -> Response:
        order = await read_json(BusyThresholdOrder)
        _check_threshold(order)
        return answer_json(await view.set_busy_threshold(order))


def _check_threshold(order: BusyThresholdOrder) -> None:
    share = order.active_decode_blocks_threshold
    if isinstance(share, float | int) and not 0 <= share <= 1:
        raise InvalidRequest(
            "active_decode_blocks_threshold must be from 0 to 1", param="active_decode_blocks_threshold"
        )
    for name in ("active_prefill_tokens_threshold", "active_prefill_tokens_threshold_frac"):
        value = getattr(order, name)
        if isinstance(value, float | int) and value < 0:
            raise InvalidRequest(f"{name} must not be negative", param=name)


def _add_documents(app: QuartTrio, paths: PathSettings) -> None:
    description = describe_api(paths)
    document = msgspec.json.encode(description)
    docs = docs_page(description)

    @app.get("/openapi.json")
    async def openapi() -> Response:
        return Response(document, content_type="application/json")

    @app.get("/docs")
    async def show_docs() -> Response:
        return _page(docs)


def _page(html: str) -> Response:
    headers = {"content-security-policy": PAGE_POLICY, "x-content-type-options": "nosniff"}
    return Response(html, content_type="text/html; charset=utf-8", headers=headers)
