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
    turns: list[dict[str, Any]] = []
    for message in body.messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if type(message.content) is not str:
            turn["content"] = _content(message, f"messages[{len(turns)}].content")
        if message.tool_calls or message.function_call is not None:
            turn["tool_calls"] = _calls(message)
        if message.name is not None:
            turn["name"] = message.name
        if message.tool_call_id is not None:
            turn["tool_call_id"] = message.tool_call_id
        if message.reasoning_content is not None:
            turn["reasoning_content"] = message.reasoning_content
        turns.append(turn)
    return turns


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


def _content(message: Message, path: str) -> str | list[dict[str, str]]:
    """Parts, or the refusal of an assistant, whose turn alone may do without content."""
    if message.content is None:
        if message.role != "assistant":
            raise InvalidRequest(f"{path} is required", param=path)
        return message.refusal or ""
    if isinstance(message.content, str):
        return message.content
    return [_text_part(part, f"{path}[{index}]") for index, part in enumerate(message.content)]


def _text_part(part: ContentPart, path: str) -> dict[str, str]:
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in ("text", "refusal"):
        raise InvalidRequest(f"{path}: this model takes text only, not {part.type}", param=path)
    if text is None:
        raise InvalidRequest(f"{path}.{part.type} is required", param=f"{path}.{part.type}")
    return {"type": "text", "text": text}


def _calls(message: Message) -> list[dict[str, Any]]:
    if message.tool_calls:
        return [_call(call) for call in message.tool_calls]
    assert message.function_call is not None
    return [_call(ToolCall(function=message.function_call))]


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
