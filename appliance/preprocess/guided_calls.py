"""Tool calls that the request demands: the constraint on the output, and the reading of output that obeys it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.core.output import OutputPart, TextPart, ToolCallPart
from appliance.core.requests import Guided
from appliance.preprocess.tool_calls.arguments import decode_json, decode_object, encode_arguments, read_call
from appliance.preprocess.tool_calls.names import new_call_id
from appliance.preprocess.tool_calls.splitters import JsonSplitter, Malformed

NAMED = "function:"
"""In front of the one function that must be called."""
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
"""A function without parameters takes an empty object."""

Tools = Sequence[Mapping[str, Any]]


def is_forced(tool_choice: str) -> bool:
    """Whether the answer must be a call."""
    return tool_choice == "required" or tool_choice.startswith(NAMED)


def named_function(tool_choice: str) -> str | None:
    """The one function that must be called, if there is one."""
    return tool_choice.removeprefix(NAMED) if tool_choice.startswith(NAMED) else None


def call_constraint(tools: Tools | None, tool_choice: str, *, parallel: bool) -> Guided | None:
    """What output must look like for this choice; None when it is free.

    A named function gives its parameter schema: the output is its arguments. `required` gives an array of objects with
    `name` and `parameters`, of one item only unless `parallel`. Raises `InvalidRequest` for a function that is not
    among the tools.
    """
    if not is_forced(tool_choice):
        return None
    functions = [tool["function"] for tool in tools or () if isinstance(tool.get("function"), Mapping)]
    if not functions:
        raise InvalidRequest("a tool_choice that demands a call needs tools", param="tool_choice")
    name = named_function(tool_choice)
    if name is None:
        return _guided(_array_schema(functions, parallel=parallel))
    found = [function for function in functions if function.get("name") == name]
    if not found:
        known = ", ".join(str(function.get("name")) for function in functions)
        raise InvalidRequest(f"tool_choice names {name!r}, but the tools are {known}", param="tool_choice")
    return _guided(_parameters(found[0]))


def _guided(schema: Any) -> Guided:
    return Guided(json_schema=msgspec.json.encode(schema).decode())


def _array_schema(functions: Sequence[Mapping[str, Any]], *, parallel: bool) -> dict[str, Any]:
    """Parameter schemas stand by themselves under `$defs`, so that references within each can be made to fit."""
    branches, definitions = [], {}
    for number, function in enumerate(functions):
        place = f"parameters{number}"
        definitions[place] = _moved(_parameters(function), f"#/$defs/{place}")
        branch = {"name": {"enum": [function.get("name")]}, "parameters": {"$ref": f"#/$defs/{place}"}}
        branches.append(
            {
                "type": "object",
                "properties": branch,
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
        )
    array: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": branches}, "$defs": definitions}
    return array if parallel else {**array, "maxItems": 1}


def _parameters(function: Mapping[str, Any]) -> Any:
    return function.get("parameters") or NO_ARGUMENTS


def _moved(schema: Any, root: str) -> Any:
    """The schema with its references changed for standing under `root` of another document."""
    if isinstance(schema, list):
        return [_moved(member, root) for member in schema]
    if not isinstance(schema, Mapping):
        return schema
    moved = {name: _moved(member, root) for name, member in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = root + reference[1:]
    return moved


class GuidedCalls:
    """Reads output that `call_constraint` has shaped, the same for any cutting of the text; a `ToolCallParser`.

    Output that does not obey is shown as text from there on, because the engine has not done what it promised.
    """

    __slots__ = ("_calls", "_held", "_name", "_new_id", "_separators", "_splitter", "_stray")

    def __init__(self, name: str | None, *, new_id: Callable[[], str] = new_call_id) -> None:
        """`name` is the one function whose arguments the output is; None: an array of calls."""
        self._name = name
        self._new_id = new_id
        self._separators = " \t\r\n" if name is not None else " \t\r\n[],"
        self._splitter: JsonSplitter | None = None
        self._held: list[str] = []
        self._calls = 0
        self._stray = False

    def push(self, text: str) -> list[OutputPart]:
        """See `ToolCallParser`."""
        parts: list[OutputPart] = []
        while text and not self._stray:
            if self._splitter is None:
                text = text.lstrip(self._separators)
                if not text:
                    break
                self._splitter = JsonSplitter()
            try:
                end = self._splitter.feed(text, 0)
            except Malformed:
                self._stray = True
                break
            if end is None:
                self._held.append(text)
                return parts
            self._held.append(text[:end])
            parts.append(self._call(self._take_held()))
            self._splitter, text = None, text[end:]
        if text:
            parts.append(TextPart(self._take_held() + text))
        return parts

    def finish(self, *, truncated: bool) -> list[OutputPart]:
        """See `ToolCallParser`. Half a call is dropped when the output was cut."""
        held = self._take_held()
        return [TextPart(held)] if held and not truncated else []

    def _take_held(self) -> str:
        held, self._held = "".join(self._held), []
        return held

    def _call(self, text: str) -> OutputPart:
        try:
            name, arguments = read_call(decode_json(text)) if self._name is None else (self._name, decode_object(text))
            shown = encode_arguments(arguments)
        except Malformed:
            return TextPart(text)
        call = ToolCallPart(index=self._calls, id=self._new_id(), name=name, arguments=shown)
        self._calls += 1
        return call
