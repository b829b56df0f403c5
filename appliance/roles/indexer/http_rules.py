"""What holds for every call of a standalone role's app: its errors, its measures, and no foreign web pages."""

import time

from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from appliance.core.errors import ApplianceError, Forbidden
from appliance.frontend.control.serving import answer_http_error, answer_json, answer_unexpected
from appliance.roles.indexer.measures import Measures
from appliance.web.errors import find_appliance_error
from appliance.web.guards import host_of, is_loopback

UNKNOWN = "unknown"
"""In place of a path that is none of ours."""


def add_rules(app: QuartTrio, measures: Measures, *, loopback: bool) -> None:
    """Errors as `{"error": text}`, every call measured, and with `loopback` only callers that are no foreign page."""

    @app.before_request
    async def begin() -> None:
        g.began = time.perf_counter()
        if loopback:
            _check_caller()

    @app.after_request
    async def end(response: Response) -> Response:
        path = request.url_rule.rule if request.url_rule else UNKNOWN
        took = time.perf_counter() - g.get("began", time.perf_counter())
        measures.count_request(path, request.method, response.status_code, took)
        return response

    app.register_error_handler(ApplianceError, _answer_ours)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_any)


def _check_caller() -> None:
    """A web page can make a browser call a local port under a foreign name or with a foreign origin."""
    if not is_loopback(host_of(request.host)):
        raise Forbidden("this port answers only to local names")
    origin = request.headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != request.host.lower():
        raise Forbidden("this port does not answer web pages")


async def _answer_ours(error: ApplianceError) -> Response:
    return answer_json({"error": error.message}, error.status)


async def _answer_http(error: HTTPException) -> Response:
    return await _plain(await answer_http_error(error))


async def _answer_any(error: Exception) -> Response:
    known = find_appliance_error(error)
    return await (_answer_ours(known) if known else _plain(await answer_unexpected(error)))


async def _plain(response: Response) -> Response:
    """Our usual error body as the short one of this interface."""
    body = await response.get_json()
    plain = answer_json({"error": body["error"]["message"]}, response.status_code)
    if "allow" in response.headers:
        plain.headers["allow"] = response.headers["allow"]
    return plain
