"""Errors as they cross a link: a code and one line, and back to the class of that code."""

from appliance.core import errors
from appliance.core.errors import ApplianceError, EngineFailed

MESSAGE_LIMIT = 500  # characters; the message of a peer is shown to users
NEUTRAL = "the engine failed on this request"

_CLASSES: dict[str, type[ApplianceError]] = {
    entry.code: entry
    for entry in vars(errors).values()
    if isinstance(entry, type) and issubclass(entry, ApplianceError)
}


def error_from(code: str, message: str) -> ApplianceError:
    """The error that a peer reported; an unknown code becomes `EngineFailed`."""
    return _CLASSES.get(code, EngineFailed)(" ".join(message.split())[:MESSAGE_LIMIT] or NEUTRAL)


def code_and_message(fault: Exception) -> tuple[str, str]:
    """What a peer may know of a fault: our own errors in full, of any other nothing but that there was one."""
    if isinstance(fault, ApplianceError):
        return fault.code, fault.message
    return EngineFailed.code, NEUTRAL
