"""Errors as HTTP answers: OpenAI bodies, and Anthropic bodies below `/v1/messages`."""

import math

import msgspec

from appliance.core.errors import ApplianceError, MethodNotAllowed, UnsupportedMediaType

Rendered = tuple[int, bytes, list[tuple[str, str]]]
"""Status, JSON body, extra headers."""

NEUTRAL = "the server failed on this request"
"""All that a client learns of an unexpected exception."""

MESSAGES_PATH = "/v1/messages"

ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


class HeadersTooLarge(ApplianceError):
    """A request line with headers over the limit."""

    code, status, kind = "headers_too_large", 431, "invalid_request_error"


class RequestTimeout(ApplianceError):
    """A request that did not arrive in time."""

    code, status, kind = "request_timeout", 408, "invalid_request_error"


class ExpectationFailed(ApplianceError):
    """An `Expect` header other than `100-continue`."""

    code, status, kind = "expectation_failed", 417, "invalid_request_error"


class UnsupportedEncoding(UnsupportedMediaType):
    """A body that is packed in a way that we cannot unpack."""

    code = "unsupported_encoding"


class ClientStalled(ApplianceError):
    """The client took no byte for too long, is too far behind, or has gone; its connection is being closed."""

    code, status = "client_stalled", 499


def render_error(error: ApplianceError, path: str, *, messages_path: str = MESSAGES_PATH) -> Rendered:
    """Status, body and headers of the answer to a request for `path` (percent-decoded) that ended in `error`.

    `messages_path`: where the Anthropic routes are.
    """
    headers: list[tuple[str, str]] = []
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, math.ceil(error.retry_after_s)))))
    if error.status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if isinstance(error, MethodNotAllowed) and error.allow:
        headers.append(("allow", ", ".join(error.allow)))
    if isinstance(error, UnsupportedEncoding):
        headers.append(("accept-encoding", "gzip, deflate, zstd"))
    return error.status, msgspec.json.encode(error_body(error, path, messages_path)), headers


def error_body(error: ApplianceError, path: str, messages_path: str = MESSAGES_PATH) -> dict[str, object]:
    """The JSON body alone, for errors inside a stream."""
    if path == messages_path or path.startswith(messages_path + "/"):
        kind = ANTHROPIC_KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": error.message}}
    return {
        "error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code},
    }


def find_appliance_error(error: BaseException) -> ApplianceError | None:
    """The first of our own errors in an exception or in a group of them; nurseries wrap what their tasks raise."""
    if isinstance(error, ApplianceError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := find_appliance_error(inner))), None)
    return None
