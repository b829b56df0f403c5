"""The bodies of `POST /v1/messages` and `/v1/messages/count_tokens` as types.

Members typed `Any` are accepted and have no effect. Members of nested objects that are not here, such as
`cache_control` and `citations`, are ignored.
"""

from typing import Any, Literal

import msgspec

from appliance.core.identity import ModelName
from appliance.frontend.protocols.openai.nvext import Nvext, absent

ThinkingType = Literal["enabled", "disabled", "adaptive", "between_tools"]
ToolChoiceType = Literal["auto", "any", "tool", "none"]


class Block(msgspec.Struct, kw_only=True):
    """One content block of any type; which members it needs is checked when it is converted."""

    type: str
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: "str | list[Block] | dict[str, Any] | None" = None


Content = str | list[Block]


class Message(msgspec.Struct, kw_only=True):
    """One turn of the `user`, the `assistant` or the `system`."""

    role: str
    content: Content


class Tool(msgspec.Struct, kw_only=True):
    """One entry of `tools`. Those of a type other than `custom` are known to Anthropic's models only."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, kw_only=True):
    """`tool_choice`."""

    type: ToolChoiceType
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, kw_only=True):
    """`thinking`. The budget has no effect."""

    type: ThinkingType
    budget_tokens: int | None = None


class Metadata(msgspec.Struct, kw_only=True):
    """`metadata`."""

    user_id: str | None = None


class OutputFormat(msgspec.Struct, kw_only=True):
    """A schema that the answer's text must fit; its text is kept as it came."""

    type: Literal["json_schema"]
    schema: msgspec.Raw = absent()


class OutputConfig(msgspec.Struct, kw_only=True):
    """`output_config`. The effort has no effect."""

    format: OutputFormat | None = None
    effort: str | None = None


class PromptFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Members that make the prompt, and those that both routes know."""

    model: ModelName
    messages: list[Message]
    system: Content | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    billing_policy: Any = None
    cache_control: Any = None
    compaction: Any = None
    context_management: Any = None
    mcp_servers: Any = None
    speed: Any = None


class CountBody(PromptFields, kw_only=True):
    """A request to count tokens as the client wrote it."""


class MessagesBody(PromptFields, kw_only=True):
    """A request for a message as the client wrote it."""

    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    output_format: OutputFormat | None = None
    nvext: Nvext | None = None
    container: Any = None
    diagnostics: Any = None
    fallback_credit_token: Any = None
    fallbacks: Any = None
    inference_geo: Any = None
    service_tier: Any = None
    thread: Any = None
