"""A request template: members that chat and Responses requests get when they do not have them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from appliance.core.errors import InvalidRequest, UsageError

CHAT_LENGTHS = ("max_completion_tokens", "max_tokens")
RESPONSES_LENGTHS = ("max_output_tokens",)
_NULL = b"null"


class RequestTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds; all of it is required."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]

    def fill_chat(self, body: bytes) -> bytes:
        """A chat body with what it lacks. Raises `InvalidRequest` for a body that is no JSON."""
        return self._fill(body, CHAT_LENGTHS)

    def fill_responses(self, body: bytes) -> bytes:
        """A Responses body with what it lacks. Raises `InvalidRequest` for a body that is no JSON."""
        return self._fill(body, RESPONSES_LENGTHS)

    def _fill(self, body: bytes, lengths: tuple[str, ...]) -> bytes:
        try:
            members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        except msgspec.ValidationError:
            return body  # no object: the reader of bodies knows what to say
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"cannot read the body as JSON: {error}") from error
        added: dict[str, object] = {}
        if _lacks(members, ("model",)):
            added["model"] = self.model
        if _lacks(members, ("temperature",)):
            added["temperature"] = self.temperature
        if _lacks(members, lengths):
            added[lengths[0]] = self.max_completion_tokens
        return msgspec.json.encode({**members, **added}) if added else body


def read_request_template(path: str) -> RequestTemplate:
    """Read the file. Raises `UsageError` that names it and what is wrong."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=RequestTemplate)
    except OSError as error:
        raise UsageError(f"cannot read the request template {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"cannot use the request template {path}: {str(error).replace('`', '')}") from None


def _lacks(members: Mapping[str, msgspec.Raw], names: tuple[str, ...]) -> bool:
    return all(bytes(members.get(name, _NULL)) == _NULL for name in names)
