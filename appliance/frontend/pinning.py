"""Workers that a request asks for in its headers, as routers in front of us do."""

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.core.generation import Pins
from appliance.web.request import HttpRequest

HEADERS = {"worker": b"x-worker-instance-id", "prefill": b"x-prefill-instance-id", "dp_rank": b"x-dp-rank"}
LARGEST = {"worker": 2**64 - 1, "prefill": 2**64 - 1, "dp_rank": 2**32 - 1}


def read_pins(request: HttpRequest, body: Pins) -> Pins:
    """The pins of the headers, and of the body where there is no header. Raises `InvalidRequest` for no number."""
    given = {member: value for member, name in HEADERS.items() if (value := request.headers.get(name)) is not None}
    if not given:
        return body
    return msgspec.structs.replace(body, **{member: _number(member, value) for member, value in given.items()})


def _number(member: str, value: bytes) -> int:
    if value.isdigit() and len(value) <= 20 and int(value) <= LARGEST[member]:
        return int(value)
    name = HEADERS[member].decode()
    raise InvalidRequest(f"{name} must be a whole number from 0 to {LARGEST[member]}", param=name)
