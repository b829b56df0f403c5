"""Arguments of calls: JSON in, compact JSON out, and the shapes in which models write a call as one object."""

import json
import re
from typing import Any, NoReturn

from appliance.preprocess.tool_calls.splitters import Malformed

_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_json(text: str) -> Any:
    """The value of a JSON text; raw line breaks in strings are forgiven. Raises `Malformed`."""
    try:
        return json.loads(text, strict=False, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Malformed from error


def decode_object(text: str) -> dict[str, Any]:
    """The members of a JSON object, none for blank text. Raises `Malformed`."""
    value = decode_json(text) if text.strip() else {}
    if not isinstance(value, dict):
        raise Malformed
    return value


def encode_arguments(arguments: dict[str, Any]) -> str:
    """Compact JSON in the order given. Raises `Malformed` for what JSON cannot say, such as infinite numbers."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed from error
    if _SURROGATE.search(text):  # half a character cannot be sent as UTF-8, its escape can
        return json.dumps(arguments, separators=(",", ":"))
    return text


def read_call(value: Any) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call written as one JSON object. Raises `Malformed`."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise Malformed
    for key in ("arguments", "parameters"):
        if key in value:
            return value["name"], _members(value[key])
    raise Malformed


def _members(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, str):
        return decode_object(value)
    if not isinstance(value, dict):
        raise Malformed
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
