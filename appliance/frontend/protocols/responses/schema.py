"""The body of `POST /v1/responses` as types. Members typed `Any` are accepted; some are repeated in the answer.

Items and tools come in many kinds, so they are kept as they came and read one by one (`items`, `tools`).
"""

from typing import Any

import msgspec

from appliance.core.identity import ModelName
from appliance.frontend.protocols.openai.extensions import StreamOptions
from appliance.frontend.protocols.openai.nvext import Nvext, absent


class ReasoningOptions(msgspec.Struct, kw_only=True):
    """`reasoning`: how hard to think, and whether to tell of it."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class TextFormat(msgspec.Struct, kw_only=True):
    """`text.format`; the schema's text is kept as it came."""

    type: str
    name: str | None = None
    schema: msgspec.Raw = absent()
    description: str | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct, kw_only=True):
    """`text`: the form of the answer's text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ToolChoice(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`tool_choice` in object form: one function, or the functions that are allowed this time."""

    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[dict[str, Any]] | None = None


class ResponsesBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A Responses request as the client wrote it."""

    model: ModelName
    input: str | list[msgspec.Raw]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    instructions: str | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    truncation: str | None = None
    store: bool | None = None
    background: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    max_tool_calls: int | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    prompt: Any = None
    access_programs: Any = None
    context_management: Any = None
    image: Any = None
    moderation: Any = None
    prompt_cache_options: Any = None
    nvext: Nvext | None = None


class ContentPart(msgspec.Struct, kw_only=True):
    """One part of an item's content; only text and refusals are read."""

    type: str
    text: str | None = None
    refusal: str | None = None


class ItemKind(msgspec.Struct, kw_only=True):
    """What tells items apart; messages and references may come without `type`."""

    type: str | None = None
    role: str | None = None
    id: str | None = None


class MessageItem(msgspec.Struct, kw_only=True):
    """A turn, or a part of one when the assistant's turn also has calls."""

    role: str
    content: str | list[ContentPart]


class ReasoningItem(msgspec.Struct, kw_only=True):
    """The model's reasoning: a summary, the full text, or neither when it is encrypted."""

    summary: list[ContentPart] | None = None
    content: list[ContentPart] | None = None


class CallItem(msgspec.Struct, kw_only=True):
    """A call that the model made; `arguments` is JSON text, or already an object."""

    call_id: str
    name: str
    arguments: str | dict[str, Any]


class CallOutputItem(msgspec.Struct, kw_only=True):
    """What came of a call."""

    call_id: str
    output: str | list[ContentPart]


class Tool(msgspec.Struct, kw_only=True):
    """One entry of `tools`. Kinds other than functions have no effect."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    format: Any = None
