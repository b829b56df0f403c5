"""What an answer consists of, in the order generated: text, reasoning and tool calls. Parsers make it."""

import msgspec


class TextPart(msgspec.Struct, frozen=True, gc=False, tag="text"):
    """More of the answer proper."""

    text: str


class ReasoningPart(msgspec.Struct, frozen=True, gc=False, tag="reasoning"):
    """More of the model's reasoning, without its marks."""

    text: str


class ToolCallPart(msgspec.Struct, frozen=True, gc=False, tag="tool_call"):
    """One whole call. A call is never shown before it is complete."""

    index: int
    """0-based, in the order generated, over the whole choice."""
    id: str
    """`call-<uuid4>`, or the model's own where its format has one."""
    name: str
    arguments: str
    """Compact JSON of an object, its members in the order generated."""


OutputPart = TextPart | ReasoningPart | ToolCallPart
