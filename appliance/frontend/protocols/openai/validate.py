"""What a body of the right shape must also fulfil, as tables: bounds of single numbers, then rules."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from appliance.core.errors import ApplianceError, InvalidRequest, NotImplementedHere
from appliance.frontend.protocols.openai.chat_schema import ChatBody, ToolChoice, ToolName
from appliance.frontend.protocols.openai.completion_schema import CompletionBody
from appliance.frontend.protocols.openai.embedding_schema import EmbeddingBody
from appliance.frontend.protocols.openai.extensions import GenerationFields
from appliance.frontend.protocols.openai.nvext import NO_NVEXT

Body = TypeVar("Body", bound=msgspec.Struct)

TOKENS_LIMIT = 2**31 - 1
STOPS_LIMIT = 32
INPUTS_LIMIT = 2048
"""Prompts or embedding inputs in one request; OpenAI's limit for embeddings."""
CHOICES_LIMIT = 2048
"""Prompts times `n`: each choice is a stream of its own."""
SMALLEST = 5e-324
"""As a lower bound it means: above zero."""


class Bounds(NamedTuple):
    """A number that, when given, lies between two values, both allowed."""

    param: str
    low: float
    high: float

    def complaint(self, value: float) -> str:
        low = "above 0" if self.low == SMALLEST else f"at least {self.low}"
        return f"{self.param} must be {low} and at most {self.high}, not {value}"


class Rule(NamedTuple, Generic[Body]):
    """A condition that a body fulfils; `param` and `complaint` say what is wrong when it does not."""

    param: str
    holds: Callable[[Body], bool]
    complaint: str
    error: type[ApplianceError] = InvalidRequest


SAMPLING_BOUNDS = (
    Bounds("temperature", 0, 2),
    Bounds("top_p", 0, 1),
    Bounds("min_p", 0, 1),
    Bounds("frequency_penalty", -2, 2),
    Bounds("presence_penalty", -2, 2),
    Bounds("repetition_penalty", SMALLEST, 2),
    Bounds("n", 1, 128),
    Bounds("seed", -(2**63), 2**63 - 1),
    Bounds("top_k", -1, TOKENS_LIMIT),
    Bounds("min_tokens", 0, TOKENS_LIMIT),
)
CHAT_BOUNDS = (
    *SAMPLING_BOUNDS,
    Bounds("max_tokens", 0, TOKENS_LIMIT),
    Bounds("max_completion_tokens", 1, TOKENS_LIMIT),
    Bounds("top_logprobs", 0, 20),
)
COMPLETION_BOUNDS = (
    *SAMPLING_BOUNDS,
    Bounds("max_tokens", 1, TOKENS_LIMIT),
    Bounds("logprobs", 0, 5),
)
EMBEDDING_BOUNDS = (Bounds("dimensions", 1, TOKENS_LIMIT),)


def _has_name(body: GenerationFields | EmbeddingBody) -> bool:
    return bool(body.model)


def _user_not_empty(body: GenerationFields | EmbeddingBody) -> bool:
    return body.user != ""


def _may_repeat(body: GenerationFields) -> bool:
    greedy = body.temperature == 0 or (body.nvext or NO_NVEXT).greed_sampling
    return body.n is None or body.n == 1 or not greedy


def _stops_fit(body: ChatBody | CompletionBody) -> bool:
    stop = body.stop
    return stop is None or isinstance(stop, str) or len(stop) <= STOPS_LIMIT


def _stops_not_empty(body: ChatBody | CompletionBody) -> bool:
    stop = body.stop
    return stop != "" if isinstance(stop, str) else "" not in (stop or ())


def _biases_fit(body: GenerationFields) -> bool:
    biases = body.logit_bias
    return not biases or all(0 <= k < 2**32 and -100 <= v <= 100 for k, v in biases.items())


def _choice_is_known(body: ChatBody) -> bool:
    choice = body.tool_choice
    if isinstance(choice, ToolChoice):
        tools = body.tools or []
        return choice.function is not None and any(
            t.function is not None and t.function.name == choice.function.name for t in tools
        )
    return choice in (None, "none", "auto", "required")


def _demands_what_is_there(body: ChatBody) -> bool:
    return body.tool_choice != "required" or bool(body.tools or body.functions)


def _call_is_known(body: ChatBody) -> bool:
    """The older way to say what `tool_choice` says."""
    call = body.function_call
    if isinstance(call, ToolName):
        return any(function.name == call.name for function in body.functions or ())
    return call in (None, "none", "auto")


def _inputs_not_empty(inputs: Any) -> bool:
    return inputs is None or (bool(inputs) and (isinstance(inputs, str) or all(i not in ("", []) for i in inputs)))


