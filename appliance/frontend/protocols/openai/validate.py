"""What a body of the right shape must also fulfil: bounds, checked while it is read, then rules.

A rule looks only at members that are given. The first broken one is raised.
"""

from typing import Any

from appliance.core.errors import InvalidRequest, NotImplementedHere
from appliance.frontend.protocols.openai.bounds import SMALLEST, Bounds
from appliance.frontend.protocols.openai.chat_schema import ChatBody, ToolChoice, ToolName
from appliance.frontend.protocols.openai.completion_schema import CompletionBody
from appliance.frontend.protocols.openai.embedding_schema import EmbeddingBody
from appliance.frontend.protocols.openai.extensions import GenerationFields
from appliance.frontend.protocols.openai.nvext import NO_NVEXT

TOKENS_LIMIT = 2**31 - 1
STOPS_LIMIT = 32
INPUTS_LIMIT = 2048
"""Prompts or embedding inputs in one request; OpenAI's limit for embeddings."""
CHOICES_LIMIT = 2048
"""Prompts times `n`: each choice is a stream of its own."""

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


def check_chat(body: ChatBody) -> None:
    """Raise `InvalidRequest` for the first broken rule."""
    _check_generation(body, body.stop)
    if not body.messages:
        raise InvalidRequest("messages must hold at least one message", param="messages")
    if body.tool_choice is not None:
        _check_tool_choice(body, body.tool_choice)
    if body.function_call is not None:
        _check_function_call(body, body.function_call)


def check_completion(body: CompletionBody) -> None:
    """Raise `InvalidRequest` or `NotImplementedHere` for the first broken rule."""
    if body.prompt_embeds is not None:
        raise NotImplementedHere("prompt_embeds is not supported", param="prompt_embeds")
    _check_generation(body, body.stop)
    if body.prompt is None:
        raise InvalidRequest("prompt is required", param="prompt")
    _check_inputs(body.prompt, "prompt")
    if _inputs_count(body.prompt) * (body.n or 1) > CHOICES_LIMIT:
        complaint = f"a request may have at most {CHOICES_LIMIT} choices (prompts times n)"
        raise InvalidRequest(complaint, param="prompt")
    if body.suffix:
        raise InvalidRequest("suffix is not supported: no model here fills in the middle", param="suffix")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise InvalidRequest("best_of must be equal to n", param="best_of")
    if body.echo:
        _check_echo(body)


def check_embedding(body: EmbeddingBody) -> None:
    """Raise `InvalidRequest` for the first broken rule."""
    check_names(body.model, body.user)
    _check_inputs(body.input, "input")
    if _inputs_count(body.input) > INPUTS_LIMIT:
        raise InvalidRequest(f"input takes at most {INPUTS_LIMIT} entries", param="input")


def check_names(model: str, user: str | None) -> None:
    """Raise `InvalidRequest` for an empty name of the model or the user."""
    if not model:
        raise InvalidRequest("model must not be empty", param="model")
    if user == "":
        raise InvalidRequest("user must not be an empty string", param="user")


def _check_generation(body: GenerationFields, stop: str | list[str] | list[str | int] | None) -> None:
    check_names(body.model, body.user)
    if body.top_k == 0:
        raise InvalidRequest("top_k must be -1 (all tokens) or at least 1", param="top_k")
    if body.n is not None and body.n > 1 and _is_greedy(body):
        raise InvalidRequest("n above 1 needs a temperature above 0", param="n")
    if stop is not None:
        _check_stop(stop)
    if body.logit_bias:
        _check_biases(body.logit_bias)
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options needs stream: true", param="stream_options")


def _is_greedy(body: GenerationFields) -> bool:
    return body.temperature == 0 or bool((body.nvext or NO_NVEXT).greed_sampling)


def _check_stop(stop: str | list[str] | list[str | int]) -> None:
    if isinstance(stop, str):
        stop = [stop]
    if len(stop) > STOPS_LIMIT:
        raise InvalidRequest(f"stop takes at most {STOPS_LIMIT} strings", param="stop")
    if "" in stop:
        raise InvalidRequest("stop must not contain an empty string", param="stop")


def _check_biases(biases: dict[int, float]) -> None:
    if not all(0 <= k < 2**32 and -100 <= v <= 100 for k, v in biases.items()):
        raise InvalidRequest("logit_bias maps token ids to values from -100 to 100", param="logit_bias")


def _check_tool_choice(body: ChatBody, choice: str | ToolChoice) -> None:
    if isinstance(choice, ToolChoice):
        named = choice.function
        known = named is not None and any(
            tool.function is not None and tool.function.name == named.name for tool in body.tools or ()
        )
    else:
        known = choice in ("none", "auto", "required")
    if not known:
        raise InvalidRequest(
            "tool_choice must be none, auto, required or name a function of tools", param="tool_choice"
        )
    if choice == "required" and not body.tools and not body.functions:
        raise InvalidRequest("tool_choice: required needs tools", param="tool_choice")


def _check_function_call(body: ChatBody, call: str | ToolName) -> None:
    """The older way to say what `tool_choice` says."""
    if isinstance(call, ToolName):
        known = any(function.name == call.name for function in body.functions or ())
    else:
        known = call in ("none", "auto")
    if not known:
        raise InvalidRequest("function_call must be none, auto or name a function of functions", param="function_call")


def _check_inputs(inputs: Any, param: str) -> None:
    if not inputs or (isinstance(inputs, list) and ("" in inputs or [] in inputs)):
        raise InvalidRequest(f"{param} must not be empty or contain an empty {param}", param=param)
    if isinstance(inputs, list) and len({type(item) for item in inputs}) > 1:
        raise InvalidRequest(f"{param} must be all strings, all token ids or all token lists", param=param)


def _inputs_count(inputs: Any) -> int:
    """How many inputs there are; a flat list of token ids is one."""
    return len(inputs) if isinstance(inputs, list) and not isinstance(inputs[0], int) else 1


def _check_echo(body: CompletionBody) -> None:
    if body.logprobs is not None:
        raise InvalidRequest("echo cannot be combined with logprobs", param="echo")
    if body.prompt is not None and not isinstance(body.prompt, str) and not isinstance(body.prompt[0], str):
        raise InvalidRequest("echo needs prompts that are strings", param="echo")
