"""What a request asks of the router in its headers: workers, as routers in front of us do, and its session."""

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.core.generation import Pins, RoutingHints
from appliance.web.request import HttpRequest

HEADERS = {
    "worker": b"x-worker-instance-id",
    "prefill": b"x-prefill-instance-id",
    "dp_rank": b"x-dp-rank",
    "prefill_dp_rank": b"x-prefill-dp-rank",
}
_NAMES = frozenset(HEADERS.values())
LARGEST = {"worker": 2**64 - 1, "prefill": 2**64 - 1, "dp_rank": 2**32 - 1, "prefill_dp_rank": 2**32 - 1}
SESSION = b"x-dynamo-session-id"
LONGEST_SESSION = 512


def read_pins(request: HttpRequest, body: Pins) -> Pins:
    """The pins of the headers, and of the body where there is no header. Raises `InvalidRequest` for no number."""
    if _NAMES.isdisjoint(request.headers):
        return body
    given = {member: value for member, name in HEADERS.items() if (value := request.headers.get(name)) is not None}
    return msgspec.structs.replace(body, **{member: _number(member, value) for member, value in given.items()})


def read_hints(request: HttpRequest, body: RoutingHints, session_ttl_s: float) -> RoutingHints:
    """The hints of the body, with the session of the header when it names none and such sessions are on.

    Raises `InvalidRequest` for a session id that is too long.
    """
    if not session_ttl_s or body.session_id:
        return body
    session = request.headers.get(SESSION)
    if not session:
        return body
    if len(session) > LONGEST_SESSION:
        name = SESSION.decode()
        raise InvalidRequest(f"{name} must have at most {LONGEST_SESSION} characters", param=name)
    return msgspec.structs.replace(body, session_id=session.decode("latin-1"), session_ttl_s=session_ttl_s)


def _number(member: str, value: bytes) -> int:
    if value.isdigit() and len(value) <= 20 and int(value) <= LARGEST[member]:
        return int(value)
    name = HEADERS[member].decode()
    raise InvalidRequest(f"{name} must be a whole number from 0 to {LARGEST[member]}", param=name)
