"""JSON schemas as GBNF. The grammar may allow less than the schema does, but never more.

Objects are written with their properties in the schema's order and no others, unless it names none; white space is at
most one blank after a separator, so that output cannot go on for ever. What cannot be enforced is refused by name.
"""

import json
import math
from typing import Any

from appliance.core.errors import InvalidRequest
from appliance.engines.llamacpp.gbnf import group, literal, repeated
from appliance.engines.llamacpp.json_numbers import INTEGER, LARGEST, NUMBER, integers_between, numbers_between
from appliance.engines.llamacpp.regex_grammar import LARGEST_REPEAT, regex_expression

Schema = dict[str, Any]
PARAM = "response_format"
DEEPEST = 64
STRING_CHARS = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0x80, 0x10FFFF))
"""What may stand in a JSON string without an escape."""
COMMA, COLON = '"," " "?', '":" " "?'
BASE_RULES = {
    "char": r'[\x20-\x21\x23-\x5B\x5D-\x7E\U00000080-\U0010FFFF] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\""',
    "integer": INTEGER,
    "number": NUMBER,
    "boolean": '"true" | "false"',
    "null": '"null"',
    "member": f"string {COLON} any",
    "object": f'"{{" (member ({COMMA} member)*)? "}}"',
    "array": f'"[" (any ({COMMA} any)*)? "]"',
    "any": "object | array | string | number | boolean | null",
}
ENFORCED = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}
    | {"properties", "required", "additionalProperties"}
    | {"items", "prefixItems", "minItems", "maxItems"}
    | {"minLength", "maxLength", "pattern"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
)
ANNOTATIONS = frozenset(
    {"title", "description", "default", "example", "examples", "format", "deprecated", "readOnly", "writeOnly"}
    | {"$schema", "$id", "$defs", "definitions", "$comment", "discriminator", "contentEncoding", "contentMediaType"}
)
HINTS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
"""Keywords that tell the type of a schema that names none."""
FORMATS = {
    "date": "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9])",
    "time": "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z",
    "date-time": "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}


def json_schema_grammar(text: str) -> str:
    """A grammar for documents that conform to a schema. Raises `InvalidRequest` for what it cannot enforce."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("the JSON schema is no JSON", param=PARAM) from None
    return _Rules(schema).grammar()


class _Rules:
    """The rules of one grammar, written as the schema is walked."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._rules = dict(BASE_RULES)
        self._names: dict[str, str] = {}
        self._depth = 0

    def grammar(self) -> str:
        self._rules["root"] = self._value(self._root)
        return "\n".join(f"{name} ::= {expression}" for name, expression in self._rules.items())

    def _value(self, schema: Any) -> str:
        """An expression for one schema, in parentheses or a single name wherever it has alternatives."""
        if schema is True:
            return "any"
        if not isinstance(schema, dict):
            raise _refused("a schema must be an object or true")
        for keyword in schema:
            if keyword not in ENFORCED and keyword not in ANNOTATIONS and not keyword.startswith("x-"):
                raise _refused(f"the schema keyword {keyword!r} cannot be enforced")
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(f"the schema is nested more than {DEEPEST} levels deep")
        try:
            return self._combined(schema)
        finally:
            self._depth -= 1

    def _combined(self, schema: Schema) -> str:
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "allOf" in schema:
            return self._value(self._joined([_without(schema, "allOf"), *_list(schema, "allOf")]))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                rest = _without(schema, keyword)
                return group(self._value(self._joined([rest, option])) for option in _list(schema, keyword))
        if "const" in schema:
            return _constant(schema["const"])
        if "enum" in schema:
            return group(_constant(value) for value in _list(schema, "enum"))
        types = schema.get("type", _hinted_type(schema))
        return group(self._typed(name, schema) for name in (types if isinstance(types, list) else [types]))

    def _typed(self, name: Any, schema: Schema) -> str:
        if name == "object":
            return self._object(schema)
        if name == "array":
            return self._array(schema)
        if name == "string":
            return _string(schema)
        if name in ("integer", "number"):
            return _number(schema, name)
        if name in ("boolean", "null", "any"):
            return str(name)
        raise _refused(f"the schema type {name!r} does not exist")

    def _object(self, schema: Schema) -> str:
        properties = dict(schema.get("properties") or {})
        required = set(schema.get("required") or ())
        for name in sorted(required - set(properties)):
            properties[name] = True
        additional = schema.get("additionalProperties", True)
        if not properties:
            return '"{" "}"' if additional is False else self._map(additional)
        return f'"{{" {self._members(properties, required)} "}}"'

    def _map(self, values: Any) -> str:
        if values is True:
            return "object"
        member = f"string {COLON} {self._value(values)}"
        return f'"{{" ({member} ({COMMA} {member})*)? "}}"'

    def _members(self, properties: Schema, required: set[str]) -> str:
        """Members in order, with commas between those that are there.

        Two rules for each place, read from the last: `rest` when a member came before, `first` when none did.
        """
        rest = first = literal("")
        for name, schema in reversed(properties.items()):
            member = f"{_constant(name)} {COLON} {self._value(schema)}"
            after, alone = self._rule(rest), self._rule(first)
            if name in required:
                rest, first = f"{COMMA} {member} {after}", f"{member} {after}"
            else:
                rest, first = f"({COMMA} {member})? {after}", f"({member} {after} | {alone})"
        return first

    def _array(self, schema: Schema) -> str:
        low, high = _bounds(schema, "minItems", "maxItems")
        fixed = [self._value(item) for item in schema.get("prefixItems") or ()]
        more = schema.get("items", not fixed)
        if fixed:
            fixed = fixed[:high] if high is not None else fixed
            low, high = max(0, low - len(fixed)), None if high is None else max(0, high - len(fixed))
        if more is False or high == 0:
            if low:
                raise _refused("minItems asks for more items than the schema allows")
            return f'"[" {f" {COMMA} ".join(fixed)} "]"'
        item = self._rule(self._value(more))
        if fixed:
            return f'"[" {f" {COMMA} ".join(fixed)} {repeated(f"({COMMA} {item})", low, high)} "]"'
        items = f"{item} {repeated(f'({COMMA} {item})', max(0, low - 1), None if high is None else high - 1)}"
        return f'"[" {items if low else f"({items})?"} "]"'

    def _reference(self, reference: Any) -> str:
        """The rule of a `$ref`; it is named before it is written, as it may refer to itself."""
        if reference not in self._names:
            name = self._names[str(reference)] = f"ref-{len(self._names)}"
            self._rules[name] = self._value(self._target(reference))
        return self._names[reference]

    def _joined(self, schemas: list[Any]) -> Any:
        """One schema for several. A single one stays as it is: its reference may be to a schema that holds it."""
        asking = [schema for schema in schemas if not isinstance(schema, dict) or schema.keys() & ENFORCED]
        return asking[0] if len(asking) == 1 else _merged([self._resolved(schema) for schema in asking])

    def _resolved(self, schema: Any) -> Any:
        """A schema to be merged with others, so a reference has to be followed."""
        seen = 0
        while isinstance(schema, dict) and "$ref" in schema and seen < DEEPEST:
            schema, seen = self._target(schema["$ref"]), seen + 1
        return schema

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _refused("only references within the schema are supported")
        found = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise _refused(f"the reference {reference!r} leads nowhere")
            found = found[name]
        return found

    def _rule(self, expression: str) -> str:
        """A name for an expression, so that it can be used again without its text growing."""
        name = f"part-{len(self._rules)}"
        self._rules[name] = expression
        return name


def _string(schema: Schema) -> str:
    low, high = _bounds(schema, "minLength", "maxLength")
    pattern = schema.get("pattern") or FORMATS.get(str(schema.get("format")))
    if pattern is None:
        return f'"\\"" {repeated("char", low, high)} "\\""'
    if low or high is not None:
        raise _refused("a pattern or format cannot be combined with minLength or maxLength")
    inside = regex_expression(
        str(pattern), param=PARAM, allowed=STRING_CHARS, spell=lambda char: json.dumps(char)[1:-1]
    )
    return f'"\\"" ({inside}) "\\""'


def _number(schema: Schema, name: str) -> str:
    if not any(keyword in schema for keyword in HINTS["number"]):
        return name
    low = max(
        math.ceil(_real(schema, "minimum", -LARGEST)), math.floor(_real(schema, "exclusiveMinimum", -LARGEST - 1)) + 1
    )
    high = min(
        math.floor(_real(schema, "maximum", LARGEST)), math.ceil(_real(schema, "exclusiveMaximum", LARGEST + 1)) - 1
    )
    if low > high:
        raise _refused("the bounds of a number have no whole number between them")
    return integers_between(low, high) if name == "integer" else numbers_between(low, high)


def _bounds(schema: Schema, lowest: str, highest: str) -> tuple[int, int | None]:
    low, high = schema.get(lowest, 0), schema.get(highest)
    for value in (low, high):
        if value is not None and not (isinstance(value, int) and 0 <= value <= LARGEST_REPEAT):
            raise _refused(f"{lowest} and {highest} must be whole numbers up to {LARGEST_REPEAT}")
    if high is not None and low > high:
        raise _refused(f"{lowest} is above {highest}")
    return low, high


def _real(schema: Schema, keyword: str, default: int) -> float:
    value = schema.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST + 1:
        raise _refused(f"{keyword} must be a number")
    return value


def _hinted_type(schema: Schema) -> str:
    return next((name for name, keywords in HINTS.items() if any(word in schema for word in keywords)), "any")


def _merged(schemas: list[Any]) -> Any:
    """One schema that asks for all that several ask for."""
    merged: Schema = {}
    for schema in schemas:
        if schema is True:
            continue
        if not isinstance(schema, dict):
            raise _refused("a schema must be an object or true")
        for keyword, value in schema.items():
            if keyword == "properties" and keyword in merged:
                merged[keyword] = {**merged[keyword], **value}
            elif keyword == "required" and keyword in merged:
                merged[keyword] = [*merged[keyword], *value]
            elif keyword in ENFORCED and merged.get(keyword, value) != value:
                raise _refused(f"two different {keyword!r} cannot both be enforced")
            else:
                merged[keyword] = value
    return merged


def _list(schema: Schema, keyword: str) -> list[Any]:
    value = schema[keyword]
    if not isinstance(value, list) or not value:
        raise _refused(f"{keyword} must be a list that is not empty")
    return value


def _without(schema: Schema, keyword: str) -> Schema:
    return {name: value for name, value in schema.items() if name != keyword}


def _constant(value: Any) -> str:
    return literal(json.dumps(value, ensure_ascii=False))


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(why, param=PARAM)
