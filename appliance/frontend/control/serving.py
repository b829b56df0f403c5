"""Quart on trio with the connection fix that hypercorn needs, and JSON answers with our error bodies."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from appliance.core import errors
from appliance.web.errors import NEUTRAL, find_appliance_error, render_error

_LOG = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class PatientConnection(TrioASGIHTTPConnection):
    """A connection that is not cancelled by the news that its own last message was delivered.

    Hypercorn reports a disconnect while it still delivers the final body message. Quart-trio answers by cancelling the
    request, and with it hypercorn's work on the connection: it is never closed, never idle, and blocks the shutdown.
    To be tried without at each upgrade: the regression tests say whether.
    """

    async def __call__(self, receive: Receive, send: Send) -> None:
        """Handle one request."""
        ending = False

        async def send_watched(message: Any) -> None:
            nonlocal ending
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                ending = True
            await send(message)

        async def receive_patiently() -> Any:
            message = await receive()
            if ending and message["type"] == "http.disconnect":
                await trio.sleep_forever()  # until the request's own end, which is on its way
            return message

        await super().__call__(receive_patiently, send_watched)


def make_app(name: str) -> QuartTrio:
    """An empty app with our connection class and JSON bodies for every error."""
    app = QuartTrio(name, static_folder=None)
    app.asgi_http_class = PatientConnection
    app.config["RESPONSE_TIMEOUT"] = None  # the serving side cuts off clients that take no data
    app.config["BODY_TIMEOUT"] = 30
    app.config["MAX_CONTENT_LENGTH"] = 16 << 20
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.register_error_handler(errors.ApplianceError, answer_error)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_unexpected)
    return app


def answer_json(body: Any, status: int = 200) -> Response:
    """A JSON answer; structs are taken too."""
    return Response(msgspec.json.encode(body), status, content_type="application/json")


async def read_json(kind: Any) -> Any:
    """The request's body as JSON of the given type. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(await request.get_data(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.InvalidRequest(f"cannot read the request body as JSON: {error}") from None


def read_int(name: str, default: int, *, least: int = 0, most: int = 1_000_000) -> int:
    """A whole number of the query. Raises `InvalidRequest`."""
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        raise errors.InvalidRequest(f"{name} must be a whole number from {least} to {most}", param=name)
    return int(text)


def read_flag(name: str) -> bool:
    """A switch of the query: `1` and `true` are on."""
    return request.args.get(name, "").lower() in ("1", "true", "yes")


async def answer_error(error: errors.ApplianceError) -> Response:
    """Our own errors as their status and body."""
    status, body, headers = render_error(error, request.path)
    return Response(body, status, headers=dict(headers), content_type="application/json")


async def answer_http_error(error: HTTPException) -> Response:
    """Quart's own refusals in our shape."""
    if isinstance(error, NotFound):
        return await answer_error(errors.NotFound(f"no such path: {request.method} {request.path}"))
    if isinstance(error, MethodNotAllowed):
        response = await answer_error(errors.MethodNotAllowed(f"cannot {request.method} {request.path}"))
        response.headers["allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response
    if error.code == 413:
        return await answer_error(errors.BodyTooLarge("cannot take the request: its body is too large"))
    if error.code is not None and error.code < 500:
        return await answer_error(errors.InvalidRequest(f"cannot take the request: {error.name.lower()}"))
    return await answer_unexpected(error)


async def answer_unexpected(error: Exception) -> Response:
    """Anything else: the text stays in the log."""
    known = find_appliance_error(error)
    if known is not None:
        return await answer_error(known)
    _LOG.error("control request failed: %s %s", request.method, request.path, exc_info=error)
    return await answer_error(errors.InternalError(NEUTRAL))
