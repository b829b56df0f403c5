"""Tool calls out of a model's text, in every wire format that models use. Start reading at DESIGN.md."""

from appliance.preprocess.tool_calls.grammar import ToolCallParser as ToolCallParser
from appliance.preprocess.tool_calls.names import TOOL_PARSERS as TOOL_PARSERS
from appliance.preprocess.tool_calls.names import choose_tool_parser as choose_tool_parser
from appliance.preprocess.tool_calls.names import make_tool_parser as make_tool_parser
from appliance.preprocess.tool_calls.names import needs_special_tokens as needs_special_tokens
