"""Reading a JSON body into its struct, and saying what is wrong with one that does not fit."""

import re
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, get_args

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.frontend.protocols.openai.bounds import Bounds, bounded, check_bounds
from appliance.frontend.protocols.openai.chat_schema import ReasoningEffort, Role

Body = TypeVar("Body", bound=msgspec.Struct)

ALLOWED_VALUES = {"role": get_args(Role), "reasoning_effort": get_args(ReasoningEffort)}
"""Members whose error lists what they may be; msgspec names only the value that came."""

_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]*)`")


class BodyReader(Generic[Body]):
    """Reads bodies of one kind, whose numbers lie within bounds."""

    def __init__(self, kind: type[Body], bounds: Sequence[Bounds] = ()) -> None:
        self._known = frozenset(field.encode_name for field in msgspec.structs.fields(kind))
        self._bounds = bounds
        self._decode = msgspec.json.Decoder(bounded(kind, bounds)).decode
        self._decode_unbounded = msgspec.json.Decoder(kind).decode

    def read(self, body: bytes) -> Body:
        """The body as its struct. Raises `InvalidRequest`, which names the member at fault."""
        try:
            return self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._read_again(body)

    def _read_again(self, body: bytes) -> Body:
        """Types first, then bounds in their order: so the error does not depend on the order of the members."""
        try:
            read = self._decode_unbounded(body)
        except msgspec.ValidationError as error:
            self._refuse_unknown(body)
            raise mismatch(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"cannot read the body as JSON: {error}") from error
        except RecursionError as error:
            raise InvalidRequest("cannot read the body as JSON: it is nested too deeply") from error
        check_bounds(read, self._bounds)
        return read

    def _refuse_unknown(self, body: bytes) -> None:
        """Name all unknown members in one error; the typed decoder stops at the first."""
        try:
            members: Any = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        unknown = [name for name in members if name not in self._known]
        if unknown:
            raise InvalidRequest(f"Unsupported parameter(s): {', '.join(unknown)}", param=unknown[0])


def mismatch(complaint: str, at: str = "") -> InvalidRequest:
    """Turn msgspec's complaint into one line that starts with the member's path; `at` is the path of what was read."""
    place = _PLACE.search(complaint)
    path = ".".join(filter(None, (at, place["path"] if place else "")))
    if place:
        complaint = complaint[: place.start()]
    if missing := _MISSING.match(complaint):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(f"{path} is required", param=path)
    if allowed := ALLOWED_VALUES.get(path.rpartition(".")[2]):
        complaint = f"{complaint}; allowed are {', '.join(allowed)}"
    complaint = complaint.replace("`", "")
    return InvalidRequest(f"{path}: {complaint}" if path else complaint, param=path or None)
