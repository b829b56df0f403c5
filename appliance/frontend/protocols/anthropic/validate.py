"""What a body of the right shape must also fulfil, as tables of bounds and rules."""

from typing import Any

from appliance.frontend.protocols.anthropic.schema import CountBody, MessagesBody, PromptFields
from appliance.frontend.protocols.openai.validate import STOPS_LIMIT, TOKENS_LIMIT, Bounds, Rule, check_body

MESSAGES_BOUNDS = (
    Bounds("max_tokens", 1, TOKENS_LIMIT),
    Bounds("temperature", 0, 2),  # Anthropic stops at 1, but models here are of all kinds
    Bounds("top_p", 0, 1),
    Bounds("top_k", -1, TOKENS_LIMIT),
)


ROLES = {"user", "assistant", "system"}


def _choice_is_known(body: PromptFields) -> bool:
    choice = body.tool_choice
    names = {tool.name for tool in body.tools or ()}
    if choice is None or choice.type in ("auto", "none"):
        return True
    return bool(names) if choice.type == "any" else choice.name in names


PROMPT_RULES: tuple[Rule[Any], ...] = (
    Rule("model", lambda b: bool(b.model), "model must not be empty"),
    Rule("messages", lambda b: bool(b.messages), "messages must hold at least one message"),
    Rule(
        "messages",
        lambda b: all(message.role in ROLES for message in b.messages),
        "each of messages must have the role user, assistant or system",
    ),
    Rule("tool_choice", _choice_is_known, "tool_choice must name one of tools, and any needs tools"),
)
MESSAGES_RULES: tuple[Rule[MessagesBody], ...] = (
    *PROMPT_RULES,
    Rule(
        "stop_sequences",
        lambda b: len(b.stop_sequences or ()) <= STOPS_LIMIT,
        f"stop_sequences takes at most {STOPS_LIMIT} strings",
    ),
    Rule(
        "stop_sequences", lambda b: "" not in (b.stop_sequences or ()), "stop_sequences must not hold an empty string"
    ),
)


def check_messages(body: MessagesBody) -> None:
    """Raise `InvalidRequest` for the first broken bound or rule."""
    check_body(body, MESSAGES_BOUNDS, MESSAGES_RULES)


def check_count(body: CountBody) -> None:
    """Raise `InvalidRequest` for the first broken rule."""
    check_body(body, (), PROMPT_RULES)
