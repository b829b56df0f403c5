"""What a Responses body of the right shape must also fulfil: bounds, checked while it is read, then rules."""

from appliance.core.errors import InvalidRequest, NotImplementedHere
from appliance.frontend.protocols.openai.bounds import Bounds
from appliance.frontend.protocols.openai.validate import TOKENS_LIMIT
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


def check_responses(body: ResponsesBody) -> None:
    """Raise `InvalidRequest` or `NotImplementedHere` for the first broken rule."""
    _check_stateless(body)
    if not body.model:
        raise InvalidRequest("model must not be empty", param="model")
    if not body.input:
        raise InvalidRequest("input must not be empty", param="input")
    if body.user == "":
        raise InvalidRequest("user must not be an empty string", param="user")
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")
    if body.truncation is not None:
        _check_one_of("truncation", body.truncation, TRUNCATIONS)
    if body.reasoning is not None:
        _check_one_of("reasoning.effort", body.reasoning.effort, EFFORTS)
        _check_one_of("reasoning.summary", body.reasoning.summary, SUMMARIES)
    if body.text is not None:
        _check_one_of("text.verbosity", body.text.verbosity, VERBOSITIES)


def _check_stateless(body: ResponsesBody) -> None:
    """Refuse members that need something kept between requests."""
    if body.previous_response_id is not None:
        what = "stores no responses; send the whole conversation as input"
        raise NotImplementedHere(f"previous_response_id: this server {what}", param="previous_response_id")
    if body.conversation not in (None, False):
        what = "stores no conversations; send the whole conversation as input"
        raise NotImplementedHere(f"conversation: this server {what}", param="conversation")
    if body.background:
        raise NotImplementedHere("background: this server runs no responses in the background", param="background")
    if body.prompt not in (None, False):
        what = "stores no prompts; send the text as instructions and input"
        raise NotImplementedHere(f"prompt: this server {what}", param="prompt")


def _check_one_of(param: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise InvalidRequest(f"{param} must be one of {', '.join(allowed)}", param=param)
