"""What a body of the right shape must also fulfil: bounds, checked while it is read, then rules."""

from appliance.core.errors import InvalidRequest
from appliance.frontend.protocols.anthropic.schema import MessagesBody, PromptFields, Tool, ToolChoice
from appliance.frontend.protocols.openai.bounds import Bounds
from appliance.frontend.protocols.openai.validate import STOPS_LIMIT, TOKENS_LIMIT

MESSAGES_BOUNDS = (
    Bounds("max_tokens", 1, TOKENS_LIMIT),
    Bounds("temperature", 0, 2),  # Anthropic stops at 1, but models here are of all kinds
    Bounds("top_p", 0, 1),
    Bounds("top_k", -1, TOKENS_LIMIT),
)


ROLES = {"user", "assistant", "system"}


def check_messages(body: MessagesBody) -> None:
    """Raise `InvalidRequest` for the first broken rule."""
    check_count(body)
    if body.stop_sequences is not None:
        if len(body.stop_sequences) > STOPS_LIMIT:
            raise InvalidRequest(f"stop_sequences takes at most {STOPS_LIMIT} strings", param="stop_sequences")
        if "" in body.stop_sequences:
            raise InvalidRequest("stop_sequences must not hold an empty string", param="stop_sequences")


def check_count(body: PromptFields) -> None:
    """Raise `InvalidRequest` for the first broken rule."""
    if not body.model:
        raise InvalidRequest("model must not be empty", param="model")
    if not body.messages:
        raise InvalidRequest("messages must hold at least one message", param="messages")
    for message in body.messages:
        if message.role not in ROLES:
            raise InvalidRequest("each of messages must have the role user, assistant or system", param="messages")
    if body.tool_choice is not None and not _is_known(body.tool_choice, body.tools or []):
        raise InvalidRequest("tool_choice must name one of tools, and any needs tools", param="tool_choice")


def _is_known(choice: ToolChoice, tools: list[Tool]) -> bool:
    if choice.type in ("auto", "none"):
        return True
    return bool(tools) if choice.type == "any" else any(tool.name == choice.name for tool in tools)
