"""Reading one member that was kept as it came, with its own place in the body in every complaint."""

from typing import TypeVar

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.frontend.protocols.openai.bodies import mismatch

Kind = TypeVar("Kind", bound=msgspec.Struct)


def read_member(raw: msgspec.Raw, kind: type[Kind], at: str) -> Kind:
    """The member as its struct; `at` is its path. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise mismatch(str(error), at) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{at}: cannot be read as JSON", param=at) from error
