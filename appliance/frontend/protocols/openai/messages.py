"""Chat messages and tools as templates want them: plain dicts, arguments as objects, text parts only."""

from typing import Any

import msgspec

from appliance.core.errors import InvalidRequest
from appliance.frontend.protocols.openai.chat_schema import (
    ChatBody,
    ContentPart,
    FunctionCall,
    FunctionDefinition,
    Message,
    Tool,
    ToolCall,
    ToolChoice,
)


def template_messages(body: ChatBody) -> list[dict[str, Any]]:
    """All turns of a request. Raises `InvalidRequest` for a turn without content and for parts that are not text."""
    return [_turn(message, index) for index, message in enumerate(body.messages)]


def template_tools(body: ChatBody) -> list[dict[str, Any]] | None:
    """All functions of a request. Raises `InvalidRequest` for a tool that is no function or has no name."""
    tools = body.tools
    if tools is None and body.functions is not None:
        tools = [Tool(function=function) for function in body.functions]
    if not tools:
        return None
    return [_tool(tool.function, index) for index, tool in enumerate(tools)]


def tool_choice(body: ChatBody) -> str:
    """The choice as `GenerationRequest.tool_choice` has it; the older `function_call` counts when it is alone."""
    choice = body.function_call if body.tool_choice is None else body.tool_choice
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    function = choice.function if isinstance(choice, ToolChoice) else choice
    return f"function:{function.name}" if function is not None else "auto"


def _turn(message: Message, index: int) -> dict[str, Any]:
    content = message.content
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if content is None:
        _check_contentless(message, index)
        turn["content"] = message.refusal or ""
    elif not isinstance(content, str):
        turn["content"] = [_text_part(part, f"messages[{index}].content[{n}]") for n, part in enumerate(content)]
    if message.tool_calls:
        turn["tool_calls"] = [_call(call) for call in message.tool_calls]
    elif message.function_call is not None:
        turn["tool_calls"] = [_call(ToolCall(function=message.function_call))]
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning_content is not None:
        turn["reasoning_content"] = message.reasoning_content
    return turn


def _check_contentless(message: Message, index: int) -> None:
    """Only an assistant's turn may do without content, when it holds something else."""
    if message.role != "assistant":
        raise InvalidRequest(f"messages[{index}].content is required", param=f"messages[{index}].content")


def _text_part(part: ContentPart, path: str) -> dict[str, str]:
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in ("text", "refusal"):
        raise InvalidRequest(f"{path}: this model takes text only, not {part.type}", param=path)
    if text is None:
        raise InvalidRequest(f"{path}.{part.type} is required", param=f"{path}.{part.type}")
    return {"type": "text", "text": text}


def _call(call: ToolCall) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "function", "function": _function(call.function)}
    if call.id is not None:
        entry["id"] = call.id
    return entry


def _function(call: FunctionCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": _arguments(call.arguments)}


def _arguments(arguments: str | dict[str, Any]) -> Any:
    """Arguments as an object; text that is none is handed on as it came."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return arguments


def _tool(function: FunctionDefinition | None, index: int) -> dict[str, Any]:
    if function is None:
        raise InvalidRequest(f"tools[{index}]: only functions are supported", param=f"tools[{index}]")
    if not function.name:
        path = f"tools[{index}].function.name"
        raise InvalidRequest(f"{path} must not be empty", param=path)
    return {"type": "function", "function": msgspec.to_builtins(function)}
