"""Makes the calls of one answer: counts them, names them, knows the request's tools."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appliance.core.output import ToolCallPart
from appliance.preprocess.tool_calls.arguments import encode_arguments, read_call
from appliance.preprocess.tool_calls.schema import typed
from appliance.preprocess.tool_calls.splitters import Malformed

PREFIX = "functions."
"""Some models are told of their tools as members of a namespace with this name."""


class CallMaker:
    """Turns what a grammar read into calls, in order. A name that no tool has is kept."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] | None, new_id: Callable[[], str]) -> None:
        self._schemas = dict(map(_name_and_properties, tools or ()))
        self._new_id = new_id
        self._count = 0

    def knows(self, name: str) -> bool:
        """Whether the request has a tool of this name."""
        return name in self._schemas

    def call(
        self, name: str, arguments: dict[str, Any], *, call_id: str | None = None, prefixed: bool = False
    ) -> ToolCallPart:
        """The next call; `prefixed` says that the format writes `functions.` before names. Raises `Malformed`."""
        name = self.plain_name(name, prefixed=prefixed)
        encoded = encode_arguments(arguments)
        call = ToolCallPart(index=self._count, id=call_id or self._new_id(), name=name, arguments=encoded)
        self._count += 1
        return call

    def from_object(self, value: Any) -> ToolCallPart:
        """The next call, from one JSON object. Raises `Malformed`."""
        name, arguments = read_call(value)
        return self.call(name, arguments)

    def typed(self, name: str, key: str, text: str) -> Any:
        """The value of an argument written as text, typed by the tool's schema."""
        return typed(text, self._schemas.get(self.plain_name(name), {}).get(key))

    def plain_name(self, name: str, *, prefixed: bool = False) -> str:
        """The function's own name. Raises `Malformed` where none is left."""
        name = name.strip()
        bare = name.removeprefix(PREFIX)
        if bare != name and not self.knows(name) and (prefixed or self.knows(bare)):
            name = bare
        if not name or any("\ud800" <= char <= "\udfff" for char in name):
            raise Malformed
        return name


def _name_and_properties(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    function = tool.get("function")
    described = function if isinstance(function, Mapping) else tool
    parameters = described.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return str(described.get("name", "")), properties if isinstance(properties, Mapping) else {}
