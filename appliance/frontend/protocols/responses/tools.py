"""`tools` and `tool_choice`: the functions that the model is shown, and whether it must call one.

Tools that run on a provider's side are repeated in the answer and have no effect.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from appliance.core.errors import InvalidRequest, NotImplementedHere
from appliance.frontend.protocols.responses.raw_members import read_member
from appliance.frontend.protocols.responses.schema import Tool, ToolChoice

MODES = ("none", "auto", "required")


class ToolPlan(NamedTuple):
    """What becomes of tools in the internal request."""

    shown: list[dict[str, Any]] | None
    """Functions for the template, also when calls are forbidden; None: there are none."""
    choice: str
    """See `GenerationRequest.tool_choice`."""


def plan_tools(tools: Sequence[msgspec.Raw] | None, choice: str | ToolChoice | None) -> ToolPlan:
    """Raises `InvalidRequest` for a wrong tool or choice, `NotImplementedHere` for the choice of a provider's tool."""
    functions = _functions(tools or ())
    wanted = _wanted(choice, functions)
    if wanted.choice not in ("auto", "none") and not wanted.shown:
        raise InvalidRequest(f"tool_choice {wanted.choice!r} needs a function in tools", param="tool_choice")
    return wanted if wanted.shown else ToolPlan(None, wanted.choice)


def _functions(tools: Sequence[msgspec.Raw]) -> dict[str, dict[str, Any]]:
    """The functions by name."""
    found = {}
    for index, raw in enumerate(tools):
        tool, at = read_member(raw, Tool, f"tools[{index}]"), f"tools[{index}]"
        if tool.type in ("function", "custom") and not tool.name:
            raise InvalidRequest(f"{at}.name is required", param=f"{at}.name")
        if tool.type == "custom" and tool.format is None:
            raise InvalidRequest(f"{at}.format is required", param=f"{at}.format")
        if tool.type == "function" and tool.name:
            members = {name: getattr(tool, name) for name in ("name", "description", "parameters", "strict")}
            given = {name: value for name, value in members.items() if value is not None}
            found[tool.name] = {"type": "function", "function": given}
    return found


def _wanted(choice: str | ToolChoice | None, functions: dict[str, dict[str, Any]]) -> ToolPlan:
    everything = list(functions.values())
    if choice is None:
        return ToolPlan(everything, "auto")
    if isinstance(choice, str):
        if choice not in MODES:
            raise InvalidRequest(f"tool_choice must be an object or one of {', '.join(MODES)}", param="tool_choice")
        return ToolPlan(everything, choice)
    if choice.type == "function":
        if choice.name not in functions:
            raise InvalidRequest("tool_choice.name must name a function of tools", param="tool_choice.name")
        return ToolPlan(everything, f"function:{choice.name}")
    if choice.type == "allowed_tools":
        return _allowed(choice, functions)
    raise NotImplementedHere(f"tool_choice: no tool of type {choice.type!r} can be called here", param="tool_choice")


def _allowed(choice: ToolChoice, functions: dict[str, dict[str, Any]]) -> ToolPlan:
    if choice.mode not in ("auto", "required"):
        raise InvalidRequest("tool_choice.mode must be auto or required", param="tool_choice.mode")
    names = [tool.get("name") for tool in choice.tools or () if tool.get("type", "function") == "function"]
    if any(not isinstance(name, str) or name not in functions for name in names):
        raise InvalidRequest("tool_choice.tools must name functions of tools", param="tool_choice.tools")
    return ToolPlan([functions[name] for name in functions if name in names], choice.mode)
