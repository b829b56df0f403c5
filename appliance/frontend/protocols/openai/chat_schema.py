"""The body of `POST /v1/chat/completions` as types. Members typed `Any` are accepted and have no effect."""

from typing import Any, Literal

import msgspec

from appliance.frontend.protocols.openai.extensions import GenerationFields
from appliance.frontend.protocols.openai.nvext import absent

Role = Literal["developer", "system", "user", "assistant", "tool", "function"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class ContentPart(msgspec.Struct, kw_only=True):
    """One part of a message's content; only text and refusals are read."""

    type: str
    text: str | None = None
    refusal: str | None = None


class FunctionCall(msgspec.Struct, kw_only=True):
    """A call that the model made in an earlier turn; `arguments` is JSON text, or already an object."""

    name: str
    arguments: str | dict[str, Any] = ""


class ToolCall(msgspec.Struct, kw_only=True):
    """One entry of an assistant message's `tool_calls`."""

    function: FunctionCall
    id: str | None = None
    type: str = "function"


class Message(msgspec.Struct, kw_only=True):
    """One turn. Members that no template reads are dropped."""

    role: Role
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    reasoning_content: str | list[str] | None = None
    refusal: str | None = None


class FunctionDefinition(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, kw_only=True):
    """One entry of `tools`. Only functions exist here; other kinds carry no `function`."""

    type: str = "function"
    function: FunctionDefinition | None = None


class ToolName(msgspec.Struct, kw_only=True):
    """The `function` member of a tool choice."""

    name: str


class ToolChoice(msgspec.Struct, kw_only=True):
    """A tool choice in object form."""

    type: str = "function"
    function: ToolName | None = None


class SchemaFormat(msgspec.Struct, kw_only=True):
    """`response_format.json_schema`; the schema's text is kept as it came."""

    name: str
    schema: msgspec.Raw = absent()
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


class ChatBody(GenerationFields, kw_only=True):
    """A chat request as the client wrote it."""

    messages: list[Message]
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    max_completion_tokens: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDefinition] | None = None
    function_call: str | ToolName | None = None
    reasoning_effort: ReasoningEffort | None = None
    chat_template_args: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    audio: Any = None
    media_io_kwargs: Any = None
    modalities: Any = None
    moderation: Any = None
    prediction: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    store: Any = None
    verbosity: Any = None
    web_search_options: Any = None
