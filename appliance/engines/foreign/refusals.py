"""What a server's refusal means for the client, in our words: a server's own text may hold paths and prompts."""

import re
from typing import Any

import msgspec

from appliance.core.errors import ApplianceError, EngineFailed, InvalidRequest, Overloaded, WorkerLost
from appliance.engines.http.client import Answer

_TOO_LONG = re.compile(r"context (length|window|size)|too long|longer than|maximum (model )?length|max_model_len", re.I)
_GRAMMAR = re.compile(r"grammar|json.?schema|structured|guided|response_format|regex", re.I)
_BUSY = (408, 425, 429, 503)


def refusal(answer: Answer) -> ApplianceError:
    """The error for an answer whose status is no success."""
    try:
        body = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        body = None
    return refusal_of(answer.status, body)


def refusal_of(status: int, body: Any) -> ApplianceError:
    """As above, for an error that came as an event of a stream, too."""
    text = _message(body)
    if status in (400, 413, 422):
        return _bad_request(text)
    if status in (401, 403):
        return EngineFailed("the engine's server refuses our key for it")
    if status == 404:
        return EngineFailed("the engine's server does not know the model or the route")
    if status in _BUSY:
        return Overloaded("the engine's server is busy", retry_after_s=1)
    if status in (502, 504):
        return WorkerLost("the engine's server lost what is behind it")
    return EngineFailed("the engine could not go on with this request")


def refusal_in_stream(event: dict[str, Any]) -> ApplianceError:
    """The error for an `error` member in the middle of a stream."""
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return refusal_of(code if isinstance(code, int) else 500, event)


def _bad_request(text: str) -> InvalidRequest:
    if _TOO_LONG.search(text):
        return InvalidRequest("the prompt is longer than the context of this model")
    if _GRAMMAR.search(text):
        return InvalidRequest("the engine cannot use the output format of this request", param="response_format")
    return InvalidRequest("the engine does not accept the parameters of this request")


def _message(body: Any) -> str:
    """The text of an error body in any of the usual shapes."""
    if isinstance(body, dict):
        for name in ("error", "message", "detail"):
            if name in body:
                return _message(body[name])
        return ""
    return body if isinstance(body, str) else str(body or "")
