"""What a Responses body of the right shape must also fulfil, as tables: bounds of single numbers, then rules."""

from appliance.core.errors import NotImplementedHere
from appliance.frontend.protocols.openai.validate import TOKENS_LIMIT, Bounds, Rule, check_body
from appliance.frontend.protocols.responses.schema import ResponsesBody

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")
VERBOSITIES = ("low", "medium", "high")
TRUNCATIONS = ("auto", "disabled")

BOUNDS = (
    Bounds("temperature", 0, 2),
    Bounds("top_p", 0, 1),
    Bounds("top_logprobs", 0, 20),
    Bounds("max_output_tokens", 1, TOKENS_LIMIT),
    Bounds("max_tool_calls", 1, TOKENS_LIMIT),
)


def _stateless(name: str, what: str) -> Rule[ResponsesBody]:
    """A member that needs something kept between requests."""
    return Rule(name, lambda b: getattr(b, name) in (None, False), f"{name}: this server {what}", NotImplementedHere)


def _one_of(param: str, allowed: tuple[str, ...]) -> Rule[ResponsesBody]:
    """A string that, when given, is one of these; `param` is a member, or a member of a member."""
    outer, _, inner = param.partition(".")

    def holds(body: ResponsesBody) -> bool:
        value = getattr(body, outer)
        return (getattr(value, inner, None) if inner else value) in (None, *allowed)

    return Rule(param, holds, f"{param} must be one of {', '.join(allowed)}")


RULES: tuple[Rule[ResponsesBody], ...] = (
    _stateless("previous_response_id", "stores no responses; send the whole conversation as input"),
    _stateless("conversation", "stores no conversations; send the whole conversation as input"),
    _stateless("background", "runs no responses in the background"),
    _stateless("prompt", "stores no prompts; send the text as instructions and input"),
    Rule("model", lambda b: bool(b.model), "model must not be empty"),
    Rule("input", lambda b: bool(b.input), "input must not be empty"),
    Rule("user", lambda b: b.user != "", "user must not be an empty string"),
    Rule("stream_options", lambda b: b.stream or b.stream_options is None, "stream_options needs stream: true"),
    _one_of("truncation", TRUNCATIONS),
    _one_of("reasoning.effort", EFFORTS),
    _one_of("reasoning.summary", SUMMARIES),
    _one_of("text.verbosity", VERBOSITIES),
)


def check_responses(body: ResponsesBody) -> None:
    """Raise `InvalidRequest` or `NotImplementedHere` for the first broken bound or rule."""
    check_body(body, BOUNDS, RULES)
