"""Tool calls out of a model's text, in every wire format that models use. Start reading at DESIGN.md."""

from appliance.preprocess.tool_calls.grammar import ToolCallParser
from appliance.preprocess.tool_calls.names import (
    TOOL_PARSERS,
    choose_tool_parser,
    make_tool_parser,
    needs_special_tokens,
)

__all__ = ["TOOL_PARSERS", "ToolCallParser", "choose_tool_parser", "make_tool_parser", "needs_special_tokens"]