def _inputs_alike(inputs: Any) -> bool:
    return not isinstance(inputs, list) or len({type(item) for item in inputs}) <= 1


def _inputs_count(inputs: Any) -> int:
    """How many inputs there are; a flat list of token ids is one."""
    return len(inputs) if isinstance(inputs, list) and inputs and not isinstance(inputs[0], int) else 1


COMMON_RULES: tuple[Rule[Any], ...] = (
    Rule("model", _has_name, "model must not be empty"),
    Rule("user", _user_not_empty, "user must not be an empty string"),
)
GENERATION_RULES: tuple[Rule[Any], ...] = (
    *COMMON_RULES,
    Rule("top_k", lambda b: b.top_k != 0, "top_k must be -1 (all tokens) or at least 1"),
    Rule("n", _may_repeat, "n above 1 needs a temperature above 0"),
    Rule("stop", _stops_fit, f"stop takes at most {STOPS_LIMIT} strings"),
    Rule("stop", _stops_not_empty, "stop must not contain an empty string"),
    Rule("logit_bias", _biases_fit, "logit_bias maps token ids to values from -100 to 100"),
    Rule("stream_options", lambda b: b.stream or b.stream_options is None, "stream_options needs stream: true"),
)
CHAT_RULES: tuple[Rule[ChatBody], ...] = (
    *GENERATION_RULES,
    Rule("messages", lambda b: bool(b.messages), "messages must hold at least one message"),
    Rule("tool_choice", _choice_is_known, "tool_choice must be none, auto, required or name a function of tools"),
    Rule("tool_choice", _demands_what_is_there, "tool_choice: required needs tools"),
    Rule("function_call", _call_is_known, "function_call must be none, auto or name a function of functions"),
)
COMPLETION_RULES: tuple[Rule[CompletionBody], ...] = (
    Rule("prompt_embeds", lambda b: b.prompt_embeds is None, "prompt_embeds is not supported", NotImplementedHere),
    *GENERATION_RULES,
    Rule("prompt", lambda b: b.prompt is not None, "prompt is required"),
    Rule("prompt", lambda b: _inputs_not_empty(b.prompt), "prompt must not be empty or contain an empty prompt"),
    Rule("prompt", lambda b: _inputs_alike(b.prompt), "prompt must be all strings, all token ids or all token lists"),
    Rule(
        "prompt",
        lambda b: _inputs_count(b.prompt) * (b.n or 1) <= CHOICES_LIMIT,
        f"a request may have at most {CHOICES_LIMIT} choices (prompts times n)",
    ),
    Rule("suffix", lambda b: not b.suffix, "suffix is not supported: no model here fills in the middle"),
    Rule("best_of", lambda b: b.best_of is None or b.best_of == (b.n or 1), "best_of must be equal to n"),
    Rule("echo", lambda b: not b.echo or b.logprobs is None, "echo cannot be combined with logprobs"),
    Rule("echo", lambda b: not b.echo or _is_text(b.prompt), "echo needs prompts that are strings"),
)
EMBEDDING_RULES: tuple[Rule[EmbeddingBody], ...] = (
    *COMMON_RULES,
    Rule("input", lambda b: _inputs_not_empty(b.input), "input must not be empty or contain an empty input"),
    Rule("input", lambda b: _inputs_alike(b.input), "input must be all strings, all token ids or all token lists"),
    Rule("input", lambda b: _inputs_count(b.input) <= INPUTS_LIMIT, f"input takes at most {INPUTS_LIMIT} entries"),
)


def _is_text(prompt: Any) -> bool:
    return isinstance(prompt, str) or isinstance(prompt[0], str)


def check_chat(body: ChatBody) -> None:
    """Raise `InvalidRequest` or `NotImplementedHere` for the first broken bound or rule."""
    check_body(body, CHAT_BOUNDS, CHAT_RULES)


def check_completion(body: CompletionBody) -> None:
    """Raise `InvalidRequest` or `NotImplementedHere` for the first broken bound or rule."""
    check_body(body, COMPLETION_BOUNDS, COMPLETION_RULES)


def check_embedding(body: EmbeddingBody) -> None:
    """Raise `InvalidRequest` for the first broken bound or rule."""
    check_body(body, EMBEDDING_BOUNDS, EMBEDDING_RULES)


def check_body(body: Body, bounds: Iterable[Bounds], rules: Iterable[Rule[Body]]) -> None:
    """Raise the error of the first bound or rule that the body breaks."""
    for bound in bounds:
        value = getattr(body, bound.param)
        if value is not None and not bound.low <= value <= bound.high:
            raise InvalidRequest(bound.complaint(value), param=bound.param)
    for rule in rules:
        if not rule.holds(body):
            raise rule.error(rule.complaint, param=rule.param)
