"""Typing of values that a format writes as plain text, by the tool's parameter schema; entities of XML."""

import re
from collections.abc import Mapping
from typing import Any

from appliance.preprocess.tool_calls.arguments import decode_json
from appliance.preprocess.tool_calls.splitters import Malformed

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_ORDER = ("null", "boolean", "integer", "number", "object", "array")


def typed(text: str, schema: Any) -> Any:
    """The value that `text` stands for. Text stays where the schema is silent, allows it, or does not fit.

    Where the schema allows strings and other types, only null, objects and lists are no strings: a postcode stays one.
    """
    types = _types(schema)
    if "string" in types:
        types &= {"null", "object", "array"}
    trimmed = text.strip()
    for name in _ORDER:
        if name in types:
            try:
                return _READERS[name](trimmed)
            except Malformed:
                continue
    return text


def unescape(text: str) -> str:
    """Entities of XML as characters. Names that only HTML has stay: `&copy=` in an address is no entity."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    name = found.group(1)
    if name[0] != "#":
        return _NAMED[name]
    code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    if code == 0 or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        return found.group()
    return chr(code)


def _types(schema: Any, depth: int = 0) -> set[str]:
    if not isinstance(schema, Mapping) or depth > 4:
        return set()
    kind = schema.get("type")
    found = {kind} if isinstance(kind, str) else {name for name in kind or () if isinstance(name, str)}
    for key in ("anyOf", "oneOf", "allOf"):
        for choice in schema.get(key) or ():
            found |= _types(choice, depth + 1)
    return found


def _null(text: str) -> None:
    if text.lower() not in ("null", "none"):
        raise Malformed


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise Malformed
    return text.lower() == "true"


def _integer(text: str) -> int:
    value = _number(text)
    if isinstance(value, float) and not value.is_integer():
        raise Malformed
    return int(value)


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise Malformed
    value = decode_json(text)
    if not isinstance(value, int | float) or value in (float("inf"), float("-inf")):
        raise Malformed
    return value


def _object(text: str) -> dict[str, Any]:
    value = decode_json(text)
    if not isinstance(value, dict):
        raise Malformed
    return value


def _array(text: str) -> list[Any]:
    value = decode_json(text)
    if not isinstance(value, list):
        raise Malformed
    return value


_READERS = {
    "null": _null,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "object": _object,
    "array": _array,
}
